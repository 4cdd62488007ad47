"""Reading state.db under a token's scope: a connection on which each table shows the rows of the scope, and nothing else.

Every table has a temporary view of its own name, which SQLite finds before the table. So all statements there are, with their
joins, subqueries, counts and cursors, are scoped by the same condition, on `installation` and `repo_id`; SQLite puts it into the
statement itself (flattening), where indexes serve it. What is nobody's (counters, rollups, ledgers, bindings) is shown empty:
that is what a new table is, until it is named here. A row that is in no scope can't be told from one that never was, since
nothing that asks can see it.
"""

from __future__ import annotations

import re
import sqlite3

from covenq.model.token_scope import Scope
from covenq.state import schema
from covenq.state.tables import ATTEMPTS, DELIVERIES, TASKS

_HINT = re.compile(r"INDEXED BY \w+")


class ScopedConnection(sqlite3.Connection):
    """A connection whose tables are views.

    `execute` leaves out which index to use: a view has none, and which one its table is read by is the planner's.
    """

    scope: Scope
    """Of `restrict`, which made the views."""

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
        asked = _HINT.sub("", sql) if "INDEXED BY" in sql else sql
        return super().execute(asked, parameters)  # type: ignore[arg-type]  # the type that it takes has no public name


def scope_of_reader(conn: sqlite3.Connection) -> Scope | None:
    """The scope that a connection reads under; None if it sees everything."""
    return conn.scope if isinstance(conn, ScopedConnection) else None


def is_subject_known(conn: sqlite3.Connection, subject: str) -> bool:
    """Whether a record's subject is a delivery or a task that the connection shows."""
    kind, *names = subject.split(".")
    if kind == "task" and len(names) == 1:
        return conn.execute("SELECT 1 FROM tasks WHERE id = ?", names).fetchone() is not None
    if kind == "delivery" and len(names) == 2:
        known = "SELECT 1 FROM webhook_deliveries WHERE hook = ? AND guid = ?"
        return conn.execute(known, names).fetchone() is not None
    return False


def restrict(conn: ScopedConnection, scope: Scope) -> None:
    """Make the views. From then on it must not be used under another scope."""
    conn.scope = scope
    for name, select in views(scope).items():
        conn.execute(f"CREATE TEMP VIEW {name} AS {select}")


def views(scope: Scope) -> dict[str, str]:
    """What is shown in the place of each table."""
    found = {name: f"SELECT * FROM main.{name} WHERE 0" for name in schema.table_names()}  # noqa: S608 - constants
    found["position"] = "SELECT * FROM main.position"
    found["webhook_deliveries"] = _with(
        DELIVERIES.columns, {"twin": _TWIN, "detail": _OF_DELIVERY}, scope, "webhook_deliveries"
    )
    found["tasks"] = _with(TASKS.columns, {"superseded_by": _SUPERSEDED_BY, "detail": _DETAIL}, scope, "tasks")
    found["task_attempts"] = (
        f"SELECT {', '.join(f'r.{one}' for one in ATTEMPTS.columns)} FROM main.task_attempts r "  # noqa: S608
        f"WHERE EXISTS (SELECT 1 FROM main.tasks o WHERE o.id = r.task AND {scope.sql('o')})"
    )
    found["usage"] = f"SELECT r.* FROM main.usage r WHERE {scope.sql('r')}"  # noqa: S608 - numbers
    found["notes"] = _NOTES.format(tasks=scope.sql("o"), deliveries=scope.sql("o"))
    found["pauses"] = _PAUSES.format(scope=scope.sql("o"), installations=Scope(scope.installations).sql("n"))
    found["routing"] = schema.routing_select()
    return found


_TWIN = (
    """CASE WHEN EXISTS (SELECT 1 FROM main.webhook_deliveries o WHERE o.guid = r.twin AND {scope}) THEN r.twin END"""
)
_SUPERSEDED_BY = """CASE WHEN EXISTS (SELECT 1 FROM main.tasks o WHERE o.id = r.superseded_by AND {scope})
    THEN r.superseded_by END"""
_DETAIL = """CASE WHEN r.superseded_by IS NULL OR
    EXISTS (SELECT 1 FROM main.tasks o WHERE o.id = r.superseded_by AND {scope}) THEN r.detail END"""
_OF_DELIVERY = """CASE WHEN r.state <> 'superseded' OR
    EXISTS (SELECT 1 FROM main.tasks o WHERE o.id = substr(r.detail, 9) AND {scope}) THEN r.detail END"""
"""What names another row is shown where that one is: as the fold words it, `by task ` and the id (`covenq.state.fold_tasks`)."""

_NOTES = """SELECT r.seq, r.subject FROM main.notes r WHERE
    EXISTS (SELECT 1 FROM main.tasks o WHERE r.subject = 'task.' || substr(r.subject, 6) AND o.id = substr(r.subject, 6)
        AND {tasks})
    OR EXISTS (SELECT 1 FROM main.webhook_deliveries o
        WHERE o.guid = substr(r.subject, 11 + instr(substr(r.subject, 10), '.') - 1)
        AND r.subject = 'delivery.' || o.hook || '.' || o.guid AND {deliveries})"""

_PAUSES = """SELECT * FROM main.pauses r WHERE
    (r.what = 'installation' AND EXISTS (SELECT 1 FROM (SELECT CAST(r.name AS INTEGER) AS installation) n WHERE {installations}))
    OR (r.what = 'repo' AND r.name IS NOT NULL AND EXISTS (
        SELECT 1 FROM main.webhook_deliveries o WHERE {scope} AND o.seq = (
            SELECT max(seq) FROM main.webhook_deliveries WHERE repo_id = CAST(r.name AS INTEGER))))"""
"""Of installations, and of repositories whose newest delivery is in scope: one that was transferred is its new owner's."""


def _with(columns: tuple[str, ...], instead: dict[str, str], scope: Scope, table: str) -> str:
    shown = ", ".join(
        f"{instead[one].format(scope=scope.sql('o'))} AS {one}" if one in instead else f"r.{one}" for one in columns
    )
    return f"SELECT {shown} FROM main.{table} r WHERE {scope.sql('r')}"  # noqa: S608 - names of columns, and numbers
