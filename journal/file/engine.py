"""The file engine: a journal in a directory of JSON Lines segments, owned by one process (`journal.file.open` makes one).

Why everything it serves is durable: what was there when it was opened had been proven, or rewritten and synced, before; what
is appended later is served only after its batch's sync (`journal.file.committer`). Readers, waiters and `Conflict` alike see
nothing sooner.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import orjson

from journal.erasure import Erasure, ErasureLookup, erasure_of
from journal.errors import ErasureFailed, JournalDamaged, JournalError
from journal.file.catalogue import Catalogue
from journal.file.committer import Committer, Durable, Tail
from journal.file.cursor import Cursor
from journal.file.erase import (
    RewrittenSegment,
    finish_erasure,
    read_note,
    rewrite_segment,
    segments_with,
    write_note,
)
from journal.file.files import Files
from journal.file.lock import DirectoryLock
from journal.file.request import Done, Request
from journal.file.reserve import Reserve
from journal.file.scan import find_record, read_records
from journal.file.segment import list_segments, segment_size, write_mark
from journal.file.settings import WriteSettings
from journal.file.torn import Torn
from journal.format.codec import Prepared
from journal.format.entries import prepare_append
from journal.health import Health, Measurement, Measurements
from journal.interface import Engine, Progress
from journal.records import OWN_SUBJECT, Appended, Conflict, Damage, Entry, Head, Record, Rewritten

if TYPE_CHECKING:

    def _conforms(journal: FileJournal) -> Engine:
        """Checked statically: it promises all that the interface asks of an engine."""
        return journal


RECENT_RECORDS = 4096
RECENT_BYTES = 256 << 10
"""Bytes of records in memory for who reads what was just appended. More would cost every append: what is freed is used again
while it is still in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the opening found and did. `possibly` are ids legible in a torn tail: perhaps acknowledged, so worth reconciling."""

    created: bool
    torn: Torn | None
    mended_newlines: int
    scanned: int
    warning: str | None
    used_reserve: bool = False
    """Whether the space that was set aside was given up, for the opening to have room."""

    @property
    def possibly(self) -> tuple[str, ...]:
        return self.torn.possibly if self.torn else ()


class FileJournal:
    """See `journal.interface.Journal` for what the methods promise."""

    def __init__(
        self,
        directory: Path,
        *,
        files: Files,
        lock: DirectoryLock,
        catalogue: Catalogue,
        tail: Tail,
        recovery: Recovery,
        settings: WriteSettings,
    ) -> None:
        self.directory = directory
        self.recovery = recovery
        self.files = files
        self._lock = lock
        self._catalogue = catalogue
        self._id = tail.header.journal
        self._head = Head(tail.seq, tail.sum)
        self._cursor = Cursor(files, directory, catalogue.offset_of)
        self._recent: deque[Durable] = deque()
        self._recent_bytes = 0
        self._advanced = threading.Condition()
        self._closed = False
        self._preparing = threading.Lock()
        self._maintenance = threading.Lock()
        """One rewrite or copy of the segments at a time."""
        self._committer = Committer(files, directory, tail, catalogue, publish=self._publish, settings=settings)
        self._committer.start()

    @property
    def id(self) -> str:
        return self._id

    @property
    def epoch(self) -> str:
        return self._committer.tail.header.epoch

    @property
    def durability(self) -> Literal["fsync"]:
        return "fsync"

    def append(self, entries: Sequence[Entry]) -> Appended | Conflict:
        return self._committer.append(self._prepare(entries))

    def submit(self, entries: Sequence[Entry], done: Done, after: Callable[[], None] | None = None) -> None:
        """See `journal.interface.Submitting.submit`."""
        self._committer.submit(Request(self._prepare(entries), done, after=after), start=False)

    def start_batch(self) -> None:
        """See `journal.interface.Submitting.start_batch`."""
        self._committer.start_batch()

    def _prepare(self, entries: Sequence[Entry]) -> list[Prepared]:
        with self._preparing:
            return prepare_append(entries)

    def head(self) -> Head:
        return self._head

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return self._read(after, self._head.seq, only, payloads)

    def _read(self, after: int, upto: int, only: Container[int] | None, payloads: bool) -> Iterator[Record]:
        with self._advanced:
            first = self._recent[0].seq if self._recent else 0
            recent = list(islice(self._recent, max(0, after + 1 - first), None)) if 0 < first <= after + 1 else None
        if recent is None:
            if payloads:
                yield from read_records(self.files, self.directory, after, upto, self._catalogue.offset_of, only)
            elif only is None:
                yield from self._cursor.read(after, upto)
            else:
                yield from self._cursor.select(after, upto, only)
            return
        for one in recent:
            if one.seq <= upto and (only is None or one.seq in only):
                yield _record(one, payloads=payloads)

    def get(self, seq: int) -> Record | None:
        if not 0 < seq <= self._head.seq:
            return None
        with self._advanced:
            recent = self._recent[seq - self._recent[0].seq] if self._recent and seq >= self._recent[0].seq else None
        if recent is not None and recent.seq == seq:
            return _record(recent)
        return find_record(self.files, self.directory, seq, self._catalogue.offset_of(seq))

    def last(self, subject: str) -> Record | None:
        try:
            seq = self._catalogue.last(subject)
        except sqlite3.Error as error:
            hint = "Start covenq again: it builds the index anew from the log."
            raise JournalError(f"the index can't be read: {error}", hint=hint) from error
        if seq > self._head.seq:
            # Durable, and noted in the catalogue a moment before the head moves to it.
            self.wait(seq - 1, None)
        return self.get(seq) if seq else None

    def wait(self, after: int, timeout: float | None) -> bool:
        with self._advanced:
            self._advanced.wait_for(lambda: self._head.seq > after or self._closed or self.poisoned, timeout)
            return self._head.seq > after

    @property
    def lease_clock(self) -> None:
        """None: the directory's lock is this machine's, and so is every process that had it."""
        return None

    @property
    def beat(self) -> float:
        """The heartbeat of the thread that syncs, by the monotonic clock: renewed every second, unless it hangs."""
        return self._committer.beat

    @property
    def poisoned(self) -> bool:
        """A sync failed: nothing will ever be appended by this process again."""
        return self._committer.poisoned is not None

    @property
    def full(self) -> bool:
        """The last append could not be written, for lack of space or because the disk refused; the next one may succeed."""
        return self._committer.full is not None

    def erase(
        self, entries: Sequence[Entry], progress: Progress | None = None
    ) -> tuple[Appended | Conflict, Rewritten]:
        """See `journal.interface.Erasing.erase`; `journal.file.erase` has the argument.

        A segment to rewrite that does not verify is left as it is, and the erasure unfinished.
        """
        with self._maintenance:
            try:
                after = read_note(self.files, self.directory)
                if after is None:
                    write_note(self.files, self.directory, self._head.seq)
            except OSError as error:
                raise _erasure_failed(error, recorded=False) from error
            answer = self.append(entries)
            try:
                if after is not None:
                    return answer, self._rewrite(self._erasures_after(after), progress)
                if isinstance(answer, Conflict):
                    finish_erasure(self.files, self.directory)
                    return answer, Rewritten()
                named = [erasure_of(seq, entry.data) for seq, entry in zip(answer.seqs, entries, strict=True)]
                return answer, self._rewrite([one for one in named if one is not None], progress)
            except OSError as error:
                raise _erasure_failed(error, recorded=isinstance(answer, Appended)) from error

    def _erasures_after(self, after: int) -> list[Erasure]:
        found = [erasure_of(record.seq, record.data) for record in self.read(after, payloads=False)]
        return [one for one in found if one is not None]

    @property
    def erasing(self) -> bool:
        """Whether an erasure is under way, or unfinished: for lack of room on the disk, or because a segment is damaged."""
        return read_note(self.files, self.directory) is not None

    def resume_erasure(self, progress: Progress | None = None) -> Rewritten:
        """See `journal.interface.Erasing.resume_erasure`."""
        try:
            with self._maintenance:
                after = read_note(self.files, self.directory)
                return Rewritten() if after is None else self._rewrite(self._erasures_after(after), progress)
        except OSError as error:
            raise _erasure_failed(error, recorded=True) from error

    def parts(self) -> list[tuple[int, int]]:
        """The segments."""
        firsts = list_segments(self.files, self.directory)
        return [(first, segment_size(self.files, self.directory, first)) for first in firsts]

    def _rewrite(self, erasures: list[Erasure], progress: Progress | None) -> Rewritten:
        lookup = ErasureLookup(erasures)
        if lookup.newest >= list_segments(self.files, self.directory)[-1]:
            self._committer.rotate()
        work = segments_with(self.files, self.directory, lookup, below=self._committer.tail.header.first)
        done: list[RewrittenSegment] = []
        damage: list[Damage] = []
        for number, first in enumerate(work):
            try:
                rewritten = rewrite_segment(self.files, self.directory, first, lookup)
            except JournalDamaged as error:
                damage += error.damage  # the other segments are rewritten all the same
                continue
            if rewritten is not None:
                self._catalogue.move(list(rewritten.offsets))
                done.append(rewritten)
            if progress is not None:
                progress(number + 1, len(work))
        with self._advanced:
            self._recent.clear()
            self._recent_bytes = 0
        if damage:
            raise JournalDamaged(damage)
        finish_erasure(self.files, self.directory)
        return Rewritten(frozenset(one.segment for one in done), sum(one.before - one.after for one in done))

    def begin_epoch(self, epoch: str) -> None:
        """Start a new epoch: seqs from here on may have been assigned before, to other records. Fencing tokens carry it."""
        if self._committer.tail.offset == self._committer.tail.header.size:
            # An empty segment has the name that the next one would get: it needs a record first.
            self.append([Entry(OWN_SUBJECT, "journal.epoch", {"epoch": epoch})])
        self._committer.rotate(epoch)

    @cached_property
    def reserve(self) -> Reserve:
        """The space kept back on the directory's disk. Raises OSError."""
        return Reserve(self.directory, files=self.files)

    def health(self) -> Health:
        """See `journal.interface.Monitored.health`. The room is that of the directory's disk."""
        committer = self._committer
        poisoned = None if committer.poisoned is None else str(committer.poisoned)
        full = None if committer.full is None else str(committer.full)
        try:
            return Health(poisoned, full, room=self.reserve.room())
        except OSError as error:
            return Health(poisoned, full, f"the data directory's disk can't be asked for its space: {error.strerror}")

    def database(self) -> None:
        return None

    def measurements(self) -> Measurements:
        """Segments and their bytes; of the group commit its syncs in seconds and its batches in records; the index's backlog."""
        stats = self._committer.stats
        parts = self.parts()
        measurements: dict[str, Measurement] = {
            "segments": len(parts),
            "bytes": sum(size for _, size in parts),
            "batches": stats.batches,
            "records": stats.records,
            "sync_seconds": stats.syncs_s.read(),
            "batch_records": stats.batch_records.read(),
            "recent_sync_seconds": tuple(stats.recent_syncs_s.copy()),
            "recent_batch_records": tuple(stats.recent_batches.copy()),
            "index_backlog": self._catalogue.backlog,
        }
        if stats.last_sync_s is not None:
            measurements["last_sync_seconds"] = stats.last_sync_s
        return measurements

    def close(self) -> None:
        """Answer queued appends, append a `journal.synced` record, write the clean-close mark, release the lock. Repeatable.

        The mark is written only when nothing was poisoned: it proves how long the log was, if it is found shorter later.
        """
        if self._closed:
            return
        self._committer.stop()
        with self._advanced:
            self._closed = True
            self._advanced.notify_all()
        self._catalogue.close()
        try:
            if self._committer.poisoned is None:
                self.write_close_mark()
        except OSError:
            # The mark is one proof among several; a full disk must not turn a clean stop into a failure.
            pass
        finally:
            self.files.close(self._committer.tail.fd)
            self._lock.release()

    def write_close_mark(self) -> None:
        """Write the mark that states where the log ends now. Only while nothing is appended. Raises OSError."""
        tail = self._committer.tail
        if tail.seq:
            write_mark(
                self.files,
                self.directory,
                journal=self._id,
                seq=tail.seq,
                total=tail.sum,
                segment=tail.header.first,
                size=tail.offset,
            )

    def __enter__(self) -> FileJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _publish(self, records: list[Durable], head: Head) -> None:
        with self._advanced:
            for one in records:
                self._recent.append(one)
                self._recent_bytes += one.prepared.size
            while self._recent and (len(self._recent) > RECENT_RECORDS or self._recent_bytes > RECENT_BYTES):
                self._recent_bytes -= self._recent.popleft().prepared.size
            self._head = head
            self._advanced.notify_all()


def _erasure_failed(error: OSError, *, recorded: bool) -> ErasureFailed:
    return ErasureFailed(error.strerror or str(error), recorded=recorded)


def _record(one: Durable, *, payloads: bool = True) -> Record:
    prepared = one.prepared
    entry = prepared.entry
    return Record(
        seq=one.seq,
        at=one.at,
        synced=one.synced,
        subject=entry.subject,
        kind=entry.kind,
        data=orjson.loads(prepared.data),
        about=None if prepared.about is None else orjson.loads(prepared.about),
        payload=entry.payload if payloads else None,
        payload_sha256=prepared.payload_sha256,
        payload_bytes=None if entry.payload is None else len(entry.payload),
        dropped=None,
        prev=one.prev,
        sum=one.sum,
        epoch=one.epoch,
    )
