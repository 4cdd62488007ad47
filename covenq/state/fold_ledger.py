"""The fold of ledgers: of each delivery log and hour the newest row, and the newest deliveries that are not held.

A record has whole rows, and those of them that may still change come again in the next one; so the newest is right.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from covenq.model import at_text
from covenq.model.ledger import (
    DAY_S,
    HERE,
    KIND,
    PREFIX,
    STATES,
    Ledger,
    Tally,
    hour_of,
    hour_text,
    ledger_of,
    sorted_tally,
)
from journal.records import Record

DAYS_KEPT = 400
"""Rows that are older than the newest of their log by more go out of state.db. The journal keeps the records."""
SINGLES_KEPT = 1000
"""Deliveries of a log that are kept one by one: the newest."""

_ROW = """INSERT OR REPLACE INTO ledger
    (log, hour, seq, at, hook, listed, held, redelivered, fetched, unrecoverable, refused, erased, before_us, not_wanted,
    on_its_way, open, reasons)
    VALUES (:log, :hour, :seq, :at, :hook, :listed, :held, :redelivered, :fetched, :unrecoverable, :refused, :erased,
    :before_us, :not_wanted, :on_its_way, :open, :reasons)"""
_SINGLE = (
    "INSERT OR REPLACE INTO not_held (log, guid, event, first_at, state, reason, seq) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_ROWS_SINCE = """SELECT
    log, hour, seq, at, hook, listed, held, redelivered, fetched, unrecoverable, refused, erased, before_us, not_wanted,
    on_its_way, open, reasons
    FROM ledger WHERE hour >= ? ORDER BY hour DESC, log"""
_OPEN = "SELECT log, hour, open FROM ledger WHERE open > 0 ORDER BY hour, log"
_OF_GUID = "SELECT log, guid, event, first_at, state, reason, seq FROM not_held WHERE guid = ? ORDER BY log"
_OLDEST_KEPT = "SELECT first_at FROM not_held WHERE log = ? ORDER BY first_at DESC LIMIT 1 OFFSET ?"


def fold(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Fold those of these records that are of ledgers, inside the caller's transaction."""
    for record in records:
        if record.kind == KIND and record.subject.startswith(PREFIX):
            ledger = ledger_of(record.data)
            if ledger is not None:
                _fold_one(conn, record, record.subject.removeprefix(PREFIX), ledger)


def rows_since(conn: sqlite3.Connection, hour: str) -> list[sqlite3.Row]:
    """The hours that began then or later, the newest first. `log` is a digest of whose log it is."""
    return conn.execute(_ROWS_SINCE, (hour,)).fetchall()


def open_hours(conn: sqlite3.Connection) -> list[sqlite3.Row]:
    """The hours in which something is open, the oldest first: `log`, `hour` and how many are `open`."""
    return conn.execute(_OPEN).fetchall()


def not_held(conn: sqlite3.Connection, guid: str) -> list[sqlite3.Row]:
    """What the passes said of that GUID while it was not held."""
    return conn.execute(_OF_GUID, (guid,)).fetchall()


def _fold_one(conn: sqlite3.Connection, record: Record, log: str, ledger: Ledger) -> None:
    for hour, tally in ledger.rows().items():
        counts = dict.fromkeys(STATES, 0)
        for (state, _), number in tally.items():
            counts[state] += number
        row = {
            "log": log,
            "hour": hour_text(hour),
            "seq": record.seq,
            "at": record.at,
            "hook": ledger.hook,
            "listed": tally.total(),
            "reasons": _reasons(tally),
        }
        conn.execute(_ROW, row | counts)
    singles = (*ledger.tracked, *ledger.absent)
    values = [
        (log, one.guid, one.event, at_text(one.first_at), one.state, one.reason, record.seq)
        for one in singles
        if one.state not in HERE
    ]
    conn.executemany(_SINGLE, values)
    oldest = hour_text(hour_of(ledger.boundary - DAYS_KEPT * DAY_S))
    conn.execute("DELETE FROM ledger WHERE log = ? AND hour < ?", (log, oldest))
    if values:
        kept = conn.execute(_OLDEST_KEPT, (log, SINGLES_KEPT - 1)).fetchone()
        if kept is not None:
            conn.execute("DELETE FROM not_held WHERE log = ? AND first_at < ?", (log, kept[0]))


def _reasons(tally: Tally) -> str:
    """A JSON object of the reasons of what is unrecoverable or refused, and how many each."""
    found: dict[str, int] = {}
    for (_, reason), number in sorted_tally(tally):
        if reason is not None:
            found[reason] = found.get(reason, 0) + number
    return json.dumps(found)
