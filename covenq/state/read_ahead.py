"""Reading ahead of the fold, where state.db is built anew: a thread reads the next records while SQLite writes rows.

SQLite lets other threads run while it works, which is a quarter of the time that a record takes, and verifying and decoding the
record is another. One after the other they would leave the second processor idle.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from queue import Empty, Queue

from journal.records import Record

CHUNK = 250
"""Records that are handed over together: one by one they would cost more than they spare."""
CHUNKS = 8
"""That wait to be folded, at most."""
SWITCH_S = 0.0001
"""Seconds until a thread that computes makes way. By default it is fifty times as long, in which SQLite would be done."""


@contextmanager
def read_ahead(records: Iterator[Record]) -> Iterator[Iterable[Record]]:
    """The records, in their order, read by a thread that ends with the `with`; it raises what reading them does."""
    chunks: Queue[list[Record] | BaseException | None] = Queue(CHUNKS)
    """The last one is None, or why there are no more."""
    stopped = threading.Event()

    def read() -> None:
        end: BaseException | None = None
        try:
            while not stopped.is_set() and (chunk := list(islice(records, CHUNK))):
                chunks.put(chunk)
        except BaseException as error:  # noqa: BLE001 - it is raised where the records are asked for
            end = error
        chunks.put(end)

    def given() -> Generator[Record, None, None]:
        while isinstance(chunk := chunks.get(), list):
            yield from chunk
        if chunk is not None:
            raise chunk

    thread = threading.Thread(target=read, name="read ahead", daemon=True)
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    thread.start()
    try:
        with closing(given()) as handed_over:
            yield handed_over
    finally:
        stopped.set()
        while thread.is_alive():  # it may wait for room for what it has read
            with suppress(Empty):
                chunks.get_nowait()
            thread.join(0.001)
        sys.setswitchinterval(before)
