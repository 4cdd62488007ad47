"""The queue in groups: how many queued tasks there are of each installation, route and repository, and how old they are.

What blocks tasks blocks whole groups of them, so that none is read one by one. **Cost.** The fold counts each group
(`queue_sizes`), and an index on groups finds the oldest of each in one step: as much as there are groups, however long the queue
is. One by one, inside SQLite, are only counted those with a time, those whose key is in use, and those of repositories that are
told apart by name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import orjson

from covenq.tasks.scheduling.candidates import Candidate

_SIZES = """SELECT pull, tenant, route, repo_id, timed, n, CASE WHEN NOT timed THEN (
        SELECT created_seq FROM tasks INDEXED BY tasks_grouped WHERE state = 'queued' AND pull = size.pull
        AND tenant = size.tenant AND coalesce(route, '') = +size.route AND coalesce(repo_id, 0) = +size.repo_id
        AND not_before IS NULL ORDER BY created_seq LIMIT 1
    ) END FROM queue_sizes size"""
"""With a plus, for an index on an expression isn't used where the other side has a column's affinity."""
_KEYED = """SELECT t.pull, t.tenant, coalesce(t.route, ''), coalesce(t.repo_id, 0), t.key, count(*), min(t.created_seq)
    FROM (SELECT DISTINCT pull, tenant FROM queue_sizes WHERE NOT timed) lane CROSS JOIN json_each(:keys) asked
    CROSS JOIN tasks t INDEXED BY tasks_keyed ON t.state = 'queued' AND t.not_before IS NULL AND t.key IS NOT NULL
    AND t.pull = lane.pull AND t.tenant = lane.tenant AND t.key = asked.value GROUP BY 1, 2, 3, 4, 5"""
_OF_GROUP = """tasks INDEXED BY tasks_grouped WHERE state = 'queued' AND pull = :pull AND tenant = :tenant
    AND coalesce(route, '') = :route AND coalesce(repo_id, 0) = :repo_id"""
_WITHOUT = f"""SELECT created_seq FROM {_OF_GROUP} AND not_before IS NULL
    AND coalesce(key, '') NOT IN (SELECT value FROM json_each(:keys)) ORDER BY created_seq LIMIT 1"""  # noqa: S608 - constants
_READY, _DUE, _LATER = "not_before IS NULL", "not_before > '' AND not_before <= :now", "not_before > :now"
_BUSY_KEY = "CASE WHEN key IN (SELECT value FROM json_each(:keys)) THEN key END"


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
    """All queued tasks, those with one of `keys` in groups of their own. `conn` counts the queue, and is in one snapshot.

    Those of the repositories with the numbers `by_name` (0: without one) are in a group for each name. Raises
    sqlite3.DatabaseError where the counters aren't right.
    """
    values: dict[str, object] = {"now": now, "keys": orjson.dumps(list(keys)).decode()}
    keyed: dict[tuple[object, ...], list[tuple[str, int, int]]] = {}
    for *place, key, number, oldest in conn.execute(_KEYED, values) if keys else ():
        keyed.setdefault(tuple(place), []).append((key, number, oldest))
    for pull, tenant, route, repo_id, timed, size, first in conn.execute(_SIZES):
        of_route = Candidate("", tenant, route or None, repo_id or None, None, None, None, 0, None, None)
        named, busy = repo_id in by_name, keyed.get((pull, tenant, route, repo_id), ())
        if timed or named or busy:
            values |= {"pull": pull, "tenant": tenant, "route": route, "repo_id": repo_id}
        if timed or named:
            for those in (_DUE, _LATER) if timed else (_READY,):
                by_key = bool(keys) and those != _LATER  # until its time has come, its key is no matter
                for repo, key, number, oldest, until in _counted(conn, those, values, by_key, named):
                    later = those == _LATER
                    task = of_route._replace(repo=repo, key=key)
                    yield QueueGroup(task, bool(pull), later, number, oldest, until if later else None)
            continue
        for key, number, oldest in busy:
            yield QueueGroup(of_route._replace(key=key), bool(pull), False, number, oldest, None)
            size -= number
        if busy and size:
            first = (conn.execute(_WITHOUT, values).fetchone() or [None])[0]
        if size < 0 or (size and first is None):
            raise sqlite3.DatabaseError("the queue is counted wrongly: the table and its counters differ")
        if size:
            yield QueueGroup(of_route, bool(pull), False, size, first, None)


def _counted(
    conn: sqlite3.Connection, those: str, values: Mapping[str, object], by_key: bool, by_repo: bool
) -> Iterator[sqlite3.Row]:
    """Those of a group, counted one by one: its name, its key, how many, the oldest, the first of their times."""
    by = [one for one, wanted in (("repo", by_repo), (_BUSY_KEY, by_key)) if wanted]
    columns = f"{'repo' if by_repo else 'NULL'}, {_BUSY_KEY if by_key else 'NULL'}, count(*), min(created_seq), min(not_before)"
    rows = f"{_OF_GROUP} AND {those}{' GROUP BY ' if by else ''}{', '.join(by)}"
    return (row for row in conn.execute(f"SELECT {columns} FROM {rows}", values) if row[2])  # noqa: S608 - constants
