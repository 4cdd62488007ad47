"""Which row has a key, as long as state.db is built anew and has no index of its keys.

GUIDs, ids of tasks and hashes of bodies are in no order, so in an index each new one is on a page of its own, which is read and
written again for it: of a million deliveries that was most of the time. Here a batch's keys are sorted and written as one table,
sixteen of which are merged into a larger one. Almost every key is new, and a Bloom filter in memory tells so without looking.

A key is only its hash here, and one may be of several keys or of none: who asks looks at the rows that it is given. So what is
found is right whatever the hashes are, forged ones included.

The tables change in the transaction of the rows, so they agree with them after a crash. That they are there says that the
indexes of keys may not be used; `finish` removes them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from operator import itemgetter

_LEVELS = "seen_levels"
_FAN_OUT = 16
_SMALLEST_BITS, _LARGEST_BITS = 1 << 16, 1 << 26
"""Of the filter: 8 MiB at most. Where more keys than it is good for are seen, more of them are looked up."""
_BITS_OF_RECORD = 16
_SIGN = 1 << 63
_LOT = 64
"""Keys of one statement: one by one they take more than twice as long."""


def is_built(conn: sqlite3.Connection) -> bool:
    """Whether the file is being built anew: it has these tables, and not the indexes of its keys."""
    return bool(conn.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (_LEVELS,)).fetchone()[0])


def start(conn: sqlite3.Connection) -> None:
    """Make the list of tables, inside the caller's transaction."""
    conn.execute(f"CREATE TABLE {_LEVELS} (name TEXT PRIMARY KEY, level INTEGER NOT NULL)")


def finish(conn: sqlite3.Connection) -> None:
    """Drop the tables, inside the caller's transaction: the indexes of keys are there."""
    for name in _tables(conn):
        conn.execute(f"DROP TABLE {name}")
    conn.execute(f"DROP TABLE {_LEVELS}")


def delivery_key(hook: str, guid: str) -> int:
    return _hash(f"{hook}.{guid}")


def task_key(id: str) -> int:
    return _number(id, 1)


def attempt_key(task: str, attempt: int) -> int:
    return (_number(task, 1) + 0x9E3779B97F4A7C15 * attempt) % _SIGN


def body_key(sha256: str) -> int:
    return _number(sha256, 0)


class SeenKeys:
    """The keys of the rows in a file that is being built anew, of which `records` records are to be folded."""

    def __init__(self, conn: sqlite3.Connection, records: int) -> None:
        self._conn = conn
        bits = _SMALLEST_BITS
        while bits < min(records * _BITS_OF_RECORD, _LARGEST_BITS):
            bits *= 2
        self._mask = bits - 1
        self._filter = bytearray(bits // 8)
        for name in _tables(conn):
            self._note(row[0] for row in conn.execute(f"SELECT key FROM {name}"))  # noqa: S608 - a name of ours

    def find(self, keys: Iterable[int]) -> list[int]:
        """The seqs of the rows that may have one of these keys."""
        field, mask = self._filter, self._mask
        some = []
        for key in keys:
            one, other = key & mask, (key >> 32) & mask
            if field[one >> 3] >> (one & 7) & 1 and field[other >> 3] >> (other & 7) & 1:
                some.append(key)
        if not some:
            return []
        asked = json.dumps(sorted(some))
        found: set[int] = set()
        for name in _tables(self._conn):
            rows = self._conn.execute(
                f"SELECT {name}.seq FROM json_each(?) asked CROSS JOIN {name} ON {name}.key = asked.value",  # noqa: S608
                (asked,),
            )
            found.update(row[0] for row in rows)
        return sorted(found)

    def add(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Add (key, seq) of new rows, inside the caller's transaction. What is rolled back leaves the filter's bits alone."""
        if not pairs:
            return
        self._note(key for key, _ in pairs)
        name = self._new(0)
        ordered = sorted(pairs, key=itemgetter(0))
        for start in range(0, len(ordered), _LOT):
            lot = ordered[start : start + _LOT]
            values = ", ".join(["(?, ?)"] * len(lot))
            self._conn.execute(f"INSERT OR IGNORE INTO {name} VALUES {values}", [*chain.from_iterable(lot)])  # noqa: S608
        level = 0
        while len(full := _tables(self._conn, level)) >= _FAN_OUT:
            merged = self._new(level + 1)
            union = " UNION ALL ".join(f"SELECT key, seq FROM {one}" for one in full)  # noqa: S608
            self._conn.execute(f"INSERT OR IGNORE INTO {merged} {union} ORDER BY key, seq")
            for one in full:
                self._conn.execute(f"DROP TABLE {one}")
                self._conn.execute(f"DELETE FROM {_LEVELS} WHERE name = ?", (one,))  # noqa: S608
            level += 1

    def _note(self, keys: Iterable[int]) -> None:
        field, mask = self._filter, self._mask
        for key in keys:
            one, other = key & mask, (key >> 32) & mask
            field[one >> 3] |= 1 << (one & 7)
            field[other >> 3] |= 1 << (other & 7)

    def _new(self, level: int) -> str:
        numbers = [int(name.rpartition("_")[2]) for name in _tables(self._conn)]
        name = f"seen_{max(numbers, default=0) + 1}"
        self._conn.execute(f"CREATE TABLE {name} (key INTEGER, seq INTEGER, PRIMARY KEY (key, seq)) WITHOUT ROWID")
        self._conn.execute(f"INSERT INTO {_LEVELS} VALUES (?, ?)", (name, level))  # noqa: S608
        return name


def _tables(conn: sqlite3.Connection, level: int | None = None) -> list[str]:
    rows = conn.execute(f"SELECT name FROM {_LEVELS} WHERE ?1 IS NULL OR level = ?1", (level,))  # noqa: S608
    return [str(row[0]) for row in rows]


def _number(text: str, start: int) -> int:
    """The hash of a text that is one itself, in hexadecimal digits from `start` on, as ids of tasks and sums of bodies are."""
    try:
        return int(text[start : start + 15], 16)
    except ValueError:
        return _hash(text)


@lru_cache(1 << 12)  # each is asked for, and then noted
def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") % _SIGN
