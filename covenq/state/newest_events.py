"""The newest things that happened: deliveries that were ignored, attempts, and pull requests that tasks made.

The first two are in the order in which they came. When a pull request was made is not kept: its task's newest change stands
for that.

Of all, they are read from the ends of indexes. Of a scope, tasks are passed through in the order of their newest change, from the
newest on: an attempt's claim is a record of its task, so a task that last changed before the claims of enough attempts that were
found can't have a newer one, nor can any task after it.
"""

from __future__ import annotations

import heapq
import sqlite3

import orjson
from msgspec import Struct

from covenq.state.in_scope import Scope, among, condition, parameters
from covenq.state.objects import Objects


class IgnoredDelivery(Struct):
    """A delivery that no task was made of."""

    seq: int
    received_at: str
    repo: str | None
    reason: str | None
    detail: str | None


class BegunAttempt(Struct):
    """An attempt, with its task's repository. `outcome` is None while it runs."""

    claim_seq: int
    started_at: str
    task: str
    repo: str | None
    attempt: int
    outcome: str | None
    category: str | None
    detail: str | None


class MadePull(Struct):
    """A task that made a pull request."""

    id: str
    repo: str | None
    pr_number: int
    updated_at: str


_IGNORED = Objects(
    IgnoredDelivery, {name: f"d.{name}" for name in IgnoredDelivery.__struct_fields__}, "webhook_deliveries d"
)
_ATTEMPTS = Objects(
    BegunAttempt,
    {name: f"a.{name}" for name in BegunAttempt.__struct_fields__} | {"repo": "t.repo"},
    "task_attempts a JOIN tasks t ON t.id = a.task",
)
_PULLS = Objects(MadePull, {name: f"t.{name}" for name in MadePull.__struct_fields__}, "tasks t")
_LATEST_PULLS = "WHERE t.pr_number IS NOT NULL ORDER BY t.last_seq DESC LIMIT ?"
_LATEST_IGNORED = "WHERE d.state = 'ignored' ORDER BY d.seq DESC LIMIT ?"
_LATEST_ATTEMPTS = """WHERE a.claim_seq IN (SELECT claim_seq FROM task_attempts ORDER BY claim_seq DESC LIMIT ?)
    ORDER BY a.claim_seq DESC"""
_ATTEMPTS_OF = "WHERE a.task = ? ORDER BY a.attempt DESC LIMIT ?"


def ignored_deliveries(conn: sqlite3.Connection, scope: Scope | None, limit: int) -> list[IgnoredDelivery]:
    """Up to `limit` of the scope, newest first."""
    if scope is None:
        return _IGNORED.read(conn, _LATEST_IGNORED, (limit,))
    # SQLite would take the index on states, and read all that were ignored.
    by = "INDEXED BY deliveries_ignored" if scope.repositories is None else ""
    newest = f"""WHERE d.seq IN (
        SELECT newest.value FROM json_each(?1) AS one, json_each((SELECT json_group_array(seq) FROM (
            SELECT d.seq FROM webhook_deliveries d {by} WHERE {condition(scope, "d", "one.value")} AND d.state = 'ignored'
            ORDER BY d.seq DESC LIMIT ?3))) AS newest
        ORDER BY newest.value DESC LIMIT ?3)
    ORDER BY d.seq DESC"""  # noqa: S608 - constants
    return _IGNORED.read(conn, newest, (*parameters(scope), limit))


def made_pulls(conn: sqlite3.Connection, scope: Scope | None, limit: int) -> list[MadePull]:
    """Up to `limit` of the scope, the one whose task changed last first."""
    if scope is None:
        return _PULLS.read(conn, _LATEST_PULLS, (limit,))
    newest = f"""WHERE t.last_seq IN (
        SELECT t.last_seq FROM tasks t INDEXED BY tasks_pulls WHERE t.pr_number IS NOT NULL
        AND {among(scope, "t")} ORDER BY t.last_seq DESC LIMIT ?3)
    ORDER BY t.last_seq DESC"""  # noqa: S608 - constants
    return _PULLS.read(conn, newest, (*parameters(scope), limit))


def begun_attempts(conn: sqlite3.Connection, scope: Scope | None, limit: int) -> list[BegunAttempt]:
    """Up to `limit` of the scope's, the one that began last first."""
    if scope is None:
        return _ATTEMPTS.read(conn, _LATEST_ATTEMPTS, (limit,))
    found: list[BegunAttempt] = []
    claims: list[int] = []
    changed = f"""SELECT t.id, t.last_seq FROM tasks t
        WHERE {condition(scope, "t", "?1")} AND t.attempts > 0 ORDER BY t.last_seq DESC"""  # noqa: S608 - constants
    parts, installations = parameters(scope)
    for part in orjson.loads(parts):
        for task, last_seq in conn.execute(changed, (part, installations)):
            if len(claims) == limit and claims[0] > last_seq:
                break
            for one in _ATTEMPTS.read(conn, _ATTEMPTS_OF, (task, limit)):
                found.append(one)
                heapq.heappush(claims, one.claim_seq)
                if len(claims) > limit:
                    heapq.heappop(claims)
    found.sort(key=lambda one: -one.claim_seq)
    return found[:limit]
