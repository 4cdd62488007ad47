"""What a pause holds, or its end lets go on: tasks that wait and that run, by route, with the oldest.

It serves the decision whether this is the right thing to pause, or to let go on all at once. Counted by SQLite, in groups.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from msgspec import structs

from covenq.config.limits import Caps
from covenq.operate.act.plan_summary import Part, Tally, WaitReasons
from covenq.operate.answers import Paused, PlanSummary
from covenq.state.fold_pauses import PauseTarget
from covenq.state.scoped import scope_of_reader

_OF = {
    PauseTarget.WORKER: "1",
    PauseTarget.ROUTE: "route = :name",
    PauseTarget.REPO: "(repo_id = CAST(:name AS INTEGER) OR (repo_id IS NULL OR :name IS NULL) AND repo = :repo COLLATE NOCASE)",
    PauseTarget.INSTALLATION: "installation = CAST(:name AS INTEGER)",
}
_GROUPS = """SELECT route, state, tenant, repo_id, repo, pull, count(*), min(created_at) FROM tasks
    WHERE state IN ('queued', 'running') AND {of} GROUP BY route, state, tenant, repo_id, pull"""


def with_summary(done: Paused, rows: Callable[[], sqlite3.Connection], caps: Caps, now: float) -> Paused:
    """With the tasks that are paused by it, or no longer. A pause of the intake holds none."""
    if done.what not in _OF:
        return done
    ended = [] if done.paused or done.seq is None else [done.seq]
    return structs.replace(done, summary=_summary(rows(), done, caps, now, ended))


def _summary(conn: sqlite3.Connection, done: Paused, caps: Caps, now: float, ended: list[int]) -> PlanSummary:
    # What is paused waits for just that: only of what goes on it is told what else it waits for, and nobody else's limits.
    told = done.paused or scope_of_reader(conn) is not None
    tally = Tally(None if told else WaitReasons(conn, now, caps, ended))
    sql = _GROUPS.format(of=_OF[PauseTarget(done.what)])
    for route, state, tenant, repo_id, repo, pull, count, at in conn.execute(
        sql, {"name": done.name, "repo": done.repo}
    ):
        waits = tenant if state == "queued" else ""
        tally.add_tasks(Part(route, state, None, at, repo, repo_id, waits, pull=bool(pull)), count)
    return tally.summary()
