"""The protocol through which the command line and the dashboard read and act: on a running daemon, or on the files.

`covenq.client.open` chooses between `remote` and `local`. Both answer with the same JSON objects, those of the HTTP API, so
a caller needn't know which of the two it has (`live` tells).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeVar

if TYPE_CHECKING:  # a command that starts needs the functions here, and no rows
    from covenq.intake.refusal_log import Refusal
    from covenq.model.answers import Event, Secret, Stats, Tail, Throughput
    from covenq.model.audit import Audit
    from covenq.model.notices import Notices
    from covenq.model.rows import Attempt, Delivery, LatestAttempt, OneDelivery, Page, Task
    from covenq.model.status import ActivePause, LedgerHour, Status
    from covenq.model.usage import Usage
    from covenq.operate.inspect.history import Why
    from covenq.operate.operations import A, Operation, P

T = TypeVar("T")

Stream = Literal["stdout", "stderr", "result"]
"""What an attempt wrote, or what it left as its result."""
"""An output of a command."""

LOG_BYTES = 256 * 1024
"""Bytes of an attempt's output, from its end, by default."""

Counted = Literal["deliveries", "tasks", "attempts"]
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

    def status(self) -> Status:
        """The status of the daemon, or of the files.

        Offline: `ready` is False, `reasons` begins with NOT_RUNNING, or with the process that holds the files and doesn't
        answer.
        """

    def deliveries(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Delivery]:
        """A page of the deliveries that match, newest first.

        `limit` 0 is all (see `each` for reading them one by one in bounded memory); `after` is the `next` of the page
        before. Raises FilterError.
        """

    def delivery(self, id: str) -> OneDelivery:
        """One delivery with all its fields, by `GUID` or `hook/GUID`. Raises NotFound, Ambiguous, UsageError."""

    def payload(self, id: str) -> bytes:
        """The body exactly as it was received. Raises NotFound, also when the payload was dropped; Ambiguous."""

    def tasks(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[Task]:
        """A page of the tasks that match, newest first; as `deliveries`."""

    def latest_attempts(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[LatestAttempt]:
        """The attempts of the tasks that match, newest claim first; as `tasks`."""

    def log(self, task: str, attempt: int, stream: Stream, last: int = LOG_BYTES, offset: int | None = None) -> bytes:
        """The last bytes of an attempt's output or result, as it is now; with `offset` as many from there on, if there are.

        An output only grows until its attempt ends. Raises NotFound.
        """

    def count(self, what: Counted, filter: Filter = "", *, limit: int = 0) -> int:
        """How many deliveries or tasks match, or how many attempts the tasks that match have had.

        With a `limit` it is counted as far as that, and no further; an older daemon counts all. Raises FilterError, and
        UsageError for a filter on the payload.
        """

    def task(self, id: str) -> Task:
        """One task by its id. Raises NotFound."""

    def attempts(self, task: str) -> list[Attempt]:
        """The attempts of a task, in order. Raises NotFound."""

    def why(self, id: str) -> Why:
        """The histories of what `id` names.

        That is a GUID, hook/GUID, a task's id, owner/name#number, or an address of an issue or pull request. Raises UsageError
        for what can be none of them, Ambiguous for a GUID that several hooks share.
        """

    def tail(
        self,
        filter: Filter = "",
        *,
        after: int | None = None,
        since_s: float | None = None,
        newest: int | None = None,
        wait_s: float = 0.0,
    ) -> Tail:
        """Records, oldest first.

        Those after the seq `after`, or from `since_s` seconds ago on, or the `newest` that match; a thousand records at most
        are scanned, and `next` is the `after` to go on with, which is `head` at the end. A daemon delays the answer
        for `wait_s` seconds at most while there is nothing (long polling). Raises FilterError.
        """

    def stats(self, filter: Filter = "", *, since_s: float = 86400.0) -> Stats:
        """Counts of the matching deliveries of the last `since_s` seconds.

        Raises FilterError, and UsageError for a filter on the payload.
        """

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
        """What senders, operators, tokens and the system did, oldest first, out of the journal and the logs beside it.

        The lines after the cursor `after`, or the `newest` so many, or the first ones; at most `limit`, and a thousand. `next`
        goes on, now if there is `more`, or later. Raises FilterError, and UsageError for a word that `who` and `what` haven't.
        """

    def usage(
        self,
        filter: Filter = "",
        *,
        month: str | None = None,
        by: str | None = None,
        limit: int = 0,
        after: str | None = None,
    ) -> Usage:
        """What a month (2026-11; None: this one; all) had of each installation, repository and familiar, or by one of these.

        `limit` and `after` as those of `deliveries`. Raises FilterError, and UsageError for a field that usage isn't summed by.
        """

    def ledger(self, *, since_s: float) -> Page[LedgerHour]:
        """What GitHub's delivery logs listed in the last `since_s` seconds, and what became of it, by the hour, newest first."""

    def throughput(self, minutes: int = 60) -> Throughput:
        """How many were accepted, refused and ended in each of the last minutes. Raises UsageError."""

    def act(self, operation: Operation[P, A], parameters: P) -> A:
        """Do one of `covenq.operate.operations`, and wait until it is durable.

        Raises what the operation does, FilterError among it.
        """

    def secrets(self) -> Page[Secret]:
        """The webhook secrets, never their values."""

    def refused(self, *, limit: int = 50) -> list[Refusal]:
        """The newest requests that were refused, newest first. `limit` 0 is all that are logged."""

    def pauses(self) -> list[ActivePause]:
        """What is paused, oldest first."""

    def notices(self) -> Notices:
        """What [notify] has told, and owes."""

    def events(self, after: int | None = None) -> Iterator[Event]:
        """Follow the journal: each record with seq > `after` (None: from now on).

        Endless while the daemon runs; close the iterator (or the source, from another thread) to end it. When the daemon
        goes away it raises DaemonUnreachable. Offline it gives the records there are, and ends.
        """

    def close(self) -> None:
        """Close connections and files. Also at the end of a `with`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Listing(Protocol[T]):
    """`Source.deliveries` or `Source.tasks`."""

    def __call__(self, filter: Filter = "", *, limit: int = 50, after: str | None = None) -> Page[T]: ...


def each(fetch: Listing[T], filter: Filter = "", *, limit: int = 0, page: int = PAGE) -> Iterator[T]:
    """Items of `source.deliveries` or `source.tasks` one by one, a page in memory at a time. `limit` 0 is all."""
    after: str | None = None
    left = limit
    while True:
        size = min(page, left) if limit else page
        answer = fetch(filter, limit=size, after=after)
        yield from answer.items
        left -= len(answer.items)
        after = answer.next
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
