"""The order in which GitHub sent deliveries: `sent_at`, a moment in milliseconds since 1970, of each and of its tasks.

Tasks of one key start in this order, and none is superseded by what was sent before it. What comes by webhook comes when it is
sent: its moment is its record's. What was fetched from GitHub's log, or imported from there, was sent long before it was
recorded: its moment is the one that its origin tells. A task has its delivery's moment, whenever it is made, tried again or
requeued: it is still about what was true then. But a replay is something new that an operator asks for, and has its own.

Moments are by the records' clock, which may be set. So where a record's time is before that of an earlier record, the
difference is added from then on (`ahead`): what is recorded later is never before what was recorded earlier. GitHub's times
get the same added, so that they stay comparable with what comes by webhook after the clock was set. And nothing was sent
after it was recorded: were GitHub's clock ahead of this one, what was fetched would count as newer than what GitHub sends
next. So whatever comes by webhook is the newest there is. Of equal moments the order of the records counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from covenq.state.rows import Rows, as_time
from journal.records import Record


class Clock(NamedTuple):
    """The newest moment of a record, None before the first; and how far moments are ahead of the records' clock."""

    newest: int | None = None
    ahead: int = 0


def load(conn: sqlite3.Connection) -> Clock:
    """The clock after all that was folded."""
    row = conn.execute("SELECT newest, ahead FROM moments").fetchone()
    return Clock() if row is None else Clock(int(row[0]), int(row[1]))


def store(conn: sqlite3.Connection, clock: Clock) -> None:
    if conn.execute("UPDATE moments SET newest = ?, ahead = ?", clock).rowcount == 0:
        conn.execute("INSERT INTO moments (newest, ahead) VALUES (?, ?)", clock)


def recorded_at(rows: Rows, record: Record) -> int:
    """The moment of a record: no earlier than that of any before it."""
    at, (newest, ahead) = moment(record.at), rows.clock
    now = (newest or 0) if at is None else at + ahead
    if newest is not None and now < newest:
        now, ahead = newest, ahead + newest - now
    rows.clock = now, ahead
    return now


def first_sent_at(rows: Rows, record: Record) -> int:
    """The moment of a delivery, by its `delivery.received`."""
    now = recorded_at(rows, record)
    if (origin := record.data.get("origin")) is None:
        return now
    told = moment(delivered_at(origin))
    return now if told is None else min(told + rows.clock[1], now)


def expected_at(conn: sqlite3.Connection, origin: object, now: str) -> int | None:
    """The moment that a delivery of this origin has if it is recorded now, or a little earlier; None: the newest.

    The clock may have been set back since the last record: then this one is the first to be so much farther ahead of it.
    """
    told, at, clock = moment(delivered_at(origin)), moment(now), load(conn)
    if told is None or at is None:
        return None
    return told + (clock.ahead if clock.newest is None else max(clock.ahead, clock.newest - at))


def delivered_at(origin: object) -> str | None:
    """When GitHub first sent a delivery, by its origin, as far as that tells."""
    return as_time(origin.get("delivered_at")) if isinstance(origin, Mapping) else None


def moment(at: str | None) -> int | None:
    """Milliseconds since 1970 of a time as covenq writes it; None for what is none."""
    second = None if at is None else _second(at[:19])
    return None if at is None or second is None else second * 1000 + int(at[20:23])


@lru_cache(64)
def _second(text: str) -> int | None:
    """A whole second. Kept: what happens in one is asked for many times."""
    found = as_time(f"{text}.000000Z")
    return None if found is None else int(datetime.fromisoformat(found).timestamp())
