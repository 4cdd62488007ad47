"""The protocol through which the command line and the dashboard read and act: on a running daemon, or on the files.

`covenq.client.open` chooses between `remote` and `local`. Both answer with the same JSON objects, those of the HTTP API, so
a caller needn't know which of the two it has (`live` tells).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

if TYPE_CHECKING:  # what only reads needs none of it
    from covenq.operate.operations import A, Operation, P

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

    def act(self, operation: Operation[P, A], parameters: P) -> A:
        """Do one of `covenq.operate.operations`, and wait until it is durable.

        Raises what the operation does, FilterError among it.
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
