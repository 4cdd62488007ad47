"""What the engine knows of its durable records: the newest seq of each subject, and where each line stands.

Fresh rows are kept in memory until the index on disk holds them, so neither an append nor its answer waits for SQLite. The
rows are written in the background, many in one transaction. Only durable records are ever noted here, so nothing that is
looked up can vanish in a crash.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from journal.errors import JournalFull
from journal.file.index import Index, Position, Row, remove_index

T = TypeVar("T")

BACKLOG_MAX = 200_000
"""Rows that may wait for the index. When its disk takes no more, appends are refused rather than memory filled."""
_LOTS = 256
"""Batches of the log that go into one transaction of the index."""


class Catalogue:
    """Lookups from any thread; `note` from the committer alone. One thread of its own writes the index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._inode = index.path.stat().st_ino
        self._readers = threading.local()
        self._open_readers: list[Index] = []
        self._fresh: dict[str, int] = {}
        self._places: dict[int, int] = {}
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
        found = self._fresh.get(subject)
        return self._ask(lambda index: index.last(subject)) if found is None else found

    def last_of(self, subjects: list[str]) -> dict[str, int]:
        """The newest durable seqs of all of these; 0 where there is none. Raises sqlite3.Error."""
        fresh = self._fresh
        found = {subject: fresh.get(subject, 0) for subject in subjects}
        unknown = [subject for subject, seq in found.items() if not seq]
        if unknown:
            found.update(self._ask(lambda index: index.last_of(unknown)))
        return found

    def place(self, seq: int) -> int | None:
        """Where the line stands in its segment: a hint. None if not known."""
        found = self._places.get(seq)
        if found is not None:
            return found
        try:
            return self._ask(lambda index: index.place(seq))
        except sqlite3.Error:
            return None  # without the hint the segment is read from its start

    def _ask(self, question: Callable[[Index], T]) -> T:
        """A broken index must not answer, and not outlive this process: it is unlinked, and the next opening builds it anew."""
        try:
            return question(self._reader())
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
                self._fresh[subject] = seq
                self._places[seq] = offset
            self._waiting.append((rows, position))
            self._backlog += len(rows)
            if self._idle:
                self._wake.notify()

    def move(self, places: list[tuple[int, int]]) -> None:
        """A segment was rewritten: its lines stand elsewhere now. Best effort; a stale place is found out when followed."""
        with self._lock:
            for seq, place in places:
                if seq in self._places:
                    self._places[seq] = place
        try:
            index = Index(self._index.path)
        except sqlite3.Error:
            return  # the places in it are stale now, and will be found out
        try:
            index.begin()
            index.move(places)
            index.db.execute("COMMIT")
        except sqlite3.Error:
            index.rollback()  # as above
        finally:
            index.close()

    def close(self) -> None:
        """Write what waits, as far as the disk allows, and close. What is left out is found again at the next open."""
        with self._lock:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        for reader in self._open_readers:
            reader.close()
        self._index.close()

    def _reader(self) -> Index:
        reader: Index | None = getattr(self._readers, "index", None)
        if reader is None:
            reader = Index(self._index.path, readonly=True)
            if not self._is_ours():
                # An index that somebody removed and another process began anew would answer "new" for everything.
                reader.close()
                raise sqlite3.DatabaseError("the index was replaced")
            self._readers.index = reader
            with self._lock:
                self._open_readers.append(reader)
        return reader

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
                lots = list(islice(self._waiting, _LOTS))
                closing = self._closing
            if not lots:
                return
            try:
                self._index.begin()
                self._index.add(row for rows, _ in lots for row in rows)
                self._index.commit(lots[-1][1])
                self.error = None
            except sqlite3.Error as error:
                self.error = str(error)
                self._index.rollback()
                if closing:
                    return
                self._rest(1.0)
            else:
                self._forget(lots)
                # Batches come in bursts: a short rest makes one transaction of many.
                self._rest(0.05)

    def _rest(self, seconds: float) -> None:
        with self._lock:
            if not self._closing:
                self._wake.wait_for(lambda: self._closing, seconds)

    def _forget(self, lots: list[tuple[list[Row], Position]]) -> None:
        with self._lock:
            for rows, _ in lots:
                self._waiting.popleft()
                self._backlog -= len(rows)
                for subject, seq, _offset in rows:
                    self._places.pop(seq, None)
                    if self._fresh.get(subject) == seq:
                        del self._fresh[subject]
