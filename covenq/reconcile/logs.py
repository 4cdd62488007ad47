"""The delivery logs of the configuration, opened: their pages, and the details of an attempt."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from covenq.config.github_api import GithubApp, GithubHook, GithubLogs
from covenq.errors import GithubAnswerUnreadable
from covenq.github.api_client import PACING, GithubApi, Pacing, Usage
from covenq.github.connection import api_of
from covenq.github.delivery_log import PAGE_BYTES_MAX, PER_PAGE, LogPage, parse_page
from covenq.net.outgoing import SILENCE_S
from covenq.reconcile.identity import Headers
from covenq.reconcile.walk import CursorRefused

DETAIL_BYTES_MAX = 64 << 20
"""Bytes of a detail: a payload of 25 MiB, and what escapes add to it."""
_CURSOR_REFUSED = frozenset({400, 404, 422})
_GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Asking:
    """How logs are asked: `before` is called before each request, and may raise to end it all; so may `pacing.sleep`.

    An answer is given up after `silence_s` without a byte. `usages` keeps what was asked of each log, so that half of what GitHub
    leaves is half of it over all passes.
    """

    clock: Callable[[], float] = time.time
    pacing: Pacing = PACING
    before: Callable[[], None] = lambda: None
    usages: dict[str, Usage] = field(default_factory=dict)
    silence_s: float = SILENCE_S


class DeliveryLog:
    """One delivery log of GitHub's. Methods raise OutgoingFailed, GithubRefused, GithubLimited and GithubAnswerUnreadable."""

    def __init__(
        self,
        name: str,
        path: str,
        api: GithubApi,
        hook: str | None,
        app_id: int | None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """`hook` is the hook's id and `app_id` the App's number, where they are configured. `before` as in `Asking`."""
        self.name = name
        self._before = before
        self._asked_before = api.usage.requests
        self.hook = hook
        self.app_id = app_id
        self._path = path
        self._api = api

    @property
    def requests(self) -> int:
        """What was asked in this pass so far."""
        return self._api.usage.requests - self._asked_before

    def begin(self) -> None:
        """Count `requests` from now on: another pass begins, over the same connections."""
        self._asked_before = self._api.usage.requests

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def page(self, cursor: str | None) -> LogPage:
        """A page of the list, None for the newest. Raises CursorRefused too."""
        self._before()
        query = {"per_page": str(PER_PAGE)}
        if cursor is None:
            answer = self._api.get(self._path, query, body_max=PAGE_BYTES_MAX)
        else:
            query["cursor"] = cursor
            answer = self._api.get(self._path, query, body_max=PAGE_BYTES_MAX, allowed=_CURSOR_REFUSED)
            if answer.status != 200:
                raise CursorRefused
        return parse_page(answer.body, answer.headers.get("link"))

    def detail(self, attempt: str) -> bytes | None:
        """GitHub's JSON of an attempt, by its id as the list had it; None where GitHub has it no more."""
        self._before()
        answer = self._api.get(f"{self._path}/{int(attempt)}", body_max=DETAIL_BYTES_MAX, allowed=_GONE)
        return answer.body if answer.status == 200 else None

    def headers(self, attempt: str) -> Headers | None:
        """The headers of an attempt's request, if GitHub kept them."""
        body = self.detail(attempt)
        if body is None:
            return None
        try:
            request = msgspec.json.decode(body, type=_Detail).request
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise GithubAnswerUnreadable("GitHub's answer is no delivery") from None
        given = request.headers if request is not None else None
        return None if given is None else [(name, value) for name, value in given.items() if isinstance(value, str)]


class _Request(Struct):
    headers: dict[str, object] | None = None


class _Detail(Struct):
    request: _Request | None = None


def open_logs(logs: GithubLogs, env: Mapping[str, str], asking: Asking) -> list[DeliveryLog]:
    """The App's log, if there is one, and those of hooks. Nothing is asked yet.

    Raises ConfigError, ExtraMissing, UsageError, where one has no key or token that can be read.
    """
    return [open_log(one, env, asking) for one in logs.all]


def open_log(one: GithubApp | GithubHook, env: Mapping[str, str], asking: Asking) -> DeliveryLog:
    """One of them. Raises as `open_logs`."""
    usage = asking.usages.setdefault(one.name, Usage())
    api = api_of(one, env, asking.clock, pacing=asking.pacing, usage=usage, silence_s=asking.silence_s)
    if isinstance(one, GithubApp):
        return DeliveryLog(one.name, one.log_path, api, None, one.id, asking.before)
    return DeliveryLog(one.name, one.log_path, api, one.id, None, asking.before)
