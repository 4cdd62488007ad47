"""The types of the rows are the one place where a field is declared: columns, JSON objects and schemas follow from it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import msgspec
import pytest
from msgspec import Struct

from covenq.http.openapi.from_types import components
from covenq.http.openapi.schemas import SCHEMAS
from covenq.model.rows import Attempt, Delivery, Task, TaskRow
from covenq.state import query, rows
from covenq.state.fold import fold
from covenq.state.tables import ATTEMPTS, DELIVERIES, TASKS, Table
from tests.support.records import as_records, empty_state, moved, of, queued, received


@pytest.mark.parametrize(
    ("table", "shown", "computed", "name"),
    [
        (DELIVERIES, Delivery, {"tasks"}, "delivery"),
        (TASKS, Task, {"waits"}, "task"),
        (ATTEMPTS, Attempt, {"stdout", "stderr"}, "attempt"),
    ],
)
def test_what_is_shown_is_stored_and_documented(
    table: Table[TaskRow], shown: type[Struct], computed: set[str], name: str
) -> None:
    assert set(shown.__struct_fields__) - set(table.columns) == computed
    assert list(SCHEMAS[name]["properties"]) == list(shown.__struct_fields__)
    with empty_state() as conn:
        stored = [str(row[1]) for row in conn.execute(f"PRAGMA table_info({table.name})")]
    assert stored == list(table.columns)


def test_a_new_field_is_a_column_and_in_the_schema_by_its_declaration_alone() -> None:
    class Wider(TaskRow, kw_only=True):
        colour: str | None = None

    class Shown(Task, kw_only=True):
        colour: str | None = None

    table = replace(TASKS, row=Wider)
    conn = sqlite3.connect(":memory:")
    conn.execute(table.definition())
    assert "colour" in table.mutable
    assert ("colour", "TEXT", 0) in {row[1:4] for row in conn.execute("PRAGMA table_info(tasks)")}
    conn.close()
    assert components({"task": Shown})["task"]["properties"]["colour"] == {"type": ["string", "null"]}


def test_which_task_took_the_place_of_another_is_in_its_json() -> None:
    with empty_state() as conn:
        newer = of("g2")
        superseded = moved("superseded", of("g1"), by_task=newer, reason="newer")
        fold(conn, as_records([received("g1"), queued("g1"), received("g2"), queued("g2"), superseded]))
        assert msgspec.to_builtins(query.task(conn, of("g1")))["superseded_by"] == newer
        assert msgspec.to_builtins(query.task(conn, newer))["superseded_by"] is None
        (of_ids,) = query.tasks_with(conn, [of("g1")]).values()
        assert of_ids == query.task(conn, of("g1"))


def test_a_row_that_is_not_of_its_type_is_damage_of_the_cache_and_no_crash() -> None:
    with empty_state() as conn:
        records = as_records([received("g1"), queued("g1"), moved("claimed", of("g1"))])
        fold(conn, records[:2])
        conn.execute("UPDATE tasks SET priority = 'high'")
        with pytest.raises(sqlite3.DatabaseError, match="not as its table has it"):
            rows.load(conn, records[2:])
