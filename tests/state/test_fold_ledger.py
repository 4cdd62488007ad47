"""The fold of ledgers: the newest row of each hour, bounded, and the same again from the start."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import pytest

from covenq.model import at_text
from covenq.model.ledger import DAY_S, KIND, PREFIX, Ledger, NotHeld, Tally, data_of
from covenq.state import fold_ledger
from covenq.state.fold import fold
from journal.records import Entry
from tests.support.records import as_records, dump, empty_state

START = 1_800_000_000.0
HOUR = int(START // 3600)


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    conn = empty_state()
    yield conn
    conn.close()


def recorded(ledger: Ledger, log: str = "a") -> Entry:
    return Entry(PREFIX + log, KIND, data_of(ledger))


def rows(conn: sqlite3.Connection) -> list[tuple[str, str, int, int, int]]:
    found = fold_ledger.rows_since(conn, "")
    return [(row["log"], row["hour"][11:13], row["listed"], row["held"], row["open"]) for row in found]


def tally(**counts: int) -> Tally:
    return Tally({(state, None): number for state, number in counts.items()})


def test_the_newest_record_has_the_rows_and_earlier_hours_stay(conn: sqlite3.Connection) -> None:
    first = Ledger(START, "7", {}, {HOUR: tally(held=5, on_its_way=1), HOUR + 1: tally(held=1)})
    second = Ledger(START + 3600, "7", {}, {HOUR + 1: tally(held=2, open=3), HOUR + 2: tally(fetched=1)})
    entries = [recorded(first), recorded(first, "b"), recorded(second)]
    fold(conn, as_records(entries))
    assert rows(conn) == [
        ("a", "10", 1, 0, 0),
        ("a", "09", 5, 2, 3),
        ("b", "09", 1, 1, 0),
        ("a", "08", 6, 5, 0),
        ("b", "08", 6, 5, 0),
    ]
    assert [(row["log"], row["open"]) for row in fold_ledger.open_hours(conn)] == [("a", 3)]
    again = empty_state()
    for one in as_records(entries):
        fold(again, [one])
    assert dump(conn) == dump(again)
    again.close()


def test_reasons_and_single_deliveries_are_kept_and_bounded(conn: sqlite3.Connection) -> None:
    number = fold_ledger.SINGLES_KEPT + 50
    singles = [NotHeld(f"g{n}", "push", START + n, "unrecoverable", "no payload") for n in range(number)]
    fold(
        conn,
        as_records([recorded(Ledger(START + n, tracked=tuple(singles[n : n + 50]))) for n in range(0, number, 50)]),
    )
    assert conn.execute("SELECT count(*), min(first_at) FROM not_held").fetchone()[:] == (1000, at_text(START + 50))
    (found,) = fold_ledger.not_held(conn, "g1049")
    assert (found["state"], found["reason"], found["event"]) == ("unrecoverable", "no payload", "push")
    assert json.loads(fold_ledger.rows_since(conn, "")[0]["reasons"]) == {"no payload": 50}


def test_rows_that_are_too_old_go_out_of_the_state(conn: sqlite3.Connection) -> None:
    old = START - (fold_ledger.DAYS_KEPT + 1) * DAY_S
    fold(conn, as_records([recorded(Ledger(old, window={int(old // 3600): tally(held=1)})) for _ in range(2)]))
    assert len(rows(conn)) == 1
    fold(conn, as_records([recorded(Ledger(START, window={HOUR: tally(held=1)}))], first=10))
    assert rows(conn) == [("a", "08", 1, 1, 0)]


@pytest.mark.parametrize("data", [{}, {"boundary": "soon", "window": []}, {"boundary": at_text(START), "window": "x"}])
def test_a_record_without_a_ledger_changes_nothing(conn: sqlite3.Connection, data: dict[str, object]) -> None:
    fold(conn, as_records([Entry(f"{PREFIX}a", KIND, data), Entry("ops.other", KIND, data_of(Ledger(START)))]))
    assert rows(conn) == []
