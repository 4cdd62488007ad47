"""Tasks in the order of their newest change, for who asks for the newest ones again and again; and whether there is any change.

A task's newest record is its `last_seq`, and what an index has as that is appended to its end: the seqs only grow. In that order
tasks are in the order of `updated_at` too, as long as the clock wasn't set back. A page is read from an index without sorting,
and costs the same whatever else there is: of all tasks; or, of a scope, so many of each installation or each repository, of which
the newest are taken. Those indexes have all that is asked for until it is known which rows are shown.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from msgspec import Struct

from covenq.state.in_scope import Scope, among, condition, parameters
from covenq.state.objects import Objects


class ChangedTask(Struct, array_like=False):
    """A task as lists of the newest changes show it, with the title of what its delivery was about."""

    id: str
    state: str
    repo: str | None
    number: int | None
    title: str | None
    event: str | None
    target: str | None
    familiar: str | None
    purpose: str | None
    updated_at: str
    last_seq: int
    branch: str | None
    pr_number: int | None
    result_status: str | None
    check_run_url: str | None


_TASKS = Objects(
    ChangedTask,
    {name: f"t.{name}" for name in ChangedTask.__struct_fields__} | {"title": "d.title", "check_run_url": "NULL"},
    "tasks t LEFT JOIN webhook_deliveries d ON d.seq = t.delivery_seq",
)

_SHOWN = "coalesce(t.purpose, '') NOT IN ('clarification', 'status', 'remember', 'forget', 'command_reply')"
"""What only answers a command is no work that anybody waits for."""
_PAGE = f"WHERE t.last_seq < ? AND {_SHOWN} ORDER BY t.last_seq DESC LIMIT ?"
_ALL = (1 << 63) - 1

_NEWEST = "SELECT max(last_seq) FROM tasks"
_ERASED = "SELECT redacted FROM webhook_deliveries WHERE redacted IS NOT NULL ORDER BY redacted DESC LIMIT 1"
_WITHOUT_DELIVERY = "SELECT count(*) FROM tasks WHERE delivery_seq IS NULL"


def changed_tasks(conn: sqlite3.Connection, scope: Scope | None, before: int | None, limit: int) -> list[ChangedTask]:
    """Up to `limit` tasks of the scope, newest change first, of those whose newest record is before the seq `before`."""
    before = _ALL if before is None else before
    if scope is None:
        return _TASKS.read(conn, _PAGE, (before, limit))
    return _TASKS.read(conn, _page_of(scope), (*parameters(scope), before, limit))


def _page_of(scope: Scope) -> str:
    """Of each part the newest are read from its part of an index, and of all of these the newest are the page."""
    return f"""WHERE t.last_seq IN (
        SELECT newest.value FROM json_each(?1) AS one, json_each((SELECT json_group_array(last_seq) FROM (
            SELECT t.last_seq FROM tasks t WHERE {condition(scope, "t", "one.value")} AND t.last_seq < ?3 AND {_SHOWN}
            ORDER BY t.last_seq DESC LIMIT ?4))) AS newest
        ORDER BY newest.value DESC LIMIT ?4)
    ORDER BY t.last_seq DESC"""  # noqa: S608 - constants


class NewestChange(NamedTuple):
    """What tells that an answer about the scope's tasks is still the same: no task of it has a newer record, and no content went.

    An erasure changes rows without a record of the task (`erased`), and so does a delivery that is found again after a salvage
    (`without_delivery`).
    """

    seq: int
    erased: int
    without_delivery: int


def newest_change(conn: sqlite3.Connection, scope: Scope | None) -> NewestChange:
    """Read from the ends of indexes; of a scope, its newest erasure is looked for among all of them, newest first."""
    if scope is None:
        return NewestChange(*(_number(conn, one) for one in (_NEWEST, _ERASED, _WITHOUT_DELIVERY)))
    newest = f"""SELECT max((SELECT t.last_seq FROM tasks t WHERE {condition(scope, "t", "one.value")}
        ORDER BY t.last_seq DESC LIMIT 1)) FROM json_each(?1) AS one"""  # noqa: S608 - constants
    erased = f"""SELECT d.redacted FROM webhook_deliveries d INDEXED BY deliveries_redacted
        WHERE d.redacted IS NOT NULL AND {among(scope, "d")} ORDER BY d.redacted DESC LIMIT 1"""  # noqa: S608 - constants
    without_delivery = f"""SELECT count(*) FROM tasks t INDEXED BY tasks_without_delivery
        WHERE t.delivery_seq IS NULL AND {among(scope, "t")}"""  # noqa: S608 - constants
    return NewestChange(*(_number(conn, one, parameters(scope)) for one in (newest, erased, without_delivery)))


def _number(conn: sqlite3.Connection, sql: str, params: tuple[str, ...] = ()) -> int:
    """What a statement gives; 0 for nothing."""
    row = conn.execute(sql, params).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])
