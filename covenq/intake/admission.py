"""Whether deliveries can be accepted, and if not, why: what the webhook and readiness ask.

Admission is by what can be made durable, never by how much work waits. The intake closes while the disk still has room,
so that the ends of running tasks can be recorded, and opens again by itself.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from journal.errors import JournalClosed, JournalError
from journal.file.reserve import threshold_of
from journal.interface import Journal
from journal.records import Appended, Conflict, Entry, Head, Record, Unknown

log = logging.getLogger("covenq.intake")


SPACE_CACHE_S = 0.05
"""Seconds for which the disk's free space is taken for what it was."""


class AdmissionJournal(Protocol):
    """What is asked of the journal here."""

    @property
    def poisoned(self) -> bool: ...

    @property
    def full(self) -> bool: ...

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict | Unknown: ...


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes that this user may still write, and bytes of the whole filesystem."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not: a word for machines, a sentence for people."""

    word: str
    sentence: str
    more: str = ""
    """What only the log is told."""


def space_of(path: Path) -> Space:
    """Raises OSError."""
    found = os.statvfs(path)
    return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class CachedSpace:
    """`space_of`, asked of the disk at most every SPACE_CACHE_S: between, it is what was seen last.

    A system call lets go of the interpreter's lock, and this would be one for every delivery. Far less than the reserve can
    be written in that time.
    """

    def __init__(self, space: Callable[[Path], Space] = space_of, clock: Callable[[], float] = time.monotonic) -> None:
        self._space = space
        self._clock = clock
        self._seen: tuple[float, Space] | None = None

    def __call__(self, path: Path) -> Space:
        """Raises OSError."""
        now, seen = self._clock(), self._seen
        if seen is None or now - seen[0] > SPACE_CACHE_S:
            seen = self._seen = (now, self._space(path))
        return seen[1]


class Admission:
    """Answers from any thread; `check` is for one thread, a few times a second."""

    def __init__(
        self,
        journal: AdmissionJournal,
        data: Path,
        space: Callable[[Path], Space] = space_of,
        missing: Callable[[], int] = lambda: 0,
        paused: Callable[[], Reason | None] = lambda: None,
        damaged: Callable[[], bool] = lambda: False,
    ) -> None:
        """`missing` is the ballast's bytes while it is not laid: the intake opens again only when there is room for it.

        `paused` tells whether an operator has closed the intake; it may raise JournalError. Nothing is accepted before it
        was asked for the first time. `damaged` tells whether the journal is, as far as it was read: nothing more is written to
        it then, for what came after couldn't be worked on either.
        """
        self._journal = journal
        self._data = data
        self._space = space
        self._missing = missing
        self._closed: Reason | None = None
        self._damaged = damaged
        self._read_pause = paused
        self._paused = paused()
        self.stopping = False
        """Set when the process has been told to stop: not ready any more, but what still arrives is accepted."""

    def intake(self, size: int = 0) -> Reason | None:
        """Why a delivery of `size` bytes can't be accepted now; None if it can."""
        if self._journal.poisoned:
            return Reason("journal_poisoned", "The disk failed to make deliveries durable.")
        if self._damaged():
            return Reason(
                "journal_damaged",
                "The journal is damaged: `covenq verify` says where, `covenq salvage` what can be kept.",
            )
        return self._disk(size) or self._paused

    def refresh(self) -> None:
        """Look again whether an operator has paused the intake: from any thread, right after one has."""
        try:
            self._paused = self._read_pause()
        except JournalError as error:  # what was known last still holds
            log.error("whether the intake is paused can't be read: %s", error)

    def reasons(self) -> list[Reason]:
        """Why it is not ready; empty if it is."""
        found = [Reason("stopping", "The daemon is stopping.")] if self.stopping else []
        closed = self.intake()
        if closed is not None:
            found.append(closed)
        if self._paused is not None and closed is not self._paused:
            found.append(self._paused)
        if closed is None and self._journal.full:
            found.append(Reason("journal_full", "The last write found no space."))
        return found

    def has_room(self) -> bool:
        """Whether something that is a mere convenience may be written."""
        return self._disk(0) is None and not self._journal.full

    def space(self) -> tuple[Space, int]:
        """The disk's space, and the bytes of it that deliveries may not touch now. Raises OSError."""
        found = self._space(self._data)
        return found, self._reserved(found)

    def check(self) -> None:
        """Say once when the intake closes and once when it opens; after a full disk, try whether writing works again."""
        self.refresh()
        closed = self.intake()
        if closed is None and self._journal.full:
            closed = self._probe_write()
        if closed is not None and (self._closed is None or self._closed.word != closed.word):
            log.error("the intake is closed: %s", f"{closed.sentence} {closed.more}".rstrip())
        if closed is None and self._closed is not None:
            log.warning("the intake is open again")
        self._closed = closed

    def _probe_write(self) -> Reason | None:
        """Only a write can tell whether the last one's trouble is over; it leaves a record that says so."""
        try:
            self._journal.append([Entry("ops.intake", "ops.intake_opened", {"reason": "journal_full"})])
        except JournalError as error:
            return Reason("journal_full", f"There is no space for the journal: {error}.")
        return None

    def _disk(self, size: int) -> Reason | None:
        try:
            space = self._space(self._data)
        except OSError as error:
            return Reason("disk_unknown", f"The data directory's disk can't be asked for its space: {error.strerror}.")
        reserve = self._reserved(space)
        if space.free - size >= reserve:
            return None
        return Reason(
            "disk_low", f"{space.free >> 20} MiB are free, and {reserve >> 20} MiB are kept for running tasks."
        )

    def _reserved(self, space: Space) -> int:
        reserve = threshold_of(space.total)
        if self._closed is not None and self._closed.word == "disk_low":
            # Once closed, not open again at the first megabyte, to be closed by the next delivery.
            reserve += reserve // 2 + self._missing()
        return reserve


class ClosedJournal:
    """The journal while the intake is closed: what it holds can be asked for, and nothing is added.

    An append of a subject that is there is still a Conflict, so a delivery that came before is known as such.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def id(self) -> str:
        return self._journal.id

    @property
    def epoch(self) -> str:
        return self._journal.epoch

    def append(self, entries: Sequence[Entry]) -> Conflict:
        """Conflict if a subject that was to be new has records. Raises JournalClosed otherwise."""
        for entry in entries:
            newest = self._journal.last(entry.subject) if entry.expect == 0 else None
            if newest is not None:
                return Conflict(entry.subject, newest.seq)
        raise JournalClosed("the intake is closed")

    def read(self, after: int) -> Iterator[Record]:
        return self._journal.read(after)

    def get(self, seq: int) -> Record | None:
        return self._journal.get(seq)

    def last(self, subject: str) -> Record | None:
        return self._journal.last(subject)

    def wait(self, after: int, timeout: float | None) -> bool:
        return self._journal.wait(after, timeout)

    def head(self) -> Head:
        return self._journal.head()
