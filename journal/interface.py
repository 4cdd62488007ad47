"""The interface of a journal, which every engine implements.

An engine is a package of its own (`journal.file`); nothing here names a file. `Journal` is what most of the product needs, and
`Reading` its half that appends nothing. `Submitting` adds appends that don't block their caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

from journal.errors import JournalError
from journal.records import Appended, Conflict, Damage, Entry, Head, Record, Unknown

Durability = Literal["fsync", "replicated"]
"""What an answered append rests on: synced to this machine's disk, or held by several machines as well."""


class Appending(Protocol):
    """What takes entries."""

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        """Durable on return, all or none. After a crash a prefix may survive: resume from any prefix.

        Unknown is answered where the entries were sent and no answer came. Repeated with the same `Entry.attempt`, entries that
        were recorded are answered Appended with the seqs they have, and are never recorded again. Callers use
        `journal.append.append_known`, which does that.

        Raises EntryRefused, JournalFull, JournalPoisoned, JournalClosed, JournalGone, JournalReadOnly.
        """


class Reading(Protocol):
    """The reading half of a journal. Methods may be called from any thread."""

    @property
    def id(self) -> str:
        """Identifies this journal forever: 32 hex digits."""

    @property
    def epoch(self) -> str:
        """New after a restore or a salvage, which reuse seqs; fencing tokens carry it. 16 hex digits."""

    def read(self, after: int) -> Iterator[Record]:
        """The durable records with seq > `after`, in order, up to the head as it was at the call."""

    def get(self, seq: int) -> Record | None:
        """The durable record with that seq, or None."""

    def last(self, subject: str) -> Record | None:
        """The newest durable record of the subject, or None."""

    def head(self) -> Head:
        """The newest durable record."""


class Journal(Reading, Appending, Protocol):
    """An append-only log of records. Methods may be called from any thread."""

    @property
    def durability(self) -> Durability:
        """What an append that is answered now rests on."""

    def wait(self, after: int, timeout: float | None) -> bool:
        """Block until the head is past `after` (True), or `timeout` seconds passed or it closed (False)."""


class Reader(Journal, Protocol):
    """A journal opened for reading alone (`journal.open_reader`): its head never moves, and `append` raises JournalClosed.

    So it can stand where a plan is only made, and nothing is appended.
    """

    @property
    def damage(self) -> Sequence[Damage]:
        """What the opening found; what comes before it can still be read."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Submitting(Journal, Protocol):
    """A journal that also takes appends without blocking the caller."""

    def submit(
        self,
        entries: Sequence[Entry],
        done: Callable[[Appended | Conflict | Unknown | JournalError], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        """`append` without blocking: `done` is called once with what `append` would have returned or raised.

        The entries are written at the latest after `start_batch`, which the submitter has to call when it has nothing more to
        submit at the moment: so many submissions cost one wake-up.

        `done` is called exactly when `append` would have returned: with Appended only when the entries are durable. It is
        called on the journal's own thread, which must go on: it may neither block nor raise nor call the journal. `after`
        is called when all submissions that are answered together have been; once for all of them that give the same.
        Unknown is no answer in this sense: `after` is not called for it.

        Raises EntryRefused, and JournalPoisoned, JournalClosed and the like if that is known at once; `done` is then
        never called.
        """

    def start_batch(self) -> None:
        """Have what was submitted written now. From any thread; costs nothing if there is nothing."""
