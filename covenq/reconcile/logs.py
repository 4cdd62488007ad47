"""The delivery logs of the configuration, opened: their pages, and the details of an attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from covenq.config.github_api import GithubApp, GithubHook, GithubLogs
from covenq.errors import GithubAnswerUnreadable
from covenq.github.api_client import GithubApi
from covenq.github.connection import api_of
from covenq.github.delivery_log import PAGE_BYTES_MAX, PER_PAGE, LogPage, parse_page
from covenq.reconcile.identity import Headers
from covenq.reconcile.walk import CursorRefused

DETAIL_BYTES_MAX = 64 << 20
"""Bytes of a detail: a payload of 25 MiB, and what escapes add to it."""
_CURSOR_REFUSED = frozenset({400, 404, 422})
_GONE = frozenset({404, 410})


class DeliveryLog:
    """One delivery log of GitHub's. Methods raise OutgoingFailed, GithubRefused, GithubLimited and GithubAnswerUnreadable."""

    def __init__(self, name: str, path: str, api: GithubApi, hook: str | None, app_id: int | None) -> None:
        """`hook` is the hook's id and `app_id` the App's number, where they are configured."""
        self.name = name
        self.hook = hook
        self.app_id = app_id
        self._path = path
        self._api = api

    @property
    def requests(self) -> int:
        """What was asked so far."""
        return self._api.usage.requests

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def page(self, cursor: str | None) -> LogPage:
        """A page of the list, None for the newest. Raises CursorRefused too."""
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


def open_logs(logs: GithubLogs, env: Mapping[str, str], clock: Callable[[], float]) -> list[DeliveryLog]:
    """The App's log, if there is one, and those of hooks. Nothing is asked yet. Raises ConfigError, ExtraMissing, UsageError."""
    app = [] if logs.app is None else [_of_app(logs.app, env, clock)]
    return [*app, *(_of_hook(one, env, clock) for one in logs.hooks)]


def _of_app(app: GithubApp, env: Mapping[str, str], clock: Callable[[], float]) -> DeliveryLog:
    return DeliveryLog(app.name, app.log_path, api_of(app, env, clock), None, app.id)


def _of_hook(hook: GithubHook, env: Mapping[str, str], clock: Callable[[], float]) -> DeliveryLog:
    return DeliveryLog(hook.name, hook.log_path, api_of(hook, env, clock), hook.id, None)
