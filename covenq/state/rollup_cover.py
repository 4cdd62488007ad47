"""Counts of the deliveries of a span of time, out of rollups where there are any, and out of the rows elsewhere.

Blocks are looked at from the highest level down. One that lies wholly inside the span is taken as a whole; one across an edge of
it gives way to its parts, and at level 0 to its rows. Time alone says what is inside: a clock that was set back has deliveries
of an earlier time come later, and a block is judged only by its own.

By interval of time the same again: a block within one interval is a number, and one across a boundary gives way to its parts.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from covenq.state import rollups
from covenq.state.counts import Counts, Timeline, count, count_times

_NEWEST = "SELECT max(seq) FROM webhook_deliveries"
_AS_MANY = "SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE received_at >= ? AND received_at < ? LIMIT ?)"
# The + keeps SQLite from reading all of the span by the index of times: few rows have a seq in these ranges.
_ROWS = "d.seq BETWEEN ? AND ? AND +d.received_at >= ? AND +d.received_at < ?"
IN_SPAN = "d.received_at >= ? AND d.received_at < ?"

FEW = 16
"""Where fewer than one in so many seqs that have no rollup is a delivery of the span, the index of times finds them sooner."""


@dataclass(slots=True)
class _Cover:
    """What a span is counted by."""

    whole: list[tuple[int, int]] = field(default_factory=list)
    """Rollups: level and block."""
    rows: list[tuple[int, int]] = field(default_factory=list)
    """First and last seq, in order."""
    times: list[tuple[int, int]] = field(default_factory=list)
    """As `rows`: they are counted, but for their intervals."""


def count_span(conn: sqlite3.Connection, since: str, until: str, counts: Counts, timeline: Timeline) -> None:
    """Add the deliveries received in [since, until), and their tasks. `conn` is in a transaction: it is read several times."""
    (newest,) = conn.execute(_NEWEST).fetchone()
    if newest is None:
        return
    blocks = Timeline(timeline.starts)
    cover = _cover(conn, int(newest), since, until, blocks)
    seqs = sum(last - first + 1 for first, last in cover.rows)
    few = seqs // FEW
    if few and conn.execute(_AS_MANY, (since, until, few)).fetchone()[0] < few:
        count(conn, IN_SPAN, (since, until), counts, timeline)
        return
    timeline.deliveries.update(blocks.deliveries)
    timeline.failed.update(blocks.failed)
    for level, block in cover.whole:
        rollups.add_counts(conn, level, block, counts)
    for first, last in cover.rows:
        count(conn, _ROWS, (first, last, since, until), counts, timeline)
    for first, last in cover.times:
        count_times(conn, _ROWS, (first, last, since, until), timeline)


def _cover(conn: sqlite3.Connection, newest: int, since: str, until: str, timeline: Timeline) -> _Cover:
    """Adds the blocks that lie within one interval to the timeline."""
    found = _Cover()
    asked: list[tuple[int, bool]] = [(block, False) for block in range(_last(newest, rollups.TOP) + 1)]
    for level in range(rollups.TOP, -1, -1):
        known = rollups.at_level(conn, level, [block for block, _ in asked])
        parts: list[tuple[int, bool]] = []
        for block, counted in asked:
            rollup = known.get(block)
            if rollup is not None:
                if rollup.oldest is None or rollup.newest is None or rollup.newest < since or rollup.oldest >= until:
                    continue
                if since <= rollup.oldest and rollup.newest < until:
                    if not counted:
                        found.whole.append((level, block))
                        counted = True
                    interval = timeline.interval(rollup.oldest)
                    if interval == timeline.interval(rollup.newest):
                        timeline.add(interval, rollup.deliveries, rollup.failed)
                        continue
            if level:
                parts += [(part, counted) for part in rollups.parts_of(block) if part <= _last(newest, level - 1)]
            else:
                _append(found.times if counted else found.rows, rollups.seqs_of(0, block))
        asked = parts
    return found


def _last(newest: int, level: int) -> int:
    """The block of that level that the newest delivery is in."""
    return newest >> rollups.BITS + rollups.FAN_OUT_BITS * level


def _append(ranges: list[tuple[int, int]], one: tuple[int, int]) -> None:
    if ranges and ranges[-1][1] + 1 == one[0]:
        ranges[-1] = (ranges[-1][0], one[1])
    else:
        ranges.append(one)
