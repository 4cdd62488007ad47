"""Group commit: one thread writes and syncs the queued appends, a batch at a time, and answers them.

The order within a batch, and what depends on it:

1. Each append's `expect` is checked against durable records and the appends before it in this batch.
2. Seq, time, watermark (`synced`, the newest durable seq), `prev` and sum are assigned; one buffer is written at the tracked
   offset. The batch before was synced, so at most one batch is ever in flight.
3. The file is synced, once.
4. The segment's name is checked to mean still the file that was synced (else somebody replaced the directory).
5. Only now the durable head moves, the index and the readers learn of the records, and the callers are answered: Appended,
   and Conflict too where it depends on a record of this very batch. So nobody ever sees a seq that is not synced.

If 2 fails, the file is cut back to the last durable offset and synced, the batch's callers get the error, and the next batch
may try again: nothing of the failed one is left to be found. If that fails as well, or if 3 fails, the journal is poisoned:
the page cache can no longer be trusted, the sync is not tried again, and only a new process, which rewrites the unproven
tail, may go on.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from journal.commit_stats import CommitStats
from journal.errors import (
    JournalClosed,
    JournalError,
    JournalFull,
    JournalGone,
    JournalPoisoned,
    JournalWriteFailed,
    copy_of,
)
from journal.file.catalogue import Catalogue
from journal.file.files import Files, SyncFailed, journal_error, write_all
from journal.file.index import Position, Row
from journal.file.request import Request, Waiter, ignore_answer, resolve_all
from journal.file.segment import name_of, write_header
from journal.file.settings import WriteSettings
from journal.format.codec import Prepared, encode_line, prepare
from journal.format.header import Header
from journal.records import NO_SEQ_HINT, OWN_SUBJECT, SEQ_MAX, Appended, Conflict, Entry, Head

BATCH_MAX = 16 << 20
"""Bytes after which a batch is closed: bounds the buffer and the time to its sync. A single append may be larger."""
SYNCED_KIND = "journal.synced"


@dataclass(slots=True)
class Tail:
    """The end of the log: everything up to `offset` in the segment of `header` is durable."""

    header: Header
    fd: int
    identity: tuple[int, int]
    offset: int
    seq: int
    sum: str
    last_kind: str


class Durable(NamedTuple):
    """One durable record, as passed to `publish`. A tuple, since one is made forevery record before its append is answered."""

    seq: int
    at: str
    synced: int
    prev: str
    sum: str
    prepared: Prepared
    segment: int
    offset: int
    epoch: str


class Committer(threading.Thread):
    """The thread that owns the tail. `append`, `rotate`, `submit`, `start_batch` and `stop` may be called from any other.

    `publish(records, head)` is called with each batch once it is durable, and with no records when the journal is poisoned.
    """

    def __init__(
        self,
        files: Files,
        directory: Path,
        tail: Tail,
        catalogue: Catalogue,
        *,
        publish: Callable[[list[Durable], Head], None],
        settings: WriteSettings,
    ) -> None:
        super().__init__(name="journal-commit", daemon=True)
        self.files = files
        self.directory = directory
        self.tail = tail
        self.catalogue = catalogue
        self.stats = CommitStats()
        self.poisoned: JournalError | None = None
        self.full: JournalError | None = None
        self.beat = time.monotonic()
        """When the loop last completed a turn, by the monotonic clock: the heartbeat that a watchdog checks."""
        self._publish = publish
        self._clock = settings.clock
        self._salt = settings.salt
        self._segment_bytes = settings.segment_bytes
        self._idle_s = settings.idle_s
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

    def rotate(self, epoch: str | None = None) -> None:
        """End the active segment, if it holds a record, and start the next, in a new epoch if one is given.

        Raises as `append` does.
        """
        waiter = Waiter()
        self.submit(Request([], waiter, rotate_to=epoch or self.tail.header.epoch))
        waiter.wait()

    def submit(self, request: Request, *, start: bool = True) -> None:
        """Queue a request. It is answered after step 5 of the module docstring, or when its batch fails.

        Without `start` a committer that sleeps is left asleep until `start_batch` is called, or for a second at most.
        Raises JournalPoisoned (or what poisoned it) and JournalClosed; then it is not queued, and never answered.
        """
        with self._wake:
            if self.poisoned is not None:
                raise copy_of(self.poisoned)
            if self._closing:
                raise JournalClosed("the journal is closed")
            self._queue.append(request)
            if self._asleep and start:
                self._asleep = False
                self._wake.notify()

    def start_batch(self) -> None:
        """Commit what was queued without `start`."""
        if not (self._asleep and self._queue):
            return  # a request that is queued meanwhile is found by the running turn, or its own submitter starts it
        with self._wake:
            if self._asleep:
                self._asleep = False
                self._wake.notify()

    def stop(self) -> None:
        """Refuse new requests, answer the queued ones, append a `journal.synced` record if needed, and end. Waits for all."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self.join()

    # ---- the thread

    def run(self) -> None:
        try:
            while self._run_once():
                self.beat = time.monotonic()
        except BaseException as error:
            # Whatever failed, callers must not wait forever, and nothing may be written after a state we don't understand.
            poison = JournalPoisoned(f"the committer failed: {error!r}")
            self._poison(poison)
            resolve_all(self._batch, lambda _: poison)
            raise

    def _run_once(self) -> bool:
        with self._wake:
            if not self._queue and not self._closing:
                self._asleep = True  # the submitter of the first request clears it: one wake-up is enough
                self._wake.wait(self._idle_s if self._needs_synced_record() else max(self._idle_s, 1.0))
                self._asleep = False
            batch = self._take_batch()
            closing = self._closing
        if batch:
            self._commit(batch)
            return True
        if self._needs_synced_record() and self.poisoned is None:
            self._append_synced_record()
        return not closing

    def _take_batch(self) -> list[Request]:
        batch: list[Request] = []
        size = 0
        while self._queue and (not batch or size < BATCH_MAX):
            request = self._queue.popleft()
            size += sum(one.size for one in request.prepared)
            batch.append(request)
        return batch

    def _needs_synced_record(self) -> bool:
        """Whether no line states yet that the newest batch was durable. A `journal.synced` record itself needs none."""
        return self.tail.last_kind != SYNCED_KIND and self.tail.seq > 0 and self.full is None

    def _append_synced_record(self) -> None:
        """Append a `journal.synced` record: its `synced` states that everything before it was durable."""
        self._commit([Request([prepare(Entry(OWN_SUBJECT, SYNCED_KIND, {}))], ignore_answer)])

    def _commit(self, batch: list[Request]) -> None:
        self._batch = batch
        try:
            if self.poisoned is not None:
                raise self.poisoned
            self.catalogue.check_room()
            for request in batch:
                if request.rotate_to and self.tail.offset > self.tail.header.size:
                    self._rotate(request.rotate_to)
            accepted = [request for request in self._check(batch) if request.prepared]
            if accepted:
                records = self._write(accepted)
                self.full = None
                self._publish(records, Head(self.tail.seq, self.tail.sum))
        except JournalError as error:
            if self.poisoned is None:
                self.full = error
            failed = error
            resolve_all(batch, lambda request: request.answer if isinstance(request.answer, Conflict) else failed)
        else:
            resolve_all(batch, lambda request: request.answer or request.pending or Appended(()))
        self._batch = []

    def _check(self, batch: list[Request]) -> list[Request]:
        """Step 1: the requests whose expectations hold, each against the durable log and the accepted ones before it."""
        known = self._last_seqs(batch)
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

    def _last_seqs(self, batch: list[Request]) -> dict[str, int]:
        subjects = [one.entry.subject for request in batch for one in request.prepared if one.entry.expect is not None]
        if not subjects:
            return {}
        try:
            return self.catalogue.last_of(subjects)
        except sqlite3.Error as error:
            raise JournalWriteFailed(f"the index can't be read: {error}") from error

    def _write(self, accepted: list[Request]) -> list[Durable]:
        """Steps 2 to 5 of the module docstring. Raises JournalError; the log is then as before, or poisoned."""
        self._check_seqs(sum(len(request.prepared) for request in accepted))
        size = sum(one.size for request in accepted for one in request.prepared)
        tail = self.tail
        if tail.offset > tail.header.size and tail.offset + size > self._segment_bytes:
            self._rotate(tail.header.epoch)
            tail = self.tail
        records, buffer = self._format(accepted)
        try:
            write_all(self.files, tail.fd, buffer, tail.offset)
        except OSError as error:
            self._truncate_batch(error)
            raise journal_error(error, self.directory) from error
        began = time.perf_counter()
        try:
            self.files.fdatasync(tail.fd)
        except OSError as error:
            raise self._poison(
                JournalPoisoned(f"the sync of {name_of(tail.header.first)} failed: {error.strerror}")
            ) from error
        took = time.perf_counter() - began
        self._check_name()
        tail.offset += len(buffer)
        tail.seq, tail.sum = records[-1].seq, records[-1].sum
        tail.last_kind = records[-1].prepared.entry.kind
        self.stats.add(len(records), len(buffer), took)
        rows: list[Row] = [(one.prepared.entry.subject, one.seq, one.offset) for one in records]
        newest = records[-1]
        position = Position(tail.header.journal, newest.seq, newest.sum, newest.segment, newest.offset, tail.offset)
        self.catalogue.note(rows, position)
        seq = records[0].seq
        for request in accepted:
            count = len(request.prepared)
            request.answer = Appended(tuple(range(seq, seq + count)))
            seq += count
        return records

    def _format(self, accepted: list[Request]) -> tuple[list[Durable], bytes]:
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
                line, total = encode_line(one, seq=seq, at=at, synced=synced, prev=prev, salted=salted)
                records.append(Durable(seq, at, synced, prev, total, one, tail.header.first, offset, tail.header.epoch))
                lines.append(line)
                offset += len(line)
                prev = total
        return records, b"".join(lines)

    def _check_seqs(self, count: int) -> None:
        """Raises JournalFull if fewer are left: nobody appends so many, but a forged log can state any seq."""
        if max(self.tail.seq, self.tail.header.first - 1) + count > SEQ_MAX:
            raise JournalFull(f"behind seq {self.tail.seq} no seq is left", hint=NO_SEQ_HINT)

    def _rotate(self, epoch: str) -> None:
        """Start the next segment. Everything before it is synced: no batch begins before the previous one is."""
        self._check_seqs(1)
        tail = self.tail
        header = self._new_segment(epoch=epoch, first=tail.seq + 1)
        fd = self._open(header)
        self.files.close(tail.fd)
        self.tail = Tail(header, fd, self.files.identity(fd), header.size, tail.seq, tail.sum, tail.last_kind)

    def _new_segment(self, *, epoch: str, first: int) -> Header:
        """Create it, durably. Raises JournalError; poisoned if it can't be told whether the new name is durable."""
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
                raise self._poison(JournalPoisoned(f"the sync of a new segment failed: {error.strerror}")) from error
            if self._may_be_named(first):
                # Renamed, but the directory's sync failed: the name may come back or not, and another try would collide.
                raise self._poison(JournalPoisoned(f"the directory's sync failed: {error.strerror}")) from error
            raise journal_error(error, self.directory) from error

    def _may_be_named(self, first: int) -> bool:
        """By a call that needs no descriptor: where none is left, nothing was named."""
        try:
            self.files.identity_at(self.directory / name_of(first))
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def _open(self, header: Header) -> int:
        try:
            return self.files.open(self.directory / name_of(header.first), write=True)
        except OSError as error:
            raise self._poison(JournalPoisoned(f"the new segment can't be opened: {error.strerror}")) from error

    def _truncate_batch(self, cause: OSError) -> None:
        """Remove all of a failed batch, durably, before anything else is written or answered."""
        tail = self.tail
        try:
            self.files.truncate(tail.fd, tail.offset)
            self.files.fdatasync(tail.fd)
        except OSError as error:
            raise self._poison(
                JournalPoisoned(f"a write failed ({cause.strerror}), and cutting it back did too: {error.strerror}")
            ) from error

    def _check_name(self) -> None:
        path = self.directory / name_of(self.tail.header.first)
        try:
            same = self.files.identity_at(path) == self.tail.identity
        except OSError:
            same = False
        if not same:
            raise self._poison(JournalGone(f"{path} vanished or was replaced while it was written"))

    def _poison(self, error: JournalError) -> JournalError:
        """Write nothing any more. The queued requests fail here; those of the current batch in `_commit`. → the error."""
        with self._wake:
            self.poisoned = error
            waiting = list(self._queue)
            self._queue.clear()
        resolve_all(waiting, lambda _: error)
        self._publish([], Head(self.tail.seq, self.tail.sum))
        return error
