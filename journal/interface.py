"""The interface of a journal: what covenq asks of a log, whichever engine keeps it.

Engines stand behind it in folders of their own (`journal.file`); nothing here names a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from journal.errors import JournalError
from journal.records import Appended, Conflict, Entry, Head, Record, Unknown


class Journal(Protocol):
    """What covenq needs of a log, whoever keeps it. Methods may be called from any thread."""

    @property
    def id(self) -> str:
        """Names this journal for ever: 32 hex digits."""

    @property
    def epoch(self) -> str:
        """New after a restore or a salvage, which reuse seqs; fencing tokens carry it. 16 hex digits."""

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown:
        """Durable on return, all or none. After a crash a prefix may survive: resume from any prefix.

        Raises EntryRefused, JournalFull, JournalPoisoned, JournalClosed, JournalGone, JournalReadOnly.
        """

    def read(self, after: int) -> Iterator[Record]:
        """The durable records with seq > `after`, in order, up to the head as it was at the call."""

    def get(self, seq: int) -> Record | None:
        """The durable record with that seq, or None."""

    def last(self, subject: str) -> Record | None:
        """The newest durable record of the subject, or None."""

    def wait(self, after: int, timeout: float | None) -> bool:
        """Block until the head is past `after` (True), or `timeout` seconds passed or it closed (False)."""

    def head(self) -> Head:
        """The newest durable record."""


class Submitting(Journal, Protocol):
    """A journal that need not be waited for: the file engine is one."""

    def submit(
        self,
        entries: Sequence[Entry],
        done: Callable[[Appended | Conflict | JournalError], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        """`append` without the wait: `done` is called once with what `append` would have returned or raised.

        It begins at the latest with `start_batch`, which whoever submits has to call when there is nothing more to submit
        at the moment: so many submissions cost one wake-up.

        It is called only when the entries are durable, exactly where `append` would have returned; so what `append`'s
        caller may say to others, `done` may. It is called on the journal's own thread, which must go on: it may neither
        block nor raise nor call the journal. `after` is called when all who were answered together have been; once for
        them all, if they name the same.

        Raises EntryRefused, and JournalPoisoned, JournalClosed and the like if that is known at once; `done` is then
        never called.
        """

    def start_batch(self) -> None:
        """Let what was submitted be written now. From any thread; costs nothing if there is nothing."""
