"""The questions: pages, single objects, and that the objects have the fields that are promised."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import pytest
from msgspec.structs import asdict

from covenq.errors import Ambiguous, NotFound, UsageError
from covenq.filter.grammar import parse
from covenq.state import query
from covenq.state.fold import fold
from journal.records import Entry
from tests.support.records import as_records, empty_state, moved, note, of, queued, received

EVERY = parse("")

DELIVERY = """hook guid seq received_at event action repo repo_id owner sender installation number head_sha label
    state reason payload_sha256 payload_bytes secret source duplicates tasks""".split()
TASK = """id hook guid route kind state reason attempts repo repo_id installation number head_sha key priority policy
    created_at updated_at not_before lease_until worker""".split()
ATTEMPT = "task attempt fence worker started_at ended_at outcome category exit_code phases result".split()


def _entries() -> Iterator[Entry]:
    """25 deliveries g0…g24; the even ones have a task."""
    for n in range(25):
        body = json.dumps({"n": n, "odd": n % 2 == 1}).encode()
        yield received(f"g{n}", payload=body, about={"number": n})
        if n % 2 == 0:
            yield queued(f"g{n}", about={"number": n})
    yield moved("claimed", of("g0"), attempt=1, worker="w")
    yield moved("phase", of("g0"), phase="started")
    yield note("ignored", "g1", reason="no_route")


RECORDS = as_records(_entries())


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    state = empty_state()
    fold(state, RECORDS)
    yield state
    state.close()


def test_the_objects_have_the_promised_fields_and_are_json(conn: sqlite3.Connection) -> None:
    delivery, task = query.delivery(conn, "9", "g0"), query.task(conn, of("g0"))
    (attempt,) = query.attempts(conn, of("g0"))
    assert set(DELIVERY) <= set(asdict(delivery))
    assert set(TASK) <= set(asdict(task))
    assert set(ATTEMPT) <= set(asdict(attempt))
    json.dumps([asdict(one) for one in (delivery, task, attempt)], allow_nan=False)
    assert attempt.stdout is attempt.stderr is None, "nothing was prepared, so there are no files"
    assert delivery.tasks == [of("g0")]
    assert query.deliveries(conn, parse("guid:g0")).items == [delivery]
    assert query.tasks(conn, parse("guid:g0")).items == [task]
    assert query.tasks_of(conn, "9", "g0") == [task]


def test_pages_go_from_newest_to_oldest_without_gap_or_repetition(conn: sqlite3.Connection) -> None:
    for ask, filter, total in (
        (query.deliveries, EVERY, 25),
        (query.tasks, EVERY, 13),
        (query.deliveries, parse("state:received number:1.."), 11),
    ):
        whole = ask(conn, filter, 0)
        assert whole.next is None
        assert len(whole.items) == total
        for limit in (1, 4, total - 1, total, total + 1):
            items, after = [], None
            while True:
                page = ask(conn, filter, limit, after)
                assert len(page.items) <= limit
                items += page.items
                after = page.next
                if after is None:
                    break
                assert len(page.items) == limit
            assert items == whole.items
    numbers = [item.number for item in query.deliveries(conn, EVERY, 0).items]
    assert numbers == sorted(numbers, reverse=True)


def test_what_arrives_while_paging_does_not_shift_the_pages(conn: sqlite3.Connection) -> None:
    first = query.deliveries(conn, EVERY, 10)
    fold(conn, as_records([received("late")], first=len(RECORDS) + 1))
    second = query.deliveries(conn, EVERY, 10, first.next)
    assert [item.number for item in first.items + second.items] == list(range(24, 4, -1))


@pytest.mark.parametrize("chunk", [1, 2, 200])
def test_pages_of_what_asks_into_payloads(
    conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(query, "_CHUNK", chunk)
    filter = parse("payload.odd:true number:5..")

    def payload_of(seq: int) -> bytes | None:
        return RECORDS[seq - 1].payload

    page = query.deliveries(conn, filter, 4, payload_of=payload_of)
    assert [item.number for item in page.items] == [23, 21, 19, 17]
    page = query.deliveries(conn, filter, 10, page.next, payload_of=payload_of)
    assert [item.number for item in page.items] == [15, 13, 11, 9, 7, 5]
    assert page.next is None
    tasks = query.tasks(conn, parse("payload.n:4,6,7"), payload_of=payload_of).items
    assert [task.guid for task in tasks] == ["g6", "g4"]


def test_no_statement_stays_open_behind_a_page(conn: sqlite3.Connection) -> None:
    query.deliveries(conn, EVERY, 1)
    query.tasks(conn, EVERY, 1)
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("DROP TABLE webhook_deliveries")  # refused while a statement reads it
    conn.execute("ROLLBACK")


def test_calls_that_make_no_sense_are_refused(conn: sqlite3.Connection) -> None:
    for bad in ("x", "-1", "1" * 30, "é", "1.5"):
        with pytest.raises(UsageError, match="cursor"):
            query.deliveries(conn, EVERY, 10, bad)
    with pytest.raises(UsageError, match="limit"):
        query.tasks(conn, EVERY, -1)
    with pytest.raises(UsageError, match="payload"):
        query.deliveries(conn, parse("payload.a:b"))
    with pytest.raises(UsageError, match="payload"):
        query.count(conn, "tasks", parse("payload.a:b"))


def test_what_is_not_there_is_not_found(conn: sqlite3.Connection) -> None:
    for ask in (
        lambda: query.delivery(conn, None, "nowhere"),
        lambda: query.delivery(conn, "8", "g1"),
        lambda: query.task(conn, "t0"),
        lambda: query.attempts(conn, "t0"),
    ):
        with pytest.raises(NotFound):
            ask()
    assert query.attempts(conn, of("g2")) == []
    assert query.tasks_of(conn, "8", "g0") == []


def test_a_guid_of_several_hooks_has_to_be_told_apart(conn: sqlite3.Connection) -> None:
    fold(conn, as_records([received("g1", "8")], first=len(RECORDS) + 1))
    with pytest.raises(Ambiguous) as caught:
        query.delivery(conn, None, "g1")
    assert caught.value.ids == ["9/g1", "8/g1"]
    assert caught.value.exit_code == 2
    assert query.delivery(conn, "8", "g1").hook == "8"


@pytest.mark.parametrize("text", ["size>1000", "duplicates>0"])
def test_what_may_be_rare_is_read_from_an_index_only_where_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    conn = empty_state()
    try:
        entries = [received(f"g{number}", payload=b"x" * (100 if number % 5 else 2000)) for number in range(50)]
        fold(conn, as_records([*entries, *(note("repeated", f"g{number}") for number in range(0, 50, 5))]))
        asked: list[str] = []
        for few in (10, 9):
            monkeypatch.setattr(query, "_FEW", few)
            asked.clear()
            conn.set_trace_callback(asked.append)
            assert len(query.deliveries(conn, parse(text)).items) == 10
            conn.set_trace_callback(None)
            assert ("INDEXED BY" in asked[-1]) == (few == 10)
            assert all(f"LIMIT {few + 1}" in sql for sql in asked[:-1]), "the looking up is bounded"
    finally:
        conn.close()


def test_counts_name_every_state(conn: sqlite3.Connection) -> None:
    counts = query.counts(conn)
    assert counts["deliveries"] == {
        "received": 11, "ignored": 1, "queued": 12, "running": 1,
        "completed": 0, "failed": 0, "cancelled": 0, "superseded": 0,
    }  # fmt: skip
    assert counts["tasks"] == {
        "queued": 12, "running": 1, "completed": 0, "failed": 0, "cancelled": 0, "superseded": 0,
    }  # fmt: skip
    assert query.count(conn, "webhook_deliveries", parse("state:queued")) == 12
    assert query.count(conn, "tasks", parse("-state:queued")) == 1
    queued = parse("state:queued")
    assert [query.count(conn, "webhook_deliveries", queued, limit) for limit in (5, 12, 13)] == [5, 12, 12]
    with pytest.raises(UsageError, match="limit"):
        query.count(conn, "tasks", parse(""), -1)
    listed = query.latest_attempts(conn, parse(""), 0).items
    assert query.count_attempts(conn, parse("")) == len(listed) == 1
    assert query.count_attempts(conn, parse("state:queued")) == 0
    assert query.count_attempts(conn, parse("-state:queued")) == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}', {"a": 1}),
        (b"payload=%7B%22a%22%3A1%7D", {"a": 1}),
        (b"x=1&payload=%7B%22a%22%3A%22+%22%7D", {"a": " "}),
        (b"payload=nonsense", None),
        (b"x=1", None),
        (b"", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (None, None),
    ],
)
def test_bodies_are_decoded_or_hold_nothing(body: bytes | None, expected: object) -> None:
    assert query.decode(body) == expected
