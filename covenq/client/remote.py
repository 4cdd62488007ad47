"""The implementation of `covenq.client.interface` over a running daemon's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from covenq.client.interface import LOG_BYTES, PAGE, Closing, Counted, Filter, Stream
from covenq.errors import CovenqError, NotFound, UsageError
from covenq.model import TOKEN, parse_id
from covenq.model.rows import Attempt, Delivery, LatestAttempt, OneDelivery, Page, Task

if TYPE_CHECKING:  # a command imports what it shows, and no more
    from covenq.intake.refusal_log import Refusal
    from covenq.model.answers import Event, Secret, Stats, Tail, Throughput
    from covenq.model.audit import Audit
    from covenq.model.notices import Notices
    from covenq.model.status import ActivePause, LedgerHour, Status
    from covenq.model.usage import Usage, UsageRow
    from covenq.net.http_client import Client, EventStream
    from covenq.operate.inspect.history import Why
    from covenq.operate.operations import A, Operation, P

T = TypeVar("T")

_LOG_MAX = 1 << 20
"""Bytes of an output that a daemon gives in one answer."""


class RemoteSource(Closing):
    """A daemon, through its API."""

    live = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._streams: list[EventStream] = []

    @property
    def where(self) -> str:
        return self._client.where

    def status(self) -> Status:
        from covenq.model.status import Status

        return _typed(self._client.get("/api/v1/status"), Status)

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Delivery]:
        return self._items("/api/v1/deliveries", Page[Delivery], filter, limit, after)

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Task]:
        return self._items("/api/v1/tasks", Page[Task], filter, limit, after)

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[LatestAttempt]:
        return self._items("/api/v1/attempts", Page[LatestAttempt], filter, limit, after)

    def log(self, task: str, attempt: int, stream: Stream, last: int = LOG_BYTES, offset: int | None = None) -> bytes:
        path = f"/api/v1/tasks/{_task_path(task)}/attempts/{int(attempt)}/{stream}?last="
        if offset is None:
            return self._client.get_bytes(f"{path}{int(last)}")
        try:
            return self._client.get_bytes(f"{path}{int(last)}&offset={int(offset)}")
        except UsageError:  # a daemon of an older version has the last of it alone, which may be all there is
            whole = self._client.get_bytes(f"{path}{_LOG_MAX}")
        if len(whole) >= _LOG_MAX:
            raise CovenqError(
                f"the daemon is of an older version, and gives the last {_LOG_MAX} bytes of an output alone",
                hint="Restart it with this version, or read the attempt's files on its machine.",
            )
        return whole[offset : offset + last]

    def count(self, what: Counted, filter: Filter = "", *, limit: int = 0) -> int:
        answer = self._client.get("/api/v1/count", {"what": what, "filter": _text(filter), "limit": str(limit)})
        return _typed(answer.get("count"), int)

    def delivery(self, id: str) -> OneDelivery:
        return _typed(self._client.get(f"/api/v1/deliveries/{_path(id)}"), OneDelivery)

    def payload(self, id: str) -> bytes:
        return self._client.get_bytes(f"/api/v1/deliveries/{_path(id)}/payload")

    def task(self, id: str) -> Task:
        return _typed(self._client.get(f"/api/v1/tasks/{_task_path(id)}"), Task)

    def attempts(self, task: str) -> list[Attempt]:
        return self._items(f"/api/v1/tasks/{_task_path(task)}/attempts", Page[Attempt], "", 0, None).items

    def why(self, id: str) -> Why:
        from covenq.operate.inspect.history import Why

        return _typed(self._client.get("/api/v1/why", {"id": id}), Why)

    def tail(
        self,
        filter: Filter = "",
        *,
        after: int | None = None,
        since_s: float | None = None,
        newest: int | None = None,
        wait_s: float = 0.0,
    ) -> Tail:
        from covenq.model.answers import Tail

        params = {"filter": _text(filter)}
        for name, value in (("after", after), ("newest", newest)):
            if value is not None:
                params[name] = str(value)
        for name, seconds in (("since_ms", since_s), ("wait_ms", wait_s)):
            if seconds:
                params[name] = str(round(seconds * 1000))
        return _typed(self._client.get("/api/v1/tail", params), Tail)

    def stats(self, filter: Filter = "", *, since_s: float = 86400.0) -> Stats:
        from covenq.model.answers import Stats

        params = {"filter": _text(filter), "since_ms": str(round(since_s * 1000))}
        return _typed(self._client.get("/api/v1/stats", params), Stats)

    def audit(
        self,
        filter: Filter = "",
        *,
        who: str | None = None,
        what: str | None = None,
        after: str | None = None,
        newest: int | None = None,
        limit: int = 0,
    ) -> Audit:
        from covenq.model.audit import Audit

        given = {"filter": _text(filter), "who": who, "what": what, "after": after, "limit": str(min(limit, PAGE))}
        params = {name: value for name, value in given.items() if value is not None}
        if newest is not None:
            params["newest"] = str(newest)
        return _typed(self._client.get("/api/v1/audit", params), Audit)

    def usage(
        self,
        filter: Filter = "",
        *,
        month: str | None = None,
        by: str | None = None,
        limit: int = 0,
        after: str | None = None,
    ) -> Usage:
        """As many pages as `limit` asks for, in one: the total is that of the last."""
        from covenq.model.usage import Usage

        items: list[UsageRow] = []
        while True:
            size = min(limit - len(items), PAGE) if limit else PAGE
            given = {"month": month, "by": by, "after": after, "limit": str(size), "filter": _text(filter)}
            params = {name: value for name, value in given.items() if value is not None}
            found = _typed(self._client.get("/api/v1/usage", params), Usage)
            items += found.items
            after, month = found.next, found.month or month
            if after is None or (limit and len(items) >= limit):
                found.items = items
                return found

    def ledger(self, *, since_s: float) -> Page[LedgerHour]:
        from covenq.model.status import LedgerHour

        return _typed(self._client.get("/api/v1/ledger", {"since_ms": str(round(since_s * 1000))}), Page[LedgerHour])

    def throughput(self, minutes: int = 60) -> Throughput:
        from covenq.model.answers import Throughput

        return _typed(self._client.get("/api/v1/pace", {"minutes": str(int(minutes))}), Throughput)

    def act(self, operation: Operation[P, A], parameters: P) -> A:
        body = msgspec.to_builtins(parameters)
        return _typed(self._client.post(f"/api/v1/{operation.name}", body, operation.timeout_s), operation.answer)

    def secrets(self) -> Page[Secret]:
        from covenq.model.answers import Secret

        return _typed(self._client.get("/api/v1/secrets"), Page[Secret])

    def refused(self, *, limit: int = 50) -> list[Refusal]:
        from covenq.intake.refusal_log import Refusal

        return _typed(self._client.get("/api/v1/refused", {"limit": str(limit)}), Page[Refusal]).items

    def pauses(self) -> list[ActivePause]:
        from covenq.model.status import ActivePause

        return _typed(self._client.get("/api/v1/pauses"), Page[ActivePause]).items

    def notices(self) -> Notices:
        from covenq.model.notices import Notices

        return _typed(self._client.get("/api/v1/notices"), Notices)

    def events(self, after: int | None = None) -> Iterator[Event]:
        from covenq.model.answers import Event

        stream = self._client.stream("/api/v1/events", {} if after is None else {"after": str(after)})
        self._streams.append(stream)
        try:
            for one in stream:
                yield _typed(one, Event)
        finally:
            stream.close()
            self._streams.remove(stream)

    def close(self) -> None:
        for stream in list(self._streams):
            stream.close()

    def _items(self, path: str, kind: type[Page[T]], filter: Filter, limit: int, after: str | None) -> Page[T]:
        """As many pages as `limit` asks for, in one."""
        items: list[T] = []
        while True:
            left = limit - len(items) if limit else PAGE
            params = {"filter": _text(filter), "limit": str(min(left, PAGE))}
            if after is not None:
                params["after"] = after
            page = _typed(self._client.get(path, params), kind)
            items += page.items
            after = page.next
            if after is None or (limit and len(items) >= limit):
                return Page(items, after)


def _typed(answer: object, kind: type[T]) -> T:
    """The answer as what it has to be; `ok`, and what a newer daemon adds, is left out. Raises CovenqError for anything else."""
    try:
        return msgspec.convert(answer, kind)
    except (ValueError, OverflowError, RecursionError) as error:  # lone surrogates are a UnicodeEncodeError
        raise CovenqError(
            f"the daemon's answer is not what this version takes: {error}",
            hint="Is the daemon of another version than this command?",
        ) from error


def _text(filter: Filter) -> str:
    return filter if isinstance(filter, str) else " ".join(filter)


def _path(id: str) -> str:
    """A delivery's id as segments of a URL path. Raises UsageError."""
    from covenq.net.http_client import segment

    hook, guid = parse_id(id)
    return segment(guid) if hook is None else f"{segment(hook)}/{segment(guid)}"


def _task_path(id: str) -> str:
    """A task's id as a segment of a URL path. Raises NotFound for what can't be one: it would be another path."""
    from covenq.net.http_client import segment

    if not TOKEN.match(id):
        raise NotFound(f"no task {id[:80]}")
    return segment(id)
