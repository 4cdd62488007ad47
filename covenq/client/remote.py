"""The implementation of `covenq.client.interface` over a running daemon's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from covenq.client.interface import LOG_BYTES, PAGE, Closing, Counted, Filter, Object, Stream
from covenq.errors import CovenqError, NotFound
from covenq.model import TOKEN, parse_id

if TYPE_CHECKING:
    from covenq.net.http_client import Client, EventStream
    from covenq.operate.operations import A, Operation, P


class RemoteSource(Closing):
    """A daemon, through its API."""

    live = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._streams: list[EventStream] = []

    @property
    def where(self) -> str:
        return self._client.where

    def status(self) -> Object:
        return self._client.get("/api/v1/status")

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        return self._items("/api/v1/deliveries", filter, limit, after)

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        return self._items("/api/v1/tasks", filter, limit, after)

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        return self._items("/api/v1/attempts", filter, limit, after)

    def log(self, task: str, attempt: int, stream: Stream, last: int = LOG_BYTES) -> bytes:
        return self._client.get_bytes(
            f"/api/v1/tasks/{_task_path(task)}/attempts/{int(attempt)}/{stream}?last={int(last)}"
        )

    def count(self, what: Counted, filter: Filter = "") -> int:
        return int(self._client.get("/api/v1/count", {"what": what, "filter": _text(filter)})["count"])

    def delivery(self, id: str) -> Object:
        return _without_ok(self._client.get(f"/api/v1/deliveries/{_path(id)}"))

    def payload(self, id: str) -> bytes:
        return self._client.get_bytes(f"/api/v1/deliveries/{_path(id)}/payload")

    def task(self, id: str) -> Object:
        return _without_ok(self._client.get(f"/api/v1/tasks/{_task_path(id)}"))

    def attempts(self, task: str) -> list[Object]:
        items: list[Object] = self._items(f"/api/v1/tasks/{_task_path(task)}/attempts", "", 0, None)["items"]
        return items

    def why(self, id: str) -> Object:
        return _without_ok(self._client.get("/api/v1/why", {"id": id}))

    def tail(
        self,
        filter: Filter = "",
        *,
        after: int | None = None,
        since_s: float | None = None,
        newest: int | None = None,
        wait_s: float = 0.0,
    ) -> Object:
        params = {"filter": _text(filter)}
        for name, value in (("after", after), ("newest", newest)):
            if value is not None:
                params[name] = str(value)
        for name, seconds in (("since_ms", since_s), ("wait_ms", wait_s)):
            if seconds:
                params[name] = str(round(seconds * 1000))
        return _without_ok(self._client.get("/api/v1/tail", params))

    def stats(self, filter: Filter = "", *, since_s: float = 86400.0) -> Object:
        params = {"filter": _text(filter), "since_ms": str(round(since_s * 1000))}
        return _without_ok(self._client.get("/api/v1/stats", params))

    def throughput(self, minutes: int = 60) -> Object:
        return _without_ok(self._client.get("/api/v1/pace", {"minutes": str(int(minutes))}))

    def act(self, operation: Operation[P, A], parameters: P) -> A:
        from msgspec import ValidationError, convert, to_builtins  # what only reads needs none of it

        answer = self._client.post(f"/api/v1/{operation.name}", to_builtins(parameters), operation.timeout_s)
        try:
            return convert(answer, operation.answer)  # `ok`, and what a newer daemon adds, is left out
        except ValidationError as error:
            raise CovenqError(f"the daemon's answer is not covenq's: {error}") from None

    def secrets(self) -> Object:
        return _without_ok(self._client.get("/api/v1/secrets"))

    def refused(self, *, limit: int = 50) -> list[Object]:
        items: list[Object] = self._client.get("/api/v1/refused", {"limit": str(limit)})["items"]
        return items

    def pauses(self) -> list[Object]:
        items: list[Object] = self._client.get("/api/v1/pauses")["items"]
        return items

    def events(self, after: int | None = None) -> Iterator[Object]:
        stream = self._client.stream("/api/v1/events", {} if after is None else {"after": str(after)})
        self._streams.append(stream)
        try:
            yield from stream
        finally:
            stream.close()
            self._streams.remove(stream)

    def close(self) -> None:
        for stream in list(self._streams):
            stream.close()

    def _items(self, path: str, filter: Filter, limit: int, after: str | None) -> Object:
        """As many pages as `limit` asks for."""
        items: list[Object] = []
        while True:
            left = limit - len(items) if limit else PAGE
            params = {"filter": _text(filter), "limit": str(min(left, PAGE))}
            if after is not None:
                params["after"] = after
            page = self._client.get(path, params)
            items += page["items"]
            after = page["next"]
            if after is None or (limit and len(items) >= limit):
                return {"items": items, "next": after}


def _text(filter: Filter) -> str:
    return filter if isinstance(filter, str) else " ".join(filter)


def _without_ok(answer: Object) -> Object:
    """The object without the API's `ok`."""
    answer.pop("ok", None)
    return answer


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
