"""Where the command line and the terminal interface get everything from: a running daemon, or the files without one.

`open_source` chooses. Both answer with the same JSON objects, those of the HTTP API, so a face never knows, and need not
ask, which of the two it talks to (but `live` says so).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from covenq import config as configuration
from covenq.config import Config
from covenq.errors import NotFound
from covenq.model import TOKEN, parse_id

if TYPE_CHECKING:
    from covenq.client import Client, EventStream
    from covenq.source_local import LocalSource

Object = dict[str, Any]
"""A delivery, a task or an attempt as the API has it. Times are RFC 3339 UTC, sizes numbers, absent is None."""

Filter = str | Sequence[str]
"""Words of the filter grammar, in one string or one by one. Empty: everything."""

PAGE = 1000
"""The most items one request brings; more are fetched page by page."""

SOCKET_NAME = "covenq.sock"
STATE_NAME = "state.db"
JOURNAL_NAME = "journal"
"""What a data directory holds."""

UPKEEP_S = 24 * 3600.0
"""Seconds a daemon may take to rewrite segments."""
ANSWER_S = 5.0
"""Seconds a daemon has to say that it is there. Only who has opened the socket and stays silent takes them."""


class Source(Protocol):
    """Reads and writes of the faces. Every method may be called from any thread, and blocks.

    Raises classes of `covenq.errors` and `journal.errors` only; each has a message, a hint and an exit code. Every method
    may raise DaemonUnreachable (the daemon went away: open the source again) and JournalDamaged (offline).
    """

    @property
    def live(self) -> bool:
        """True: a daemon answers, and writes reach it. False: this process reads the files itself."""

    @property
    def where(self) -> str:
        """What it talks to, for a status line: the socket's path, a URL, or the data directory."""

    def status(self) -> Object:
        """The object of `GET /api/v1/status`: ready, reasons[], version, pid, started_at, data, webhook_url,
        journal{id, epoch, head{seq, sum}, segments, bytes, poisoned, full, last_sync_ms}, state{seq, lag, error},
        deliveries{state: n}, tasks{state: n}, worker{id, concurrency, error, running[]}, routes[], refused{reason: n}.

        Offline: ready is False, reasons is ["no daemon is running"], pid, started_at, worker and webhook_url are None,
        refused is {}.
        """

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        """{"items": [delivery…], "next": cursor or None}, newest first.

        `limit` 0 is all (see `each` for reading them one by one in bounded memory); `after` is the `next` of the page
        before. Raises FilterError.
        """

    def delivery(self, id: str) -> Object:
        """One delivery with all its fields, by `GUID` or `hook/GUID`. Raises NotFound, Ambiguous, UsageError."""

    def payload(self, id: str) -> bytes:
        """The body exactly as it was received. Raises NotFound, also when the payload was dropped; Ambiguous."""

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        """{"items": [task…], "next": cursor or None}, newest first; as `deliveries`."""

    def task(self, id: str) -> Object:
        """One task by its id. Raises NotFound."""

    def attempts(self, task: str) -> list[Object]:
        """The attempts of a task, in order. Raises NotFound."""

    def replay(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """Make new tasks of deliveries by today's routes. Give `ids` (GUID or hook/GUID), or a `filter` ("" is every delivery).

        → {"eligible": [id…], "skipped": [{"id", "reason"}…], "done": [{"id", "tasks": [id…]}…]}; `done` is empty with
        `dry_run`. `force`: also what has completed. Raises NotFound, Ambiguous, FilterError, Refused, NotDurable.
        """

    def requeue(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """Run failed, cancelled or superseded tasks again under their frozen policy; `ids` are task ids.

        Answers and raises as `replay`.
        """

    def redact(
        self,
        *,
        ids: Sequence[str] = (),
        repo: str | None = None,
        installation: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """Erase the content of deliveries, of a repository (OWNER/NAME) or of an installation: one of the three.

        Answers as `replay` does, and "segments" rewritten, "freed" bytes, "attempts" of how many tasks were removed, "left":
        paths that could not be removed, "copies": directories that may hold the same and only the operator can reach.
        """

    def compact(self, *, dry_run: bool = False, by: str | None = None) -> Object:
        """Drop what the configured retention no longer keeps.

        → {"policy": {"payloads_s", "attempts_s"}, "deliveries", "payload_bytes", "segments", "freed", "attempts", "left",
        "dry_run"}. Raises Refused while a daemon is at it.
        """

    def events(self, after: int | None = None) -> Iterator[Object]:
        """Follow the journal: {"seq", "at", "subject", "kind"} for each record with seq > `after` (None: from now on).

        Endless while the daemon runs; close the iterator (or the source, from another thread) to end it. When the daemon
        goes away it raises DaemonUnreachable. Offline it gives what there is, and ends.
        """

    def close(self) -> None:
        """Let go of connections and files. Also at the end of a `with`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def each(
    fetch: Callable[..., Mapping[str, Any]], filter: Filter = "", *, limit: int = 0, page: int = PAGE
) -> Iterator[Object]:
    """Items of `source.deliveries` or `source.tasks` one by one, a page in memory at a time. `limit` 0 is all."""
    after: str | None = None
    left = limit
    while True:
        size = min(page, left) if limit else page
        answer = fetch(filter, limit=size, after=after)
        yield from answer["items"]
        left -= len(answer["items"])
        after = answer["next"]
        if after is None or (limit and left <= 0):
            return


def open_source(data: Path, config: Config | None = None, url: str | None = None) -> RemoteSource | LocalSource:
    """The daemon of that data directory if one answers on its socket (or, if given, at `url`), else the files.

    `config` is what replays route by when there is no daemon; None reads the usual one. Raises DaemonUnreachable only
    with a `url`, ConfigError.
    """
    # Imported where needed, here and below: a command that reads the files needs no HTTP, and one that reads no writes.
    if url is not None or (data / SOCKET_NAME).exists():
        from covenq.client import Client

        if url is not None:
            source = RemoteSource(Client(url))
            source.status()
            return source
        client = Client(data / SOCKET_NAME)
        if client.answers(ANSWER_S):
            return RemoteSource(client)
    if config is None:
        config = configuration.load(configuration.config_path(None, os.environ, str(data)), os.environ)
    from covenq.source_local import LocalSource  # what it needs, a running daemon spares

    return LocalSource(data, config)


class Closing:
    """The `with` of both."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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

    def delivery(self, id: str) -> Object:
        return _plain(self._client.get(f"/api/v1/deliveries/{_path(id)}"))

    def payload(self, id: str) -> bytes:
        return self._client.get_bytes(f"/api/v1/deliveries/{_path(id)}/payload")

    def task(self, id: str) -> Object:
        return _plain(self._client.get(f"/api/v1/tasks/{_task_path(id)}"))

    def attempts(self, task: str) -> list[Object]:
        items: list[Object] = self._client.get(f"/api/v1/tasks/{_task_path(task)}/attempts")["items"]
        return items

    def replay(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        return self._operate("/api/v1/replay", ids, filter, force=force, reason=reason, dry_run=dry_run, by=by)

    def requeue(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        return self._operate("/api/v1/requeue", ids, filter, reason=reason, dry_run=dry_run, by=by)

    def redact(
        self,
        *,
        ids: Sequence[str] = (),
        repo: str | None = None,
        installation: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        body = {"ids": list(ids), "repo": repo, "installation": installation}
        return self._upkeep("/api/v1/redact", {**body, "reason": reason, "dry_run": dry_run, "by": by})

    def compact(self, *, dry_run: bool = False, by: str | None = None) -> Object:
        return self._upkeep("/api/v1/compact", {"dry_run": dry_run, "by": by})

    def _upkeep(self, path: str, body: Object) -> Object:
        return _plain(self._client.post(path, body, timeout=UPKEEP_S))

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

    def _operate(self, path: str, ids: Sequence[str], filter: Filter | None, **options: Any) -> Object:
        body: Object = {name: value for name, value in options.items() if value is not None}
        if ids:
            body["ids"] = list(ids)
        if filter is not None:
            body["filter"] = _text(filter)
        return _plain(self._client.post(path, body))


def _text(filter: Filter) -> str:
    return filter if isinstance(filter, str) else " ".join(filter)


def _plain(answer: Object) -> Object:
    """The object without the API's `ok`."""
    answer.pop("ok", None)
    return answer


def _path(id: str) -> str:
    """An id as segments of a path. Raises UsageError."""
    from covenq.client import segment

    hook, guid = parse_id(id)
    return segment(guid) if hook is None else f"{segment(hook)}/{segment(guid)}"


def _task_path(id: str) -> str:
    """Raises NotFound for what can't be a task's id: it would be another path."""
    from covenq.client import segment

    if not TOKEN.match(id):
        raise NotFound(f"no task {id[:80]}")
    return segment(id)
