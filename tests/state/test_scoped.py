"""A connection under a scope: every table is a view of it, whatever asks, and a page is found by an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.errors import NotFound, UsageError
from covenq.filter.grammar import parse
from covenq.model.token_scope import NUMBERS_MAX, Scope, scope_of
from covenq.state import query, schema
from covenq.state.fold import fold
from covenq.state.readers import Readers, connect
from covenq.state.scoped import ScopedConnection, restrict, scope_of_reader
from tests.bench.cli import entries
from tests.support.records import as_records

MINE, THEIRS = 17, 18


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state.db of forty deliveries: every other one is of MINE."""
    made = tmp_path_factory.mktemp("scoped") / "state.db"
    conn = connect(made, "rwc")
    schema.create(conn)
    fold(conn, as_records([one for number in range(40) for one in entries(number)]))
    for table, seq in (("webhook_deliveries", "seq"), ("tasks", "created_seq")):
        conn.execute(f"UPDATE {table} SET installation = CASE WHEN number % 2 THEN {MINE} ELSE {THEIRS} END")
        assert conn.execute(f"SELECT count(*) FROM {table} WHERE {seq} > 0 AND installation = {MINE}").fetchone()[0]
    conn.close()
    return made


@pytest.fixture
def scoped(path: Path) -> Iterator[ScopedConnection]:
    conn = connect(path, "rw", ScopedConnection)
    assert isinstance(conn, ScopedConnection)
    restrict(conn, Scope((MINE,)))
    yield conn
    conn.close()


def test_every_table_is_shown_under_the_scope(scoped: ScopedConnection) -> None:
    there = {
        str(row[0]) for row in scoped.execute("SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view')")
    }
    shown = {str(row[0]) for row in scoped.execute("SELECT name FROM temp.sqlite_master WHERE type = 'view'")}
    assert there == shown, (
        "a new table is shown empty under a scope, until covenq/state/scoped.py says what of it is whose"
    )
    filled = {"position", "webhook_deliveries", "tasks", "task_attempts", "notes", "pauses", "routing", "usage"}
    for name in shown - filled:
        assert scoped.execute(f"SELECT count(*) FROM {name}").fetchone()[0] == 0, name
    assert scope_of_reader(scoped) == Scope((MINE,))


@pytest.mark.parametrize(
    "filter", ["", "state:queued", "repo:org*", "number:7", "installation:18", "attempts>0", "twin:*", "size>1"]
)
def test_it_shows_what_a_filter_by_the_installation_does(path: Path, scoped: ScopedConnection, filter: str) -> None:
    whole = connect(path, "rw")
    both = parse(f"{filter} installation:{MINE}")
    try:
        assert query.deliveries(scoped, parse(filter), 0) == query.deliveries(whole, both, 0)
        assert query.tasks(scoped, parse(filter), 0) == query.tasks(whole, both, 0)
        assert query.latest_attempts(scoped, parse(filter), 0) == query.latest_attempts(whole, both, 0)
        for table in ("webhook_deliveries", "tasks"):
            counted = query.count(scoped, table, parse(filter))
            assert counted == query.count(whole, table, both) < query.count(whole, table, parse(""))
    finally:
        whole.close()


def test_a_page_is_found_by_an_index(scoped: ScopedConnection) -> None:
    asked: list[str] = []
    scoped.set_trace_callback(asked.append)
    query.deliveries(scoped, parse(""), 5)
    query.tasks(scoped, parse(""), 5)
    with pytest.raises(NotFound):
        query.delivery(scoped, None, "g")
    query.latest_attempts(scoped, parse(""), 5)
    scoped.set_trace_callback(None)
    plans = [
        str(row[3]) for sql in asked if sql.startswith("SELECT") for row in scoped.execute(f"EXPLAIN QUERY PLAN {sql}")
    ]
    assert any("deliveries_installation" in one for one in plans) and any("tasks_installation" in one for one in plans)
    scanned = {one.split()[1] for one in plans if one.startswith("SCAN main.")}
    assert scanned <= {"main.task_attempts"}, "the newest attempts are read until a page is full"


def test_a_connection_is_never_used_under_two_scopes(path: Path) -> None:
    readers = Readers(path)
    try:
        mine = readers.scoped(Scope((MINE,)))
        assert readers.scoped(Scope((MINE,))) is mine
        theirs = readers.scoped(Scope((THEIRS,)))
        assert scope_of_reader(theirs) == Scope((THEIRS,)) and scope_of_reader(readers.reader()) is None
        with pytest.raises(sqlite3.ProgrammingError):
            mine.execute("SELECT 1")
        readers.release_reader()
        with pytest.raises(sqlite3.ProgrammingError):
            theirs.execute("SELECT 1")
        assert scope_of_reader(readers.reader()) is None
    finally:
        readers.close_readers()


def test_nothing_is_written_through_it(scoped: ScopedConnection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        scoped.execute("UPDATE tasks SET state = 'queued'")


def test_numbers_stand_in_statements_as_numbers_alone() -> None:
    scope = scope_of([7, 5, 7], [9])
    assert scope == Scope((5, 7), (9,))
    assert scope.sql("t") == "likelihood(t.installation IN (5, 7), 0.05) AND likelihood(t.repo_id IN (9), 0.01)"
    for wrong in (["5"], [5.0], [True], [0], [-1], [1 << 63], [None], [], list(range(1, NUMBERS_MAX + 2))):
        with pytest.raises(UsageError):
            scope_of(wrong, None)
        with pytest.raises(UsageError):
            scope_of([5], wrong)
    with pytest.raises(TypeError):
        Scope(("5) OR (1",)).sql("t")  # type: ignore[arg-type]
    assert not scope.allows_numbers(None, None) and not scope.allows_numbers(5, None) and scope.allows_numbers(5, 9)
