"""The index with a write-behind buffer: the newest seq of each subject, and the offset of each record's line.

New rows stay in memory until the index on disk holds them, so neither an append nor its answer waits for SQLite. They are
written in the background, many in one transaction. Only durable records are ever noted here, so nothing that is looked up
can vanish in a crash.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from journal.errors import JournalFull
from journal.file.index import Index, Position, Row, remove_index

T = TypeVar("T")

BACKLOG_MAX = 200_000
"""Rows that may wait for the index. When its disk takes no more, appends are refused rather than memory filled."""
KEPT_MAX = 4
"""Connections for look-ups that are kept open when nobody uses them."""
BATCHES_MAX = 256
"""Batches of the log that go into one transaction of the index."""


class Catalogue:
    """Lookups from any thread; `note` from the committer alone. One thread of its own writes the index.

    Who looks something up has a connection to itself meanwhile. A few are kept, and not one for each thread that ever asked: each
    has two descriptors.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._inode = index.path.stat().st_ino
        self._kept: list[Index] = []
        """Connections for the next look-ups."""
        self._unwritten: dict[str, int] = {}
        self._offsets: dict[int, int] = {}
        self._waiting: deque[tuple[list[Row], Position]] = deque()
        self._backlog = 0
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._closing = False
        self._idle = False
        self.error: str | None = None
        """Why the index could not be written at the last try, or None. It is tried again."""
        self._thread = threading.Thread(target=self._run, name="journal-index", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Rows that wait for the index on disk."""
        return self._backlog

    def last(self, subject: str) -> int:
        """The subject's newest durable seq; 0 if it has none. Raises sqlite3.Error."""
        found = self._unwritten.get(subject)
        return self._query(lambda index: index.last(subject)) if found is None else found

    def last_of(self, subjects: list[str]) -> dict[str, int]:
        """The newest durable seqs of all of these; 0 where there is none. Raises sqlite3.Error."""
        unwritten = self._unwritten
        found = {subject: unwritten.get(subject, 0) for subject in subjects}
        unknown = [subject for subject, seq in found.items() if not seq]
        if unknown:
            found.update(self._query(lambda index: index.last_of(unknown)))
        return found

    def offset_of(self, seq: int) -> int | None:
        """Where the record's line starts in its segment: a hint (`journal.file.index`). None if not known."""
        found = self._offsets.get(seq)
        if found is not None:
            return found
        try:
            return self._query(lambda index: index.offset_of(seq))
        except sqlite3.Error:
            return None  # without the hint the segment is read from its start

    def _query(self, question: Callable[[Index], T]) -> T:
        """Ask this thread's connection; remove a broken index.

        A broken index must not answer, and not outlive this process: it is removed, and the next opening rebuilds it.
        """
        try:
            reader = self._reader()
            try:
                return question(reader)
            finally:
                self._release(reader)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            remove_index(self._index.path)
            raise

    def check_room(self) -> None:
        """Raises JournalFull if the index has fallen so far behind that noting more would fill memory."""
        if self._backlog > BACKLOG_MAX:
            raise JournalFull(f"the index can't be written: {self.error}")

    def note(self, rows: list[Row], position: Position) -> None:
        """These records are durable, and the log goes on at `position`."""
        with self._lock:
            for subject, seq, offset in rows:
                self._unwritten[subject] = seq
                self._offsets[seq] = offset
            self._waiting.append((rows, position))
            self._backlog += len(rows)
            if self._idle:
                self._wake.notify()

    def move(self, offsets: list[tuple[int, int]]) -> None:
        """Record the new (seq, offset) of the lines of a segment that was rewritten.

        Best effort; a stale offset is noticed when it is used.
        """
        with self._lock:
            for seq, offset in offsets:
                if seq in self._offsets:
                    self._offsets[seq] = offset
        try:
            index = Index(self._index.path)
        except sqlite3.Error:
            return  # its offsets are stale now, which is noticed when they are used
        try:
            index.begin()
            index.move(offsets)
            index.db.execute("COMMIT")
        except sqlite3.Error:
            index.rollback()  # as above
        finally:
            index.close()

    def close(self) -> None:
        """Write the waiting rows, as far as the disk allows, and close. The next opening reads the others from the log."""
        with self._lock:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        while self._kept:
            self._kept.pop().close()
        self._index.close()

    def _reader(self) -> Index:
        """A connection that nobody uses: one that is kept, or a new one."""
        with suppress(IndexError):
            return self._kept.pop()
        reader = Index(self._index.path, readonly=True)
        try:
            if not self._is_ours():
                # An index that somebody removed and another process created again would answer "new" for everything.
                raise sqlite3.DatabaseError("the index was replaced")
        except BaseException:
            reader.close()
            raise
        return reader

    def _release(self, reader: Index) -> None:
        with self._lock:
            if not self._closing and len(self._kept) < KEPT_MAX:
                self._kept.append(reader)
                return
        reader.close()

    def _is_ours(self) -> bool:
        try:
            return self._index.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closing:
                    self._idle = True
                    self._wake.wait()
                    self._idle = False
                batches = list(islice(self._waiting, BATCHES_MAX))
                closing = self._closing
            if not batches:
                return
            try:
                self._index.begin()
                self._index.add(row for rows, _ in batches for row in rows)
                self._index.commit(batches[-1][1])
                self.error = None
            except sqlite3.Error as error:
                self.error = str(error)
                self._index.rollback()
                if closing:
                    return
                self._pause(1.0)
            else:
                self._drop_written(batches)
                # Subjects are spread over the whole index: a pause makes one transaction of many, and a page is written once.
                self._pause(0.25)

    def _pause(self, seconds: float) -> None:
        with self._lock:
            if not self._closing:
                self._wake.wait_for(lambda: self._closing, seconds)

    def _drop_written(self, batches: list[tuple[list[Row], Position]]) -> None:
        with self._lock:
            for rows, _ in batches:
                self._waiting.popleft()
                self._backlog -= len(rows)
                for subject, seq, _offset in rows:
                    self._offsets.pop(seq, None)
                    if self._unwritten.get(subject) == seq:
                        del self._unwritten[subject]
