"""The queue in groups: how many queued tasks there are of each installation, route and repository, and how old they are.

What blocks tasks blocks whole groups of them, so that they are counted in SQLite, and none is read one by one. **Cost.** A pass
over the entries of an index in its order, a quarter of a second for a million queued tasks, and more for what has a time: who
asks often keeps the answer for a while (`covenq.operate.inspect.waiting`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from typing import NamedTuple

import orjson

from covenq.tasks.scheduling.candidates import Candidate

_READY = "tasks_lane WHERE state = 'queued' AND not_before IS NULL"
_KEYED = "tasks_keyed WHERE state = 'queued' AND not_before IS NULL AND key IS NOT NULL"
_TIMED = "tasks_delayed WHERE state = 'queued' AND not_before IS NOT NULL"
_KEYS = "(SELECT value FROM json_each(:keys))"
_NAMED = "(SELECT value FROM json_each(:by_name))"
_BY = "pull, tenant, coalesce(route, ''), coalesce(repo_id, 0)"
"""As the index tasks_lane has them, so that nothing is sorted."""


class QueueGroup(NamedTuple):
    """Queued tasks that the same blocks. `task` stands for all of them, with the fields that limits depend on."""

    task: Candidate
    pull: bool
    later: bool
    """Whether they have a time that hasn't come."""
    number: int
    oldest: int
    """`created_seq` of the oldest."""
    until: str | None
    """The first of their times."""


def queue_groups(
    conn: sqlite3.Connection, now: str, keys: Collection[str] = (), by_name: Collection[int] = ()
) -> Iterator[QueueGroup]:
    """All queued tasks, those with one of `keys` in groups of their own.

    Those of the repositories with the numbers `by_name` (0: without one) are in a group for each name.
    """
    values = {"now": now, "keys": orjson.dumps(list(keys)).decode(), "by_name": orjson.dumps(list(by_name)).decode()}
    parts = [(_READY, "", "")]
    if keys:
        parts = [
            (f"{_READY} AND coalesce(key, '') NOT IN {_KEYS}", "", ""),
            (f"{_KEYED} AND key IN {_KEYS}", "key", ""),
        ]
    parts.append((_TIMED, f"CASE WHEN key IN {_KEYS} THEN key END" if keys else "", "not_before > :now"))
    repos = [("", "")]
    if by_name:
        repos = [(f"AND coalesce(repo_id, 0) {word} {_NAMED}", repo) for word, repo in (("NOT IN", ""), ("IN", "repo"))]
    for rows, key, later in parts:
        for condition, repo in repos:
            until = "min(not_before)" if later else "NULL"
            columns = f"{_BY}, {key or 'NULL'}, {repo or 'NULL'}, {later or '0'}, count(*), min(created_seq), {until}"
            by = ", ".join(filter(None, (_BY, key, repo, later)))
            sql = f"SELECT {columns} FROM tasks INDEXED BY {rows} {condition} GROUP BY {by}"  # noqa: S608 - constants
            yield from (_group(row) for row in conn.execute(sql, values))


def _group(row: sqlite3.Row) -> QueueGroup:
    pull, tenant, route, repo_id, key, repo, later, number, oldest, until = row
    task = Candidate("", tenant, route or None, repo_id or None, repo, key, None, 0, None, None)
    return QueueGroup(task, bool(pull), bool(later), number, oldest, until if later else None)
