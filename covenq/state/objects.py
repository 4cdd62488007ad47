"""Objects out of state.db: all rows of a question in one JSON text, decoded straight into their types.

SQLite makes the JSON and msgspec decodes it, both without a Python object in between: measured with a thousand tasks, that is
more than twice as fast as rows that are made into dictionaries, and those into objects.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import msgspec

from covenq.model.rows import Attempt, Delivery, LatestAttempt, Task
from covenq.paths import ATTEMPTS_NAME
from covenq.state.schema import ROUTING
from covenq.state.tables import ATTEMPTS, DELIVERIES, TASKS, decoded, decoder_of

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Objects(Generic[T]):
    """How the objects of a type are read: the SQL of each field, and the tables that it is about."""

    kind: type[T]
    columns: Mapping[str, str]
    source: str
    texts: frozenset[str] = frozenset()
    """The fields whose SQL gives JSON text."""

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[list[T]]:
        return decoder_of(self.kind)

    @cached_property
    def _object(self) -> str:
        return ", ".join(f"'{name}', {f'json({name})' if name in self.texts else name}" for name in self.columns)

    @cached_property
    def _rows(self) -> str:
        columns = ", ".join(f"{expression} AS {name}" for name, expression in self.columns.items())
        return f"SELECT {columns} FROM {self.source}"  # noqa: S608 - constants

    def _sql(self, each: str, rest: str) -> str:
        return f"SELECT json_group_array({each}) FROM ({self._rows} {rest})"  # noqa: S608 - constants

    def read(self, conn: sqlite3.Connection, rest: str, params: Sequence[object] = ()) -> list[T]:
        """The objects of the rows that `rest` (WHERE …) selects, in its order. The caller bounds how many there can be.

        Raises as `decoded`.
        """
        (text,) = conn.execute(self._sql(f"json_object({self._object})", rest), params).fetchone()
        return decoded(self._decoder, text)

    def written(
        self,
        conn: sqlite3.Connection,
        decoder: msgspec.json.Decoder[list[R]],
        beside: str,
        rest: str,
        params: Sequence[object],
    ) -> list[R]:
        """As `read`, of objects that stay JSON: each is the last in an array, behind the fields named in `beside`."""
        sql = self._sql(f"json_array({beside}, json_object({self._object}))", rest)
        (text,) = conn.execute(sql, params).fetchone()
        return decoded(decoder, text)


DELIVERY_OBJECTS = Objects(
    Delivery,
    {name: f"d.{name}" for name in Delivery.__struct_fields__ if name in DELIVERIES.columns}
    | {
        "labels": "coalesce(d.labels, '[]')",
        "tasks": """(SELECT json_group_array(id) FROM (
            SELECT t.id FROM tasks t WHERE t.delivery_seq = d.seq ORDER BY t.created_seq))""",
        "routing": ROUTING.format("d"),
    },
    "webhook_deliveries d",
    frozenset({"labels", "tasks"}),
)
_TASK_COLUMNS = {name: f"t.{name}" for name in Task.__struct_fields__ if name in TASKS.columns}
TASK_OBJECTS = Objects(Task, _TASK_COLUMNS, "tasks t", frozenset({"policy"}))
NAMED_TASK_OBJECTS = Objects(
    Task, _TASK_COLUMNS, "json_each(?) named CROSS JOIN tasks t ON t.id = named.value", frozenset({"policy"})
)
"""Those of the ids in a JSON array."""

_OF_TASK = {name: f"t.{name}" for name in LatestAttempt.__struct_fields__ if name not in Attempt.__struct_fields__}
_ATTEMPT_TEXTS = frozenset({"phases", "usage"})


def _attempt_columns(table: str) -> dict[str, str]:
    """With the paths of its output, below the data directory as `result` is; null until its directory is made.

    It is made before the phase is recorded. Null are all three when the delivery was erased: its attempts' files were, too.
    """
    erased = (
        "EXISTS (SELECT 1 FROM tasks owner CROSS JOIN webhook_deliveries erased ON erased.seq = owner.delivery_seq "  # noqa: S608
        f"WHERE owner.id = {table}.task AND erased.redacted IS NOT NULL)"
    )
    prepared = f"EXISTS (SELECT 1 FROM json_each({table}.phases) WHERE json_extract(value, '$[0]') = 'prepared')"  # noqa: S608
    path = f"'{ATTEMPTS_NAME}/' || {table}.task || '/' || {table}.attempt || '/"
    return {name: f"{table}.{name}" for name in ATTEMPTS.columns} | {
        **{name: f"CASE WHEN NOT {erased} THEN {table}.{name} END" for name in ("result", "result_seq")},
        **{name: f"CASE WHEN {prepared} AND NOT {erased} THEN {path}{name}' END" for name in ("stdout", "stderr")},
    }


ATTEMPT_OBJECTS = Objects(Attempt, _attempt_columns("a"), "task_attempts a", _ATTEMPT_TEXTS)
# CROSS JOIN keeps SQLite walking the attempts in their order, which a page's limit then cuts short.
LATEST_OBJECTS = Objects(
    LatestAttempt,
    _attempt_columns("a") | _OF_TASK,
    "task_attempts a CROSS JOIN tasks t ON t.id = a.task",
    _ATTEMPT_TEXTS,
)
