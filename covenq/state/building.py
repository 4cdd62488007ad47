"""Folding batches into state.db, also into one that is built anew from a long journal, and then making what that was spared.

A file that is built anew has `covenq.state.seen` instead of the indexes that the fold finds rows by, and none that only readers
need. Each is made when all is folded, by sorting once: row by row it would be written at random, many times over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from covenq.state import schema, seen
from covenq.state.fold import fold
from covenq.state.seen import SeenKeys
from journal.records import Record

CACHE_KIB = 16 << 10
"""Of the pages of a file that is folded into."""
BUILDING_CACHE_KIB = 8 << 10
"""While it is built anew: what is written is at the end of everything, and an index is sorted in as much memory again."""


class Building:
    """The fold into one file. The caller has each call in a transaction of its own."""

    def __init__(self, conn: sqlite3.Connection, records: int) -> None:
        """`records` are in the journal, as far as it goes now."""
        self._conn = conn
        self._seen = SeenKeys(conn, records) if seen.is_built(conn) else None
        self.unfinished = self._seen is not None or bool(schema.missing_indexes(conn))
        """Whether something is still missing that `finish_one` makes."""
        self.changed: set[int] = set()
        """The blocks that `fold` has returned since somebody took them out: of each the rollup is missing, if it is full."""
        if self.unfinished:
            conn.execute(f"PRAGMA cache_size = -{BUILDING_CACHE_KIB}")

    def fold(self, records: Sequence[Record]) -> None:
        self.changed |= fold(self._conn, records, self._seen)

    def finish_one(self) -> None:
        """Make one of the things that are missing. All that is to be folded is folded."""
        if self._seen is not None:
            keys = schema.missing_indexes(self._conn, keys_only=True)
            if keys:
                self._conn.execute(keys[0])
                return
            seen.finish(self._conn)  # before the other indexes: they take its pages
            schema.count_by_triggers(self._conn)
            self._seen = None
        missing = schema.missing_indexes(self._conn)
        if missing:
            self._conn.execute(missing[0])
        self.unfinished = len(missing) > 1
        if not self.unfinished:
            self._conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
