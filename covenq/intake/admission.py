"""Admission control: whether deliveries can be accepted, and if not, why. The webhook and the readiness check use it.

Admission depends on what can be made durable, never on how much work is queued. The intake closes while the disk still has room,
so that the ends of running tasks can be recorded, and opens again by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from journal.append import append_known
from journal.errors import JournalClosed, JournalError
from journal.health import Health, Room
from journal.interface import Appending, Durability, Journal, Monitored
from journal.records import Conflict, Entry, Head, Record

DISK_FAILED = "The disk failed to make deliveries durable."
DATABASE_AWAY, DISK_UNKNOWN = "database_away", "disk_unknown"
JOURNAL_DAMAGED = "journal_damaged"
STANDBY = "standby"
"""The word of a node that doesn't lead."""

log = logging.getLogger("covenq.intake")

HEALTH_CACHE_S = 0.05
"""Seconds for which a measurement of the engine's room is reused."""


class AdmissionJournal(Appending, Monitored, Protocol):
    """The part of the journal's interface that admission uses."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the intake is closed: a word for machines, a sentence for people."""

    word: str
    sentence: str
    log_detail: str = ""
    """Added to the sentence in the daemon's log alone."""


def poisoned_sentence(health: Health) -> str:
    """Why nothing is made durable any more, of a journal that is poisoned."""
    if health.database:
        return f"Nothing more is recorded in the database by this process: {health.poisoned}."
    return DISK_FAILED


class CachedHealth:
    """The health of a journal's engine, measured again after HEALTH_CACHE_S.

    Measuring asks the disk, a system call that releases the interpreter's lock, and without the cache there would be one for
    every delivery. Far less than what is kept free can be written in that time.
    """

    def __init__(self, journal: Monitored, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._clock = clock
        self._seen: tuple[float, Health] | None = None

    def __call__(self) -> Health:
        now, seen = self._clock(), self._seen
        if seen is None or now - seen[0] > HEALTH_CACHE_S:
            seen = self._seen = (now, self._journal.health())
        return seen[1]


class Admission:
    """Opens and closes the intake. Methods may be called from any thread, but `check` from one, a few times a second."""

    def __init__(
        self,
        journal: AdmissionJournal,
        health: Callable[[], Health] | None = None,
        paused: Callable[[], Reason | None] = lambda: None,
        damaged: Callable[[], bool] = lambda: False,
        standby: Callable[[], Reason | None] = lambda: None,
    ) -> None:
        """`health` measures the journal's; by default with a cache, since each delivery asks for the room there is.

        `paused` returns the reason if an operator has paused the intake; it may raise JournalError. It is called here once, so
        nothing is accepted before. `damaged` returns whether the journal, as far as it was read, is damaged: then nothing more
        is written to it, since what comes after the damage couldn't be worked on either. `standby` returns the reason while
        another node takes deliveries in.
        """
        self._journal = journal
        self._health = CachedHealth(journal) if health is None else health
        self._closed: Reason | None = None
        self._damaged = damaged
        self._standby = standby
        self._read_pause = paused
        self._paused = paused()
        self._pause_unread = False
        """Whether the last try to read it failed, which was logged."""
        self.resumed = 0
        """Times that a pause was seen to end, however short it was."""
        self.stopping = False
        """Set when the process was asked to stop: it is not ready any more, but accepts what still arrives."""

    def intake(self, size: int = 0) -> Reason | None:
        """Why a delivery of `size` bytes can't be accepted now; None if it can."""
        if self._journal.poisoned:
            return Reason("journal_poisoned", poisoned_sentence(self._journal.health()))
        standby = self._standby()
        if standby is not None:
            return standby
        if self._damaged():
            keep = "" if self._health().database else ", `covenq salvage` what can be kept"
            return Reason(JOURNAL_DAMAGED, f"The journal is damaged: `covenq verify` says where{keep}.")
        return self._disk(size) or self._paused

    def refresh(self) -> None:
        """Read again whether an operator has paused the intake. From any thread, right after a pause or its end."""
        before = self._paused
        try:
            self._paused = self._read_pause()
        except JournalError as error:  # the last known answer still holds
            if not self._pause_unread:  # it is read a few times a second, and a database may be away for hours
                log.error("whether the intake is paused can't be read: %s", error)
            self._pause_unread = True
        else:
            self._pause_unread = False
        if before is not None and self._paused is None:
            self.resumed += 1

    def reasons(self) -> list[Reason]:
        """Why it is not ready; empty if it is."""
        found = [Reason("stopping", "The daemon is stopping.")] if self.stopping else []
        closed = self.intake()
        if closed is not None:
            found.append(closed)
        if self._paused is not None and closed is not self._paused:
            found.append(self._paused)
        failed = self._journal.health().full if closed is None and self._journal.full else None
        if failed is not None:
            found.append(Reason("journal_full", f"The last write failed: {failed}."))
        return found

    def has_space(self) -> bool:
        """Whether there is room for the records of work that is begun now."""
        return self._disk(0) is None and not self._journal.full

    def keeps_refusals(self) -> bool:
        """Whether the data directory has room for what is only a convenience: a database's room is not that disk's."""
        return self._health().database or self.has_space()

    def room(self) -> tuple[Room, int] | None:
        """The engine's room, and the bytes of it that deliveries may not touch now; None if it sets no bound, or isn't known."""
        room = self._health().room
        return None if room is None else (room, self._reserved(room))

    def check(self) -> None:
        """Log once when the intake closes and once when it opens; after a full disk, try whether writing works again."""
        self.refresh()
        closed = self.intake()
        if closed is None and self._journal.full:
            closed = self._probe_write()
        if closed is not None and (self._closed is None or self._closed.word != closed.word):
            level = logging.INFO if closed.word == STANDBY else logging.ERROR
            log.log(level, "the intake is closed: %s", f"{closed.sentence} {closed.log_detail}".rstrip())
        if closed is None and self._closed is not None:
            log.warning("the intake is open again")
        self._closed = closed

    def _probe_write(self) -> Reason | None:
        """Append a record: only a write can show whether writing works again after one that found no space."""
        try:
            append_known(self._journal, [Entry("ops.intake", "ops.intake_opened", {"reason": "journal_full"})])
        except JournalError as error:
            return Reason("journal_full", f"The journal can't be written: {error}.")
        return None

    def _disk(self, size: int) -> Reason | None:
        health = self._health()
        if health.unreachable is not None:
            word = DATABASE_AWAY if health.database else DISK_UNKNOWN
            return Reason(word, f"{health.unreachable[:1].upper()}{health.unreachable[1:]}.")
        room = health.room
        if room is None:
            return None
        reserve = self._reserved(room)
        if room.free - size >= reserve:
            return None
        return Reason(
            "disk_low", f"{room.free >> 20} MiB are free, and {reserve >> 20} MiB are kept for running tasks."
        )

    def _reserved(self, room: Room) -> int:
        # Hysteresis: it must not open at the first free megabyte, to be closed again by the next delivery.
        return room.to_reopen if self._closed is not None and self._closed.word == "disk_low" else room.kept


class ClosedJournal:
    """The journal while the intake is closed: it can be read, and nothing is appended.

    An append of a subject that exists is still a Conflict, so a repeated delivery is still recognized.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def id(self) -> str:
        return self._journal.id

    @property
    def epoch(self) -> str:
        return self._journal.epoch

    @property
    def durability(self) -> Durability:
        return self._journal.durability

    def append(self, entries: Sequence[Entry]) -> Conflict:
        """Conflict if a subject that is expected to be new has records. Raises JournalClosed otherwise."""
        for entry in entries:
            newest = self._journal.last(entry.subject) if entry.expect == 0 else None
            if newest is not None:
                return Conflict(entry.subject, newest.seq)
        raise JournalClosed("the intake is closed")

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return self._journal.read(after, only, payloads=payloads)

    def get(self, seq: int) -> Record | None:
        return self._journal.get(seq)

    def last(self, subject: str) -> Record | None:
        return self._journal.last(subject)

    def wait(self, after: int, timeout: float | None) -> bool:
        return self._journal.wait(after, timeout)

    def head(self) -> Head:
        return self._journal.head()
