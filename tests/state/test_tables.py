"""The types of the rows are the one place where a field is declared: columns, JSON objects and schemas follow from it."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace

import msgspec
import pytest
from msgspec import Struct, structs

from covenq.http.openapi.from_types import components
from covenq.http.openapi.schemas import all_schemas
from covenq.model.rows import Attempt, Delivery, Row, Task, TaskRow
from covenq.state import query, rows, schema
from covenq.state.fold import fold
from covenq.state.tables import ATTEMPTS, DELIVERIES, TASKS, Table
from tests.support.records import as_records, dump, empty_state, moved, note, of, queued, received


@pytest.mark.parametrize(
    ("table", "shown", "computed", "name"),
    [
        (DELIVERIES, Delivery, {"tasks", "routing"}, "delivery"),
        (TASKS, Task, {"waits"}, "task"),
        (ATTEMPTS, Attempt, {"stdout", "stderr"}, "attempt"),
    ],
)
def test_what_is_shown_is_stored_and_documented(
    table: Table[TaskRow], shown: type[Struct], computed: set[str], name: str
) -> None:
    assert set(shown.__struct_fields__) - set(table.columns) == computed
    assert list(all_schemas()[name]["properties"]) == list(shown.__struct_fields__)
    with empty_state() as conn:
        stored = [str(row[1]) for row in conn.execute(f"PRAGMA table_info({table.name})")]
    assert stored == list(table.columns)


def test_a_new_field_is_a_column_and_in_the_schema_by_its_declaration_alone() -> None:
    class Wider(TaskRow, kw_only=True):
        zz_new: str | None = None

    class Shown(Task, kw_only=True):
        zz_new: str | None = None

    table = replace(TASKS, row=Wider)
    conn = sqlite3.connect(":memory:")
    conn.execute(table.definition())
    assert "zz_new" in table.mutable
    assert ("zz_new", "TEXT", 0) in {row[1:4] for row in conn.execute("PRAGMA table_info(tasks)")}
    conn.close()
    assert components({"task": Shown})["task"]["properties"]["zz_new"] == {"type": ["string", "null"]}


@pytest.mark.parametrize("shown", [Delivery, Task, Attempt])
def test_every_part_of_a_row_takes_a_field_with_a_default(shown: type[Struct]) -> None:
    for part in shown.__mro__[: shown.__mro__.index(Row)]:
        assert issubclass(part, Struct) and part.__struct_config__.frozen is False
        msgspec.defstruct("Wider", [("zz_new", str | None, None)], bases=(part,), kw_only=True)


def test_a_column_is_a_text_or_a_whole_number() -> None:
    for kind in (float, bool, list[int], str | int):
        wrong = msgspec.defstruct("Wrong", [("seq", int), ("odd", kind)], bases=(Row,))
        with pytest.raises(TypeError, match="a column can't be"):
            replace(DELIVERIES, row=wrong).definition()


VERSION_OF_TABLES = (37, "c2ff9adef9843de1")
"""So that no state.db of other tables is read."""


def test_other_tables_have_another_version() -> None:
    with empty_state() as conn:
        made = [
            str(row[0]) for row in conn.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        ]
    found = schema.VERSION, hashlib.sha256("\n".join(made).encode()).hexdigest()[:16]
    assert found == VERSION_OF_TABLES, "raise VERSION in covenq/state/schema.py, and put both into VERSION_OF_TABLES"


class Marked(dict[str, object]):
    """What was read out of a payload, whatever is asked for."""

    def get(self, key: str, default: object = None) -> object:
        return ["out of a payload"] if key == "labels" else f"{key} out of a payload"


def test_nothing_read_out_of_a_payload_outlives_its_erasure() -> None:
    with empty_state() as conn:
        records = as_records([received("g1"), queued("g1")])
        fold(conn, [structs.replace(record, about=Marked(any="thing")) for record in records])
        assert "out of a payload" in str(dump(conn))
        redacted = note("redacted", "g1", received=1, drops=[[1, 2]], about=True)
        fold(conn, as_records([redacted], first=3))
        assert "out of a payload" not in str(dump(conn))


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
            rows.load(conn, rows.wanted_by(records[2:]))
