"""The ranges under the tables: whichever rows come, go and change, the rows listed are those of the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.tui.panes import window
from covenq.tui.panes.window import Rows


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its order key."""

    seq: int
    state: str = ""


class Listed:
    """A newest-first list read by cursor, as the source's are: a row joins, leaves or changes at any time."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.largest = 0
        self.reads = 0

    def put(self, key: int, state: str = "") -> None:
        self.rows[key] = Row(key, state)

    def fetch(self, limit: int, after: str | None) -> tuple[list[Row], str | None]:
        self.reads += 1
        self.largest = max(self.largest, limit)
        keys = sorted((key for key in self.rows if after is None or key < int(after)), reverse=True)
        page = keys[:limit]
        return [self.rows[key] for key in page], str(page[-1]) if len(keys) > limit else None


def key(row: Row) -> int:
    return row.seq


def shown(rows: Rows[Row]) -> list[int | None]:
    return [None if (row := rows.row(position)) is None else key(row) for position in range(rows.count)]


def load(listed: Listed) -> Rows[Row]:
    rows = Rows(key)
    rows.put_first(window.read_first(listed.fetch, key))
    return rows


def load_all(listed: Listed, rows: Rows[Row]) -> None:
    while rows.has_older:
        rows.put_older(window.read_older(listed.fetch, key, rows.ranges[-1]))


def refresh(listed: Listed, rows: Rows[Row]) -> None:
    """What the pump does after a change, with everything in view."""
    rows.mark_stale()
    rows.put_newest(window.read_newest(listed.fetch, key, rows.ranges[0]))
    for stale in rows.ranges_to_read(0, rows.count):
        rows.replace(stale, window.reread(listed.fetch, key, stale))


@pytest.fixture(scope="module", autouse=True)
def _small_for_properties() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "OPEN_RANGE_ROWS", 4)
        patch.setattr(window, "OLDER_RANGE_ROWS", 5)
        yield


def test_positions_count_from_the_oldest_row_known() -> None:
    listed = Listed()
    for seq in range(1, 21):
        listed.put(seq)
    rows = load(listed)
    assert shown(rows) == [17, 18, 19, 20]
    assert rows.has_older
    load_all(listed, rows)
    assert shown(rows) == list(range(1, 21))
    assert not rows.has_older
    assert [rows.position(seq) for seq in range(1, 21)] == list(range(20))
    assert rows.newer_than(15) == 5


def test_a_read_brings_a_bounded_number_of_rows() -> None:
    listed = Listed()
    for seq in range(1, 1001):
        listed.put(seq)
    rows = load(listed)
    for seq in range(1001, 1101):
        listed.put(seq)
        refresh(listed, rows)
    assert shown(rows)[-100:] == list(range(1001, 1101))
    assert listed.largest <= 2 * max(window.OPEN_RANGE_ROWS, window.OLDER_RANGE_ROWS)
    assert all(known.count <= 2 * window.OPEN_RANGE_ROWS for known in rows.ranges), "ranges neither grow nor crumble"
    assert len(rows.ranges) <= 2 + 104 // window.OPEN_RANGE_ROWS


def test_a_burst_larger_than_what_is_read_starts_the_list_afresh() -> None:
    listed = Listed()
    for seq in range(1, 11):
        listed.put(seq)
    rows = load(listed)
    for seq in range(11, 1011):
        listed.put(seq)
    found = window.read_newest(listed.fetch, key, rows.ranges[0])
    assert found.gap
    rows.put_newest(found)
    assert shown(rows)[-1] == 1010
    load_all(listed, rows)
    kept = [(position + 1, seq) for position, seq in enumerate(shown(rows)) if seq is not None]
    assert rows.count == 1010, "and what was skipped is still reached"
    assert all(place == seq for place, seq in kept)


def test_ranges_seen_long_ago_lose_their_rows_and_get_them_back() -> None:
    listed = Listed()
    for seq in range(1, 1001):
        listed.put(seq)
    rows = load(listed)
    load_all(listed, rows)
    kept = [known for known in rows.ranges if known.rows is not None]
    assert len(kept) <= window.LOADED_RANGES_MAX + 1
    assert rows.count == 1000
    assert rows.row(0) is not None, "just read"
    middle = 700
    assert rows.row(middle) is None
    for lost in rows.ranges_to_read(middle, middle):
        rows.replace(lost, window.reread(listed.fetch, key, lost))
    row = rows.row(middle)
    assert row is not None
    assert key(row) == middle + 1


@given(
    st.sets(st.integers(1, 60), max_size=60),
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 12)),
            st.tuples(st.just("leave"), st.integers(1, 90)),
            st.tuples(st.just("enter"), st.integers(1, 60)),
            st.tuples(st.just("change"), st.integers(1, 90)),
            st.tuples(st.just("older"), st.just(0)),
            st.tuples(st.just("refresh"), st.just(0)),
        ),
        max_size=25,
    ),
)
def test_what_is_listed_is_what_is_there(start: set[int], steps: list[tuple[str, int]]) -> None:
    """Rows join at the top, and leave, enter and change anywhere (a filter on a state does that)."""
    listed = Listed()
    for seq in start:
        listed.put(seq)
    rows, top = load(listed), 60
    for step, value in steps:
        if step == "add":
            for seq in range(top + 1, top + value + 1):
                listed.put(seq)
            top += value
        elif step == "leave":
            listed.rows.pop(value, None)
        elif step == "enter":
            listed.put(value)
        elif step == "change" and value in listed.rows:
            listed.put(value, state="changed")
        elif step == "older" and rows.has_older:
            rows.put_older(window.read_older(listed.fetch, key, rows.ranges[-1]))
        elif step == "refresh":
            refresh(listed, rows)
            known = shown(rows)
            bound = rows.ranges[-1].lower if rows.has_older else 0
            assert known == sorted(seq for seq in listed.rows if seq >= bound)
    load_all(listed, rows)
    refresh(listed, rows)
    assert shown(rows) == sorted(listed.rows)
    assert [rows.row(position) for position in range(rows.count)] == [listed.rows[seq] for seq in sorted(listed.rows)]
    assert [rows.position(seq) for seq in sorted(listed.rows)] == list(range(rows.count))
