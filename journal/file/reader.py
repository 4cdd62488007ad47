"""A read-only journal, whether or not another process is writing it.

How far may one read? With a daemon: up to the head that it reports (`upto`), and from then on up to what it says that it has
synced (`advance`): it says so only after the sync, and what was durable stays so. Without one: up to the witness; bytes beyond it
were in flight and may never have been acknowledged, and what the page cache shows of them may not be on the medium. A reader
that can take the lock may adopt that tail as an opening would: the linked records that verify are rewritten over themselves
and synced, and are then as durable as the rest (`adopt=True`). Reading cuts nothing and appends nothing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from journal.errors import JournalClosed, JournalDamaged, JournalGone
from journal.file.backup import backup_witness
from journal.file.cursor import Cursor
from journal.file.examine import Examination, belongs, examine
from journal.file.files import Files, OsFiles
from journal.file.index import INDEX_NAME, Index, Position
from journal.file.lock import DirectoryLock
from journal.file.recovery import rewrite
from journal.file.scan import find_record, read_records
from journal.file.segment import SegmentFile, list_segments, name_of
from journal.format.header import GENESIS
from journal.presence import exists, is_directory
from journal.records import Damage, Entry, Head, Record, Witness


class JournalReader:
    """`journal.interface.Reader` of a directory. `damage` is what the examination found, if any.

    With damage, everything before it can still be read: an operator needs that most when something is broken.
    """

    def __init__(
        self,
        files: Files,
        directory: Path,
        *,
        journal: str,
        epoch: str,
        head: int,
        index: Index | None,
        lock: DirectoryLock | None,
        damage: Sequence[Damage],
    ) -> None:
        self.directory = directory
        self.damage = tuple(damage)
        self._files = files
        self._id, self._epoch = journal, epoch
        self._index = index
        self._lock = lock
        self._cursor = Cursor(files, directory, self.offset_of)
        self._moved = threading.Condition()
        self._seq, self._known, self._closed = head, Head(0, GENESIS), False
        """The head's seq, and the newest head of which the sum is known."""

    @property
    def id(self) -> str:
        return self._id

    @property
    def epoch(self) -> str:
        """That of the log's end; "" for a backup, which gets its own epoch at its first opening."""
        return self._epoch

    @property
    def locked(self) -> bool:
        """Whether this reader holds the lock: nobody else is writing, and the caches beside the log may be written."""
        return self._lock is not None

    def unlock(self) -> None:
        """Give the lock back, for others to write: what this reader has found proven stays so. May be repeated."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    @property
    def durability(self) -> Literal["fsync"]:
        return "fsync"

    def append(self, entries: Sequence[Entry]) -> NoReturn:
        raise JournalClosed("this journal is open for reading only")

    def head(self) -> Head:
        """Its sum is that of the record read last, if it is that one, or is read now. Raises JournalDamaged."""
        seq, known = self._seq, self._known
        if known.seq == seq:
            return known
        head = self._cursor.last
        if head is None or head.seq != seq:
            found = self._cursor.find(seq)
            head = Head(seq, found.sum)
        self._known = head
        return head

    def advance(self, seq: int) -> None:
        """See `journal.interface.Reader.advance`."""
        with self._moved:
            if seq > self._seq:
                self._seq = seq
                self._moved.notify_all()

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        if payloads:
            return read_records(self._files, self.directory, after, self._seq, self.offset_of, only)
        if only is None:
            return self._cursor.read(after, self._seq)
        return self._cursor.select(after, self._seq, only)

    def get(self, seq: int) -> Record | None:
        if not 0 < seq <= self._seq:
            return None
        return find_record(self._files, self.directory, seq, self.offset_of(seq))

    def last(self, subject: str) -> Record | None:
        """By the index as far as it goes, by reading on from there; without an index, by reading everything."""
        newest, after = 0, 0
        if self._index is not None:
            position = self._index.position()
            if position is not None and position.journal == self._id:
                newest, after = self._index.last(subject), min(position.seq, self._seq)
        for record in self.read(after, payloads=False):
            if record.subject == subject:
                newest = record.seq
        return self.get(newest) if newest else None

    def wait(self, after: int, timeout: float | None) -> bool:
        """See `journal.interface.Journal.wait`; only `advance` moves a reader's head."""
        with self._moved:
            self._moved.wait_for(lambda: self._seq > after or self._closed, timeout)
            return self._seq > after

    def close(self) -> None:
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        if self._index is not None:
            self._index.close()
        self.unlock()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def offset_of(self, seq: int) -> int | None:
        """Where the record's line starts in its segment, by the index: a hint. None if it has none."""
        if self._index is None:
            return None
        try:
            return self._index.offset_of(seq)
        except sqlite3.Error:
            return None  # without the hint the segment is read from its start


def open_reader(
    directory: Path,
    *,
    witnesses: Sequence[Witness] = (),
    upto: int | None = None,
    adopt: bool = False,
    files: Files | None = None,
) -> JournalReader:
    """A reader up to `upto`, or else up to the witness, or else (`adopt`) to the end of what links and verifies.

    `adopt` takes the lock and holds it until `close`. Raises JournalGone if there is no journal, JournalLocked (adopt, and
    another process holds it), FormatUnknown. Damage is not raised but reported by `.damage`.
    """
    files = files or OsFiles()
    if not is_directory(directory):
        raise JournalGone(f"{directory} is not there", hint="Nothing was received yet; start with `covenq serve`.")
    lock = DirectoryLock(directory) if adopt else None
    index = None
    try:
        index = _open_index(directory)
        ends = backup_witness(files, directory)
        witnesses = witnesses if ends is None else [*witnesses, ends]
        if not list_segments(files, directory) and not witnesses:
            return JournalReader(files, directory, journal="", epoch="", head=0, index=index, lock=lock, damage=())
        if upto is not None:
            return _reader_upto(files, directory, index, upto)
        position = _usable_position(files, directory, index)
        found = examine(files, directory, position=position, witnesses=witnesses)
        if adopt and not found.damage:
            _adopt(files, directory, found)
        reader = _reader_of(files, directory, found, index, lock, adopted=adopt and not found.damage)
        if ends is not None:
            reader._epoch = ""
        return reader
    except BaseException:
        if index is not None:
            index.close()
        if lock is not None:
            lock.release()
        raise


def _open_index(directory: Path) -> Index | None:
    path = directory / INDEX_NAME
    if not exists(path):
        return None
    try:
        return Index(path, readonly=True)
    except sqlite3.Error:
        return None  # a cache: without it reading is slower, not wrong


def _usable_position(files: Files, directory: Path, index: Index | None) -> Position | None:
    """The index's position if it is one of this journal."""
    if index is None:
        return None
    try:
        position = index.position()
    except sqlite3.Error:
        return None
    segments = list_segments(files, directory)
    if position is None or not segments:
        return position
    return position if belongs(files, directory, segments[0], position) else None


def _reader_upto(files: Files, directory: Path, index: Index | None, upto: int) -> JournalReader:
    segments = list_segments(files, directory)
    with SegmentFile(files, directory, segments[-1]) as segment:
        header, _ = segment.header()
    if header is None:
        damage = Damage("bad header", name_of(segments[-1]), 0, None, None, "neither copy of the header verifies")
        raise JournalDamaged([damage])
    return JournalReader(
        files,
        directory,
        journal=header.journal,
        epoch=header.epoch,
        head=upto,
        index=index,
        lock=None,
        damage=(),
    )


def _adopt(files: Files, directory: Path, found: Examination) -> None:
    """Make the unproven bytes that link and verify durable, as an opening does, before any reader sees them."""
    _, end = found.unmended or (found.seq, found.end)
    if found.header is None or end <= found.unproven_from:
        return
    fd = files.open(directory / name_of(found.segment), write=True)
    try:
        rewrite(files, fd, found.unproven_from, end)
        files.fdatasync(fd)
    finally:
        files.close(fd)


def _reader_of(
    files: Files,
    directory: Path,
    found: Examination,
    index: Index | None,
    lock: DirectoryLock | None,
    *,
    adopted: bool,
) -> JournalReader:
    """A reader up to the last whole record that was found, or, unless the tail was adopted, to the last that is proven."""
    whole = found.unmended[0] if found.unmended else found.seq  # only an opening mends a missing newline
    seq = whole if adopted else min(whole, found.proven)
    journal, epoch = ("", "") if found.header is None else (found.header.journal, found.header.epoch)
    reader = JournalReader(
        files,
        directory,
        journal=journal,
        epoch=epoch,
        head=seq,
        index=index,
        lock=lock,
        damage=found.damage,
    )
    newest = reader.get(seq)
    reader._known = Head(newest.seq, newest.sum) if newest is not None else Head(0, GENESIS)
    reader._seq = reader._known.seq
    return reader
