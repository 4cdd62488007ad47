"""Rollups: counts of blocks of deliveries, made after they were folded, so that statistics needn't read every row.

A block of level 0 is 2^10 seqs, and one of each level above is eight blocks of the level below. A rollup has the counts of the
deliveries whose record is in its block, and of their tasks. Whoever folds makes them later, apart from the fold of records
(`covenq.state.rollup_upkeep`), and any of them may be missing: then the rows are counted.

One that is there is right, because the transaction that changes what is counted of a row removes the rollups that it is in, on
all levels. New rows are at the end, past every block that is full. So a block that has a rollup has all of its parts', too, and
what an erasure clears is gone from them, as it is from the rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from covenq.model.rows import DeliveryRow, TaskRow
from covenq.state.counts import Counts, count
from covenq.state.rows import Rows

BITS = 10
"""Of the seqs in a block of level 0: some 280 deliveries, which are counted in a millisecond."""
FAN_OUT_BITS = 3
TOP = 4
"""The highest level: 4 million seqs, a million deliveries."""

_REMOVE = "DELETE FROM rollups WHERE level = ? AND block = ?"
_PARTS = """SELECT deliveries, failed, oldest, newest, counts FROM rollups
    WHERE level = ? AND block BETWEEN ? AND ? ORDER BY block"""
_INSERT = "INSERT OR REPLACE INTO rollups (level, block, deliveries, failed, oldest, newest, counts) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SPAN = "SELECT min(received_at), max(received_at) FROM webhook_deliveries WHERE seq BETWEEN ? AND ?"
_AT_LEVEL = """SELECT r.block, r.deliveries, r.failed, r.oldest, r.newest FROM json_each(?) asked
    CROSS JOIN rollups r ON r.level = ? AND r.block = asked.value"""


class Rollup(msgspec.Struct, frozen=True, array_like=True):
    """What is told of a rollup without reading its counts."""

    deliveries: int
    failed: int
    oldest: str | None
    """The least `received_at`, None where there are no deliveries: clocks are set back, so it need not be the first one's."""
    newest: str | None


def seqs_of(level: int, block: int) -> tuple[int, int]:
    """The first and the last seq of a block."""
    bits = BITS + FAN_OUT_BITS * level
    return block << bits, ((block + 1) << bits) - 1


def parts_of(block: int) -> range:
    """The blocks of the level below."""
    return range(block << FAN_OUT_BITS, (block + 1) << FAN_OUT_BITS)


# ---- removal, by the fold


def changed_blocks(rows: Rows) -> set[int]:
    """The blocks of level 0 in which these changes change what is counted."""
    loaded, found = rows.loaded, set[int]()
    for seq, delivery in rows.changed_deliveries.items():
        old = loaded.get(seq)  # None of a new one: it is past every block that is full
        if isinstance(old, DeliveryRow) and (old.state != delivery.state or old.duplicates != delivery.duplicates):
            found.add(seq >> BITS)
    for seq, task in rows.changed_tasks.items():
        if task.delivery_seq is None:
            continue
        old = loaded.get(seq)
        if (
            not isinstance(old, TaskRow)
            or old.state != task.state
            or old.attempts != task.attempts
            or old.delivery_seq != task.delivery_seq
        ):
            found.add(task.delivery_seq >> BITS)
    return found


def blocks_between(ranges: Iterable[tuple[int, int]]) -> set[int]:
    """The blocks of level 0 that have a seq of these ranges, which are (first, last)."""
    return {block for low, high in ranges for block in range(low >> BITS, (high >> BITS) + 1)}


def remove(conn: sqlite3.Connection, blocks: Iterable[int]) -> None:
    """Remove the rollups of these blocks of level 0, and of those that they are part of."""
    gone = {(level, block >> FAN_OUT_BITS * level) for block in blocks for level in range(TOP + 1)}
    conn.executemany(_REMOVE, sorted(gone))


# ---- making


def missing(conn: sqlite3.Connection, folded: int) -> set[int]:
    """The blocks of level 0 that have no rollup and are full: no record that is folded later makes a row in them."""
    full = (folded + 1) >> BITS
    return {*range(full)} - {int(row[0]) for row in conn.execute("SELECT block FROM rollups WHERE level = 0")}


def make(conn: sqlite3.Connection, block: int) -> None:
    """Make the rollup of a full block of level 0, and those that it was the last part of, inside the caller's transaction."""
    first, last = seqs_of(0, block)
    counts = Counts()
    count(conn, "d.seq BETWEEN ? AND ?", (first, last), counts)
    oldest, newest = conn.execute(_SPAN, (first, last)).fetchone()
    _insert(conn, 0, block, counts, oldest, newest)
    for level in range(TOP):
        parts = parts_of(block >> FAN_OUT_BITS)
        found = conn.execute(_PARTS, (level, parts[0], parts[-1])).fetchall()
        if len(found) < len(parts):
            return
        block >>= FAN_OUT_BITS
        counts = Counts()
        for part in found:
            counts.add_text(part[4])
        each = [_rollup(part[:4]) for part in found]
        oldest = min((one.oldest for one in each if one.oldest is not None), default=None)
        newest = max((one.newest for one in each if one.newest is not None), default=None)
        _insert(conn, level + 1, block, counts, oldest, newest)


def _insert(
    conn: sqlite3.Connection, level: int, block: int, counts: Counts, oldest: str | None, newest: str | None
) -> None:
    deliveries, failed = counts.states.total(), counts.states["failed"]
    conn.execute(_INSERT, (level, block, deliveries, failed, oldest, newest, counts.text()))


# ---- reading


def at_level(conn: sqlite3.Connection, level: int, blocks: Sequence[int]) -> dict[int, Rollup]:
    """Those of these blocks that have a rollup."""
    asked = f"[{','.join(map(str, blocks))}]"
    return {row[0]: _rollup(row[1:]) for row in conn.execute(_AT_LEVEL, (asked, level))}


def add_counts(conn: sqlite3.Connection, level: int, block: int, counts: Counts) -> None:
    """Add the counts of a rollup that is there."""
    row = conn.execute("SELECT counts FROM rollups WHERE level = ? AND block = ?", (level, block)).fetchone()
    counts.add_text(row[0])


def _rollup(values: Sequence[object]) -> Rollup:
    """Raises sqlite3.DatabaseError where they are not as `make` writes them."""
    try:
        return msgspec.convert(values, Rollup)
    except msgspec.ValidationError as error:
        raise sqlite3.DatabaseError(f"a rollup is not as it was made: {error}") from error
