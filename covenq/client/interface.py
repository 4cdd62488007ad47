"""The protocol through which the command line and the dashboard read and act: on a running daemon, or on the files.

`covenq.client.open` chooses between `remote` and `local`. Both answer with the same JSON objects, those of the HTTP API, so
a caller needn't know which of the two it has (`live` tells).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

Object = dict[str, Any]
"""A delivery, a task or an attempt as the API has it. Times are RFC 3339 UTC, sizes numbers, absent is None."""

Stream = Literal["stdout", "stderr"]
"""An output of a command."""

LOG_BYTES = 256 * 1024
"""Bytes of an attempt's output, from its end, by default."""

Counted = Literal["deliveries", "tasks"]
"""What can be counted by a filter."""

Filter = str | Sequence[str]
"""Terms of the filter grammar, in one string or one by one. Empty: everything."""

PAGE = 1000
"""The most items one request brings; more are fetched page by page."""


class Source(Protocol):
    """Reads and writes. Every method may be called from any thread, and blocks.

    Raises classes of `covenq.errors` and `journal.errors` only; each has a message, a hint and an exit code. Every method
    may raise DaemonUnreachable (the daemon went away: open the source again) and JournalDamaged (offline).
    """

    @property
    def live(self) -> bool:
        """True: a daemon answers, and writes reach it. False: this process reads the files itself."""

    @property
    def where(self) -> str:
        """The other end, for a status line: the socket's path, a URL, or the data directory."""

    def status(self) -> Object:
        """The object of `GET /api/v1/status`.

        It has: ready, reasons[], version, pid, started_at, data, webhook_url, api_url, journal{id, epoch, head{seq, sum},
        segments, bytes, poisoned, full, last_sync_ms}, state{seq, lag, error}, deliveries{state: n}, tasks{state: n},
        worker{id, concurrency, error, running[]}, routes[], refused{reason: n}, segments[] the newest, verified what the last
        verification found or None, running[] and stuck[] as `covenq.operate.inspect.throughput` has them, secrets[{secret,
        problem}] that can't be read, pauses[] as `pauses` has them, reload{at, ok, error, hint, number, warnings[]} of the
        configuration.

        Offline: ready is False, reasons begins with NOT_RUNNING, or with the process that holds the files and doesn't answer;
        pid, started_at, worker, reload and the URLs are None, refused is {}.
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

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Object:
        """The attempts of the tasks that match, newest claim first; as `tasks`.

        Each has its task's route, event, action, repo, number, hook and guid beside its own fields.
        """

    def log(self, task: str, attempt: int, stream: Stream, last: int = LOG_BYTES) -> bytes:
        """The last bytes of an attempt's output, as it is now. Raises NotFound."""

    def count(self, what: Counted, filter: Filter = "") -> int:
        """How many deliveries or tasks match. Raises FilterError, and UsageError for a filter on the payload."""

    def task(self, id: str) -> Object:
        """One task by its id. Raises NotFound."""

    def attempts(self, task: str) -> list[Object]:
        """The attempts of a task, in order. Raises NotFound."""

    def why(self, id: str) -> Object:
        """A delivery's history, as `covenq.operate.inspect.why.why` has it.

        It is {"asked", "kind": "delivery", "target" or "nothing", "task", "target", "stories", "more", "refused"}. `id`: GUID,
        hook/GUID, a task's id, owner/name#number, or an address of an issue or pull request. Raises UsageError for what can be
        none of them, Ambiguous for a GUID that several hooks share.
        """

    def tail(
        self,
        filter: Filter = "",
        *,
        after: int | None = None,
        since_s: float | None = None,
        newest: int | None = None,
        wait_s: float = 0.0,
    ) -> Object:
        """Records: {"items": [as of `covenq.operate.inspect.tail.scan`], "next", "head", "epoch"}, oldest first.

        Those after the seq `after`, or from `since_s` seconds ago on, or the `newest` that match; a thousand records at most
        are scanned, and `next` is the `after` to go on with, which is `head` at the end. A daemon delays the answer
        for `wait_s` seconds at most while there is nothing (long polling). Raises FilterError.
        """

    def stats(self, filter: Filter = "", *, since_s: float = 86400.0) -> Object:
        """Counts of the matching deliveries of the last `since_s` seconds.

        As `covenq.operate.inspect.stats.stats` has them. Raises FilterError, and UsageError for a filter on the payload.
        """

    def throughput(self, minutes: int = 60) -> Object:
        """How many were accepted, refused and ended in each of the last minutes.

        As `covenq.operate.inspect.throughput.per_minute` has it. Raises UsageError.
        """

    def replay(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        route: str | None = None,
        to: str | None = None,
        force: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """Make new tasks of deliveries by today's routes. Give `ids` (GUID or hook/GUID), or a `filter` ("" is every delivery).

        → {"eligible": [id…], "skipped": [{"id", "reason"}…], "done": [{"id", "tasks": [id…]}…]}; `done` is empty with
        `dry_run`. `route`: by that one alone; `to`: forwarded to that address. `force`: also those that completed. Raises
        NotFound, Ambiguous, UsageError, FilterError, Refused, NotDurable.
        """

    def reroute(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """Route deliveries that have no task, being `received` or ignored under older rules. Answers and raises as `replay`."""

    def import_deliveries(
        self,
        items: Sequence[Object],
        *,
        routed: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """Import deliveries: `items` as `covenq.operate.act.archive.ImportedDelivery.object` makes them.

        They are ignored until they are rerouted, or, with `routed`, routed at once. Answers as `replay`; raises UsageError,
        NotDurable.
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

    def cancel(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """End tasks that wait or run; `ids` are task ids. Answers and raises as `replay`."""

    def redact(
        self,
        *,
        ids: Sequence[str] = (),
        filter: Filter | None = None,
        repo: str | None = None,
        installation: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Object:
        """Erase the content of deliveries: by `ids`, a `filter`, a repository (OWNER/NAME) or an installation, one of the four.

        Answers as `replay` does, and "segments" rewritten, "freed" bytes, "attempts" of how many tasks were removed, "left":
        paths that could not be removed, "copies": directories that may hold copies and that only the operator can
        reach, "copies_unread": what of the list of those can't be read.
        """

    def compact(self, *, dry_run: bool = False, by: str | None = None) -> Object:
        """Drop what the configured retention no longer keeps.

        → {"policy": {"payloads_s", "attempts_s"}, "deliveries", "payload_bytes", "segments", "freed", "attempts", "left",
        "dry_run"}. Raises Refused during another compaction or redaction.
        """

    def secrets(self) -> Object:
        """The webhook secrets, never their values: {"items": [secret…], "next": None}.

        Each is as `covenq.operate.inspect.secret_usage.view` has it.
        """

    def refused(self, *, limit: int = 50) -> list[Object]:
        """The newest requests that were refused, newest first.

        Each is {"at", "error", "status", "detail", "hint"} and, where known, "path", "client", "delivery", "hook", "event",
        "content_type", "github", "proxied", "body". `limit` 0 is all that are logged.
        """

    def pauses(self) -> list[Object]:
        """What is paused, oldest first: {"what", "name", "repo", "since", "seq", "by", "reason"}."""

    def pause(self, what: str, name: str | None = None, *, reason: str | None = None, by: str | None = None) -> Object:
        """Pause the "intake", the "worker", a "route" (by name), a "repo" (OWNER/NAME) or an "installation" (its number).

        → the pause, as in `pauses`, and "paused": True, "changed": whether it wasn't already. Raises UsageError, NotFound for
        a route that isn't there, NotDurable.
        """

    def resume(self, what: str, name: str | None = None, *, reason: str | None = None, by: str | None = None) -> Object:
        """End a pause. → the pause that was (its "seq" is None if there was none), "paused": False, "changed".

        Raises UsageError, NotDurable.
        """

    def events(self, after: int | None = None) -> Iterator[Object]:
        """Follow the journal: {"seq", "at", "subject", "kind"} for each record with seq > `after` (None: from now on).

        Endless while the daemon runs; close the iterator (or the source, from another thread) to end it. When the daemon
        goes away it raises DaemonUnreachable. Offline it gives the records there are, and ends.
        """

    def close(self) -> None:
        """Close connections and files. Also at the end of a `with`."""

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


class Closing(ABC):
    """The context manager of both implementations."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
