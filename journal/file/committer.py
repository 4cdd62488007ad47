"""Group commit: one thread turns what callers bring into synced bytes, a batch at a time.

The order within a batch, and what rests on it:

1. Each append's `expect` is checked against durable records and the appends before it in this batch.
2. Seq, time, watermark (`synced`, the newest durable seq), `prev` and sum are given; one buffer is written at the tracked
   offset. The batch before was synced, so at most one batch is ever in flight.
3. The file is synced, once.
4. The name is checked to mean still the file that was synced (else somebody replaced the directory under us).
5. Only now the durable head moves, the index and the readers learn of the records, and the callers are answered: Appended,
   and Conflict too where it rests on a record of this very batch. So no un-synced seq is ever seen by anyone.

How a caller is answered changes nothing of this: `Request.tell` is called in `_tell` alone, and `_tell` only after step 5 or
after a failure. Who calls `append` sleeps until then; who calls `submit` goes on, and is called back.

If 2 fails, the file is cut back to the last durable offset and synced, the batch's callers are told so, and the next batch
may try again: nothing of the failed one is left to be found. If that fails as well, or if 3 fails, the journal is poisoned:
the page cache can't be believed any more, the sync is not tried again, and only a new process, which rewrites the unproven
tail, may go on.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from journal.errors import (
    JournalClosed,
    JournalError,
    JournalFull,
    JournalGone,
    JournalPoisoned,
    JournalReadOnly,
    JournalWriteFailed,
)
from journal.file.catalogue import Catalogue
from journal.file.codec import Prepared, finish, prepare
from journal.file.files import Files, SyncFailed, write_all
from journal.file.index import Position, Row
from journal.file.segment import Header, name_of, write_header
from journal.histogram import Histogram
from journal.records import NO_SEQ_HINT, SEQ_MAX, Appended, Conflict, Entry, Head

BATCH_MAX = 16 << 20
"""Bytes after which a batch is closed: bounds the buffer and the time to its sync. A single append may be larger."""
SYNCED_KIND = "journal.synced"
OWN_SUBJECT = "ops.journal"


@dataclass(slots=True)
class Tail:
    """Where the log ends: everything up to `offset` in `segment` is durable."""

    header: Header
    fd: int
    identity: tuple[int, int]
    offset: int
    seq: int
    sum: str
    last_kind: str


class Durable(NamedTuple):
    """One durable record as the committer hands it on. A tuple: one is made for every record, on the way to its answer."""

    seq: int
    at: str
    synced: int
    prev: str
    sum: str
    prepared: Prepared
    segment: int
    offset: int
    epoch: str


Answer = Appended | Conflict | JournalError
Done = Callable[[Answer], None]
"""Told one append's answer, once, on the committer's thread: it must neither block nor raise."""


class Request:
    """One caller's append, and who is to be told what became of it."""

    __slots__ = ("_done", "_told", "after", "answer", "cut", "pending", "prepared")

    def __init__(
        self,
        prepared: list[Prepared],
        done: Done,
        *,
        after: Callable[[], None] | None = None,
        cut: str | None = None,
    ) -> None:
        self.prepared = prepared
        self.after = after
        """Called when all of the batch have been told; once, however many of them name it."""
        self.cut = cut
        """No append: the active segment is to be ended, and the next begun in this epoch."""
        self.answer: Appended | Conflict | None = None
        """What it will be told unless the batch fails."""
        self.pending: Conflict | None = None
        """A Conflict that rests on this batch: it is told after the sync, and fails with it."""
        self._done = done
        self._told = False

    def tell(self, answer: Answer) -> None:
        """Answer the caller, once; the first word counts."""
        if not self._told:
            self._told = True
            self._done(answer)


class Waiter:
    """For a caller who has nothing else to do: it sleeps on a bare lock, the cheapest hand-off there is."""

    __slots__ = ("_answer", "_lock")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self, answer: Answer) -> None:
        self._answer = answer
        self._lock.release()

    def wait(self) -> Appended | Conflict:
        """Raises a JournalError of this caller's own."""
        self._lock.acquire()
        answer = self._answer
        if isinstance(answer, JournalError):
            raise again(answer)
        assert answer is not None
        return answer


def _nobody(answer: Answer) -> None:
    """The committer's own records: what becomes of them shows in its figures, or in its end."""


SYNC_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Buckets of the figures: a sync's seconds, a batch's records."""


@dataclass(slots=True)
class CommitStats:
    """What the committer has done: for status and metrics."""

    batches: int = 0
    records: int = 0
    bytes: int = 0
    last_sync_s: float | None = None
    recent_syncs_s: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    recent_batches: deque[int] = field(default_factory=lambda: deque(maxlen=512))
    syncs_s: Histogram = field(default_factory=lambda: Histogram(SYNC_BOUNDS_S))
    batch_records: Histogram = field(default_factory=lambda: Histogram(BATCH_BOUNDS))


class Committer(threading.Thread):
    """Owns the tail. `append` from any thread; everything else happens in its own."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        tail: Tail,
        catalogue: Catalogue,
        *,
        publish: Callable[[list[Durable], Head], None],
        clock: Callable[[], float],
        salt: Callable[[], str],
        cut_at: int,
        idle_s: float,
    ) -> None:
        super().__init__(name="journal-commit", daemon=True)
        self.files = files
        self.directory = directory
        self.tail = tail
        self.catalogue = catalogue
        self.figures = CommitStats()
        self.poisoned: JournalError | None = None
        self.full: JournalError | None = None
        self.beat = time.monotonic()
        """When the loop last came round: what a watchdog looks at."""
        self._publish = publish
        self._clock = clock
        self._salt = salt
        self._cut_at = cut_at
        self._idle_s = idle_s
        self._queue: deque[Request] = deque()
        self._wake = threading.Condition(threading.Lock())
        self._asleep = False
        self._closing = False
        self._batch: list[Request] = []

    # ---- callers' side

    def append(self, prepared: list[Prepared]) -> Appended | Conflict:
        """See `journal.interface.Journal.append`."""
        waiter = Waiter()
        self.submit(Request(prepared, waiter))
        return waiter.wait()

    def cut(self, epoch: str | None = None) -> None:
        """End the active segment, if it holds a record, and start the next, in a new epoch if one is given.

        Raises as `append` does.
        """
        waiter = Waiter()
        self.submit(Request([], waiter, cut=epoch or self.tail.header.epoch))
        waiter.wait()

    def submit(self, request: Request, *, start: bool = True) -> None:
        """Queue it: it is told its answer when step 5 of the module's argument has come, or why it won't.

        Without `start` a committer that sleeps is left asleep until `start` is called, or for a second at most.
        Raises JournalPoisoned (or what poisoned it) and JournalClosed; then it is not queued, and never told.
        """
        with self._wake:
            if self.poisoned is not None:
                raise again(self.poisoned)
            if self._closing:
                raise JournalClosed("the journal is closed")
            self._queue.append(request)
            if self._asleep and start:
                self._asleep = False
                self._wake.notify()

    def start_batch(self) -> None:
        """Commit what was queued without `start`."""
        if not (self._asleep and self._queue):
            return  # who comes to the queue while this is asked finds it, or asks again itself
        with self._wake:
            if self._asleep:
                self._asleep = False
                self._wake.notify()

    def stop(self) -> None:
        """Take no more, answer what is queued, prove the last batch, and end. Waits for all of it."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self.join()

    # ---- the thread

    def run(self) -> None:
        try:
            while self._turn():
                self.beat = time.monotonic()
        except BaseException as error:
            # Whatever it is, callers must not wait for ever, and nothing may be written after a state we don't understand.
            poison = JournalPoisoned(f"the committer failed: {error!r}")
            self._poison(poison)
            _tell(self._batch, lambda _: poison)
            raise

    def _turn(self) -> bool:
        with self._wake:
            if not self._queue and not self._closing:
                self._asleep = True  # until who brings the first request says otherwise: one wake-up is enough
                self._wake.wait(self._idle_s if self._unproven() else max(self._idle_s, 1.0))
                self._asleep = False
            batch = self._take()
            closing = self._closing
        if batch:
            self._commit(batch)
            return True
        if self._unproven() and self.poisoned is None:
            self._prove()
        return not closing

    def _take(self) -> list[Request]:
        batch: list[Request] = []
        size = 0
        while self._queue and (not batch or size < BATCH_MAX):
            request = self._queue.popleft()
            size += sum(one.size for one in request.prepared)
            batch.append(request)
        return batch

    def _unproven(self) -> bool:
        return self.tail.last_kind != SYNCED_KIND and self.tail.seq > 0 and self.full is None

    def _prove(self) -> None:
        """Close the proof: a later line states that everything before it was durable. Never one after itself."""
        self._commit([Request([prepare(Entry(OWN_SUBJECT, SYNCED_KIND, {}))], _nobody)])

    def _commit(self, batch: list[Request]) -> None:
        self._batch = batch
        try:
            if self.poisoned is not None:
                raise self.poisoned
            self.catalogue.check_room()
            for request in batch:
                if request.cut and self.tail.offset > self.tail.header.size:
                    self._rotate(request.cut)
            accepted = [request for request in self._check(batch) if request.prepared]
            if accepted:
                records = self._write(accepted)
                self.full = None
                self._publish(records, Head(self.tail.seq, self.tail.sum))
        except JournalError as error:
            if self.poisoned is None:
                self.full = error
            failed = error
            _tell(batch, lambda request: request.answer if isinstance(request.answer, Conflict) else failed)
        else:
            _tell(batch, lambda request: request.answer or request.pending or Appended(()))
        self._batch = []

    def _check(self, batch: list[Request]) -> list[Request]:
        """The requests whose expectations hold, each against the durable log and the accepted ones before it."""
        known = self._known(batch)
        pending: dict[str, int] = {}
        accepted = []
        seq = self.tail.seq
        for request in batch:
            within: dict[str, int] = {}
            conflict: tuple[str, int, bool] | None = None
            for number, one in enumerate(request.prepared):
                subject, expect = one.entry.subject, one.entry.expect
                if expect is not None:
                    last = within.get(subject) or pending.get(subject) or known[subject]
                    if last != expect:
                        conflict = (subject, last, subject in pending or subject in within)
                        break
                within[subject] = seq + number + 1
            if conflict is None:
                seq += len(request.prepared)
                pending.update(within)
                accepted.append(request)
            elif conflict[2]:
                request.pending = Conflict(conflict[0], conflict[1])
            else:
                request.answer = Conflict(conflict[0], conflict[1])
        return accepted

    def _known(self, batch: list[Request]) -> dict[str, int]:
        subjects = [one.entry.subject for request in batch for one in request.prepared if one.entry.expect is not None]
        if not subjects:
            return {}
        try:
            return self.catalogue.last_of(subjects)
        except sqlite3.Error as error:
            raise JournalWriteFailed(f"the index can't be read: {error}") from error

    def _write(self, accepted: list[Request]) -> list[Durable]:
        """Steps 2 to 5 of the module's argument. Raises JournalError; the log is then as before, or poisoned."""
        self._check_seqs(sum(len(request.prepared) for request in accepted))
        size = sum(one.size for request in accepted for one in request.prepared)
        tail = self.tail
        if tail.offset > tail.header.size and tail.offset + size > self._cut_at:
            self._rotate(tail.header.epoch)
            tail = self.tail
        records, buffer = self._lines(accepted)
        try:
            write_all(self.files, tail.fd, buffer, tail.offset)
        except OSError as error:
            self._cut_back(error)
            raise named(error, self.directory) from error
        began = time.perf_counter()
        try:
            self.files.fdatasync(tail.fd)
        except OSError as error:
            poison = JournalPoisoned(f"the sync of {name_of(tail.header.first)} failed: {error.strerror}")
            self._poison(poison)
            raise poison from error
        took = time.perf_counter() - began
        self._check_name()
        tail.offset += len(buffer)
        tail.seq, tail.sum = records[-1].seq, records[-1].sum
        tail.last_kind = records[-1].prepared.entry.kind
        self._note(records, len(buffer), took)
        seq = records[0].seq
        for request in accepted:
            count = len(request.prepared)
            request.answer = Appended(tuple(range(seq, seq + count)))
            seq += count
        return records

    def _lines(self, accepted: list[Request]) -> tuple[list[Durable], bytes]:
        tail = self.tail
        salted = tail.header.salted
        at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        seq, prev, offset, synced = tail.seq, tail.sum, tail.offset, tail.seq
        if tail.offset == tail.header.size:
            seq, prev = max(seq, tail.header.first - 1), tail.header.sum
        records, lines = [], []
        for request in accepted:
            for one in request.prepared:
                seq += 1
                line, total = finish(one, seq=seq, at=at, synced=synced, prev=prev, salted=salted)
                records.append(Durable(seq, at, synced, prev, total, one, tail.header.first, offset, tail.header.epoch))
                lines.append(line)
                offset += len(line)
                prev = total
        return records, b"".join(lines)

    def _note(self, records: list[Durable], size: int, took: float) -> None:
        figures = self.figures
        figures.batches += 1
        figures.records += len(records)
        figures.bytes += size
        figures.last_sync_s = took
        figures.recent_syncs_s.append(took)
        figures.recent_batches.append(len(records))
        figures.syncs_s.add(took)
        figures.batch_records.add(len(records))
        journal = self.tail.header.journal
        rows: list[Row] = [(one.prepared.entry.subject, one.seq, one.offset) for one in records]
        newest = records[-1]
        position = Position(journal, newest.seq, newest.sum, newest.segment, newest.offset, self.tail.offset)
        self.catalogue.note(rows, position)

    def _check_seqs(self, count: int) -> None:
        """Raises JournalFull if fewer are left: nobody appends so many, but whoever can write the log can state any."""
        if max(self.tail.seq, self.tail.header.first - 1) + count > SEQ_MAX:
            raise JournalFull(f"behind seq {self.tail.seq} no seq is left", hint=NO_SEQ_HINT)

    def _rotate(self, epoch: str) -> None:
        """Start the next segment. Everything before is synced: a batch is not begun before the last one is."""
        self._check_seqs(1)
        tail = self.tail
        header = self._new_segment(epoch=epoch, first=tail.seq + 1)
        fd = self._open(header)
        self.files.close(tail.fd)
        self.tail = Tail(header, fd, self.files.identity(fd), header.size, tail.seq, tail.sum, tail.last_kind)

    def _new_segment(self, *, epoch: str, first: int) -> Header:
        tail = self.tail
        try:
            return write_header(
                self.files,
                self.directory,
                journal=tail.header.journal,
                epoch=epoch,
                first=first,
                after=tail.seq,
                prev=tail.sum,
                salt=self._salt(),
            )
        except OSError as error:
            if isinstance(error, SyncFailed):
                poison = JournalPoisoned(f"the sync of a new segment failed: {error.strerror}")
                self._poison(poison)
                raise poison from error
            if self._may_be_named(first):
                # Renamed, but the directory's sync failed: the name may come back or not, and another try would collide.
                poison = JournalPoisoned(f"the directory's sync failed: {error.strerror}")
                self._poison(poison)
                raise poison from error
            raise named(error, self.directory) from error

    def _may_be_named(self, first: int) -> bool:
        try:
            return name_of(first) in self.files.listdir(self.directory)
        except OSError:
            return True

    def _open(self, header: Header) -> int:
        try:
            return self.files.open(self.directory / name_of(header.first), write=True)
        except OSError as error:
            poison = JournalPoisoned(f"the new segment can't be opened: {error.strerror}")
            self._poison(poison)
            raise poison from error

    def _cut_back(self, cause: OSError) -> None:
        """Leave nothing of a failed batch, durably, before anything else is written or claimed."""
        tail = self.tail
        try:
            self.files.truncate(tail.fd, tail.offset)
            self.files.fdatasync(tail.fd)
        except OSError as error:
            poison = JournalPoisoned(
                f"a write failed ({cause.strerror}), and cutting it back did too: {error.strerror}"
            )
            self._poison(poison)
            raise poison from error

    def _check_name(self) -> None:
        path = self.directory / name_of(self.tail.header.first)
        try:
            same = self.files.identity_at(path) == self.tail.identity
        except OSError:
            same = False
        if not same:
            gone = JournalGone(f"{path} vanished or was replaced while it was written")
            self._poison(gone)
            raise gone

    def _poison(self, error: JournalError) -> None:
        """Nothing is written any more. Everyone who waits is told; `_commit` tells the batch it is in."""
        with self._wake:
            self.poisoned = error
            waiting = list(self._queue)
            self._queue.clear()
        _tell(waiting, lambda _: error)
        self._publish([], Head(self.tail.seq, self.tail.sum))


def _tell(requests: list[Request], answer: Callable[[Request], Answer]) -> None:
    """Answer them all, then call what is to be called after, each once: one wake-up for all who wait in one place."""
    for request in requests:
        request.tell(answer(request))
    for after in {request.after: None for request in requests if request.after is not None}:
        after()


def again(error: JournalError) -> JournalError:
    """A fresh exception of the same kind: one object raised in many threads would mix their tracebacks."""
    return type(error)(str(error), hint=error.hint)


def named(error: OSError, directory: Path) -> JournalError:
    """What the system refused, as the journal's own error, whose hint says what to do."""
    reason = error.strerror or os.strerror(error.errno or errno.EIO)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JournalFull(f"no room for the journal in {directory}: {reason}")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return JournalReadOnly(f"{directory} can't be written: {reason}")
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return JournalGone(f"{directory} vanished: {reason}")
    return JournalWriteFailed(f"writing to {directory} failed: {reason}")
