"""The delivery logs of the configuration, opened: their pages, the details of an attempt, and what is asked for once more."""

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
from covenq.github.hook_config import ANSWER_MAX, app_config, hook_settings
from covenq.net.outgoing import SILENCE_S
from covenq.reconcile.identity import Headers
from covenq.reconcile.walk import CursorRefused

DETAIL_BYTES_MAX = 64 << 20
"""Bytes of a detail: a payload of 25 MiB, and what escapes add to it."""
_CURSOR_REFUSED = frozenset({400, 404, 422})
_GONE = frozenset({404, 410})
_NOT_AGAIN = frozenset({404, 410, 422})
"""Answers to a wish for a redelivery which say that of this attempt there will be none."""


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
        owner: GithubApp | GithubHook,
        api: GithubApi,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """`before` as in `Asking`."""
        self.name = owner.name
        self._before = before
        self._asked_before = api.usage.requests
        self.hook = owner.id if isinstance(owner, GithubHook) else None
        self.app_id = owner.id if isinstance(owner, GithubApp) else None
        """The App's number, where it is configured."""
        self._owner = owner
        self._path = owner.log_path
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

    def target(self) -> Target:
        """Where the hook delivers to."""
        self._before()
        if isinstance(self._owner, GithubApp):
            return Target(app_config(self._api, self._owner).url)
        found = hook_settings(self._api, self._owner)
        return Target(found.config.url, found.active)

    def answered(self, attempt: str) -> int | None:
        """The seq that a covenq answered to that attempt, by what GitHub kept of the answer; None where that shows none."""
        body = self.detail(attempt)
        try:
            response = None if body is None else msgspec.json.decode(body, type=_Answered).response
            text = None if response is None else response.payload
            return msgspec.json.decode(text, type=_DoorsAnswer).seq if isinstance(text, str) else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def ask_again(self, attempt: str) -> str | None:
        """Ask for a redelivery of an attempt, once; None where GitHub will make one, else why not."""
        self._before()
        answer = self._api.post(f"{self._path}/{int(attempt)}/attempts", body_max=ANSWER_MAX, allowed=_NOT_AGAIN)
        return None if answer.status == 202 else f"GitHub makes no redelivery of it ({answer.status})"

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


class _Response(Struct):
    payload: object = None


class _Answered(Struct):
    response: _Response | None = None


class _DoorsAnswer(Struct):
    """The answer of a covenq's door to what it took."""

    delivery: str
    seq: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a hook delivers to. Whether an App's is active isn't known: it counts as that."""

    url: str | None
    active: bool = True


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
    return DeliveryLog(one, api, asking.before)
