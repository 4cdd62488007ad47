"""Bounds on what a page reads: for how long, and how many at a time.

Who reads a page types filters as they come to mind, and sees no plan of them; one that has to look at every row of a million, or
into every payload, ends with a sentence. A program that asks the API may wait.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

from covenq.errors import TookTooLong, TooMany
from covenq.operate.inspect.view import ReadableJournal
from journal.records import Head, Record

READ_S = 5.0
"""Seconds in which a page has read what it shows."""
READS_MAX = 4
"""Pages that read at a time: fewer than the threads that the listener has beside those that wait (`daemon.listeners`)."""
QUEUE_S = 2.0
"""Seconds that one waits for its turn."""
_STEPS = 10_000
"""Instructions of SQLite's between two looks at the clock."""


class Turns:
    """At most `most` at a time. Methods may be called from any thread."""

    def __init__(self, most: int = READS_MAX, wait_s: float = QUEUE_S) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._wait_s = wait_s

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises TooMany."""
        if not self._free.acquire(timeout=self._wait_s):
            raise TooMany("several pages are being read already")
        try:
            yield
        finally:
            self._free.release()


class BoundedRecords:
    """A journal that is read until `check` raises."""

    def __init__(self, records: ReadableJournal, check: Callable[[], None]) -> None:
        self._records = records
        self._check = check

    @property
    def epoch(self) -> str:
        return self._records.epoch

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        for record in self._records.read(after, only, payloads=payloads):
            self._check()
            yield record

    def get(self, seq: int) -> Record | None:
        self._check()
        return self._records.get(seq)

    def head(self) -> Head:
        return self._records.head()


@contextmanager
def bounded(
    conn: sqlite3.Connection,
    records: ReadableJournal,
    *,
    seconds: float = READ_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[BoundedRecords]:
    """The records to read beside `conn`; the queries of both end after so many seconds. Raises TookTooLong."""
    deadline = monotonic() + seconds
    late = TookTooLong(f"this takes longer than {seconds:g} s to read")

    def is_late() -> bool:
        return monotonic() > deadline

    def check() -> None:
        if is_late():
            raise late

    conn.set_progress_handler(is_late, _STEPS)
    try:
        yield BoundedRecords(records, check)
    except sqlite3.OperationalError:
        check()
        raise
    finally:
        conn.set_progress_handler(None, 0)
