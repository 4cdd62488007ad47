"""What each index of state.db is for: the product's own statements, by SQLite's own plans of them.

An index costs at each fold, and where state.db is built anew. So each one is taken away here, and some statement must then fail,
read a table from end to end, or sort what it found; and no statement of the fold, the intake or the scheduler may do the second
with all of them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import covenq
from covenq.filter.grammar import parse
from covenq.model import at_text
from covenq.model.ledger import Ledger, NotHeld, data_of
from covenq.model.rows import Repository
from covenq.operate.inspect import secret_usage, stuck, throughput, usage
from covenq.operate.maintain import cleanup, redaction
from covenq.state import fold_history, fold_ledger, query, repositories
from covenq.state.changed_tasks import changed_tasks, newest_change
from covenq.state.fold import fold
from covenq.state.newest_events import begun_attempts, ignored_deliveries, made_pulls
from journal.records import Entry
from tests.bench.cli import commands, entries
from tests.support.records import START, as_records, empty_state
from tests.support.scopes import Scope

HOT = ("state", "intake", "tasks")
"""The wings whose every statement runs for each delivery, or for each task."""
WINGS = (*HOT, "operate")
STATEMENT = re.compile(
    r"(?:WITH|SELECT|UPDATE|DELETE)\b.*\b(?:webhook_deliveries|tasks|task_attempts|notes|usage|uninstalls)\b", re.DOTALL
)
SMALL = re.compile(
    r"VIRTUAL TABLE|subquery|CONSTANT ROW|VALUES CLAUSE|"
    r"SCAN (?:walk|new|asked|pauses|tallies|size|lane|queue_sizes|names_in_records|uninstalls|position|moments)\b"
)
"""What a plan may go through: values that were given, and tables that don't grow with deliveries."""
FEW_BY_RIGHT = {"tasks_without_delivery"}
"""Without it another index finds all tasks that lack their delivery: few, unless a salvage lost many deliveries."""
PAGES = (
    *(words for _, words in commands(1000) if words[0] in ("deliveries", "tasks")),
    ["tasks", "repo:org7/repo7"], ["tasks", "number:7"], ["tasks", "attempts>1"], ["tasks", "guid:x"], ["tasks", "id:tx"],
    ["deliveries", "installation:7"], ["tasks", "installation:7"],
    ["tasks", "twin:*"], ["tasks", "duplicates>0"], ["deliveries", "sha:0a1b*"],
)  # fmt: skip
WALKED = re.compile(r"^deliveries$|owner:|label:|reason:|route:|category:|worker:|secret:|source:|kind:|hook:|-event:")
"""Of these many rows are usual: a page is read from the newest row on, until it is full."""


def test_each_index_is_needed_by_a_statement() -> None:
    conn = _some_state()
    try:
        names = _indexes(conn)
        asked = [sql for _, sql in (*_constants(), *_asked(conn))]
        before = {sql: _costs(conn, sql) for sql in asked}
        idle = []
        for name, made in names.items():
            conn.execute("SAVEPOINT without")
            conn.execute(f"DROP INDEX {name}")
            if name not in FEW_BY_RIGHT and not any(_is_worse(conn, sql, before[sql]) for sql in asked):
                idle.append(made)
            conn.execute("ROLLBACK TO without")
            conn.execute("RELEASE without")
        assert not idle
        assert any(_used(conn, sql) >= FEW_BY_RIGHT for sql in asked)
    finally:
        conn.close()


def test_nothing_that_runs_for_each_delivery_reads_a_table_from_end_to_end() -> None:
    conn = _some_state()
    try:
        found = [(where, sql) for where, sql in _constants() if where.split(".")[1] in HOT]
        assert len(found) > 25
        conn.set_trace_callback(lambda sql: found.append(("the fold", sql)))
        fold(conn, as_records([one for number in range(20, 40) for one in entries(number)], first=200))
        conn.set_trace_callback(None)
        assert not [(where, sql, scan) for where, sql in found if _explained(sql) for scan in _scans(conn, sql)]
    finally:
        conn.close()


@pytest.mark.parametrize("words", [words for words in PAGES if not WALKED.search(" ".join(words))], ids=" ".join)
def test_these_pages_are_found_by_an_index(words: list[str]) -> None:
    conn = _some_state()
    try:
        asked: list[str] = []
        conn.set_trace_callback(asked.append)
        _page(conn, words)
        conn.set_trace_callback(None)
        assert asked and not [scan for sql in asked for scan in _scans(conn, sql)]
    finally:
        conn.close()


# ---- statements


def _some_state() -> sqlite3.Connection:
    conn = empty_state()
    fold(conn, as_records([one for number in range(20) for one in entries(number)]))
    return conn


def _constants() -> Iterator[tuple[str, str]]:
    """The statements that modules have as constants, and where."""
    for module in _modules():
        for name, value in vars(module).items():
            if isinstance(value, str) and STATEMENT.match(value) and "{" not in value:
                yield f"{module.__name__}.{name}", value


def _modules() -> Iterator[ModuleType]:
    for wing in WINGS:
        package = importlib.import_module(f"covenq.{wing}")
        for found in pkgutil.walk_packages(package.__path__, f"{covenq.__name__}.{wing}."):
            yield importlib.import_module(found.name)


def _asked(conn: sqlite3.Connection) -> list[tuple[str, str]]:
    """The statements that are made where they are used, as these functions ask them."""
    found: list[tuple[str, str]] = []
    conn.set_trace_callback(lambda sql: found.append(("", sql)))
    for words in PAGES:
        _page(conn, words)
    query.counts(conn)
    query.oldest(conn)
    task = query.tasks(conn, parse(""), 1).items[0]
    query.attempts(conn, task.id)
    query.latest_attempts(conn, parse(""), 1)
    query.tasks_with(conn, [task.id])
    query.delivery(conn, None, task.guid or "")
    query.tasks_of(conn, task.hook or "", task.guid or "")
    cleanup.finish(conn, Path("/nonexistent"), "j", 1, lambda: True)
    for column in ("redacted", "payload_dropped"):
        list(cleanup._tasks(conn, column, 0))
    for one in (Repository(7, ["org7/repo7"], 1), Repository(None, ["org7/repo7"], 1)):
        list(redaction._of_repository(conn, one))
    repositories.named(conn, "org7/repo7")
    repositories.newest(conn, "org7/repo7")
    repositories.present_name(conn, 7)
    repositories.number_of(conn, "org7/repo7")
    fold_history.notes(conn, "delivery.9.x", 5)
    usage.usage(conn, usage.question(parse(""), month="2027-01", by=None, limit=5, after=None, now=0.0))
    for scope in (None, Scope(frozenset({5})), Scope(frozenset({5}), frozenset({6}))):
        changed_tasks(conn, scope, None, 500)
        newest_change(conn, scope)
        begun_attempts(conn, scope, 200)
        ignored_deliveries(conn, scope, 200)
        made_pulls(conn, scope, 200)
    throughput.per_minute(conn, minutes=2, now=START)
    throughput.running(conn)
    stuck.stuck(conn, START)
    secret_usage.usage_by_secret(conn, at_text(START))
    fold_ledger.rows_since(conn, at_text(START))
    fold_ledger.open_hours(conn)
    fold_ledger.not_held(conn, "g")
    ledger = data_of(Ledger(1.0, tracked=(NotHeld("g", "push", 1.0, "open"),)))
    fold(conn, as_records([Entry("ops.ledger_a", "ops.ledger", ledger)], first=100_000))
    fold(conn, as_records([one for number in range(20, 40) for one in entries(number)], first=200))
    conn.set_trace_callback(None)
    return [(where, sql) for where, sql in found if _explained(sql)]


def _page(conn: sqlite3.Connection, words: list[str]) -> None:
    listing: Any = query.deliveries if words[0] == "deliveries" else query.tasks
    listing(conn, parse(" ".join(words[1:])))


# ---- plans


def _explained(sql: str) -> bool:
    """Whether it is a statement with a plan: not what a trigger ran, nor a transaction's beginning."""
    return sql.lstrip().upper().startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT"))


def _scans(conn: sqlite3.Connection, sql: str) -> list[str]:
    """The steps of its plan that read a table, or an index of all its rows, from end to end."""
    partial = {name for name, made in _indexes(conn).items() if " WHERE " in made}
    found = []
    for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", _parameters(sql)):
        detail = str(row[3])
        index = re.search(r"INDEX (\w+)", detail)
        if detail.startswith("SCAN") and not SMALL.search(detail) and not (index and index[1] in partial):
            found.append(detail)
    return found


def _costs(conn: sqlite3.Connection, sql: str) -> list[str]:
    """The steps that `_scans` has, and those that sort what an index would give in order."""
    plan = [str(row[3]) for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", _parameters(sql))]
    return _scans(conn, sql) + [step for step in plan if "B-TREE FOR ORDER BY" in step]


def _used(conn: sqlite3.Connection, sql: str) -> set[str]:
    plan = " ".join(str(row[3]) for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", _parameters(sql)))
    return set(re.findall(r"INDEX (\w+)", plan))


def _is_worse(conn: sqlite3.Connection, sql: str, before: list[str]) -> bool:
    try:
        return len(_costs(conn, sql)) > len(before)
    except sqlite3.OperationalError:  # it names the index
        return True


def _parameters(sql: str) -> Any:
    named = re.findall(r"[ (]:(\w+)", sql)
    if named:
        return dict.fromkeys(named)
    numbered = [int(one) for one in re.findall(r"\?(\d+)", sql)]
    return [None] * (max(numbered) if numbered else len(re.findall(r"\?", re.sub(r"'[^']*'", "", sql))))


def _indexes(conn: sqlite3.Connection) -> dict[str, str]:
    """The indexes by name, as they were made."""
    rows = conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return {str(name): str(made) for name, made in rows}
