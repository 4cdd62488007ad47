"""Stuck tasks: those that run too long or in nobody's hands, and those that wait only for a worker and for far too long.

The cost doesn't grow with the rows: of the running and of the queued tasks only the oldest are examined.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from covenq.config.limits import NO_CAPS, Caps
from covenq.model import seconds_or
from covenq.model.status import Stuck
from covenq.tasks.scheduling.outcome import policy_of
from covenq.tasks.scheduling.waiting import Waiting

QUEUED_EXAMINED = 100
"""Queued tasks that are examined, the oldest first."""
RUNNING_EXAMINED = 1000
"""Running tasks that are examined, the oldest first."""
STUCK_MAX = 5
STUCK_AFTER_S = 600.0
"""Seconds: a task that waits for less isn't stuck."""
STUCK_ALWAYS_S = 3600.0
"""Seconds: a ready task that waits for longer is stuck, however long others wait."""
STUCK_MEDIANS = 10
"""In between, a ready task is stuck if it waits for so many times the median."""
GRACE_S = 60.0
"""Seconds beyond its timeout for ending a command and recording its result; beyond its last record, or the end of its lease,
for whoever holds it."""

OVERTIME, UNHELD, LEASE_OVER, WAITS = "timeout", "unheld", "lease", "waits"
"""Why a task is stuck: it runs past its timeout; it runs in nobody's hands; its lease is over, and it isn't ended; it waits."""
RUNNING_WORDS = (OVERTIME, UNHELD, LEASE_OVER)

_UNANNOUNCED = ("worker", "pull")
"""What a ready task waits for: not a time, a pause or a limit, each of which is shown elsewhere."""
_RUNNING = """SELECT t.id, t.route, t.repo, t.kind, t.lease_until, t.updated_at, t.policy, a.started_at
    FROM tasks t LEFT JOIN task_attempts a ON a.task = t.id AND a.attempt = t.attempts
    WHERE t.state = 'running' ORDER BY t.created_seq LIMIT ?"""


def is_overdue(since: str, may_take_s: float, now: float) -> bool:
    """Whether what began then takes longer than it may, and than ending it takes."""
    return now - seconds_or(since, now) > may_take_s + GRACE_S


def stuck_running(
    conn: sqlite3.Connection, now: float, held: Collection[str] | None = None, leases_since: float | None = None
) -> list[Stuck]:
    """Running tasks that are not ended as they should be, oldest first.

    One without a lease is this daemon's own; what is of a pull route its worker ends at its timeout. `held` are those that this
    daemon has in hand (`Pool.held`); None where that isn't known. `leases_since` is since when this daemon ends leases, in
    seconds since 1970; None: nobody does.
    """
    found: list[Stuck] = []
    for row in conn.execute(_RUNNING, (RUNNING_EXAMINED,)).fetchall():
        since = row["started_at"] or row["updated_at"]
        word = why = ""
        until = row["lease_until"]
        ends = now if until is None else seconds_or(until, now)
        if until is not None and leases_since is not None and now - max(ends, leases_since) > GRACE_S:
            word, why = LEASE_OVER, f"its lease was over at {until}, and its attempt isn't ended"
        elif until is None and held is not None and row["id"] not in held and is_overdue(row["updated_at"], 0.0, now):
            word, why = (
                UNHELD,
                "it runs by the records, and nobody holds it: the next start of the daemon ends its attempt",
            )
        elif (until is None or row["kind"] != "pull") and is_overdue(
            since, limit := policy_of(row["policy"]).timeout_s, now
        ):
            word, why = OVERTIME, f"it runs for longer than its timeout of {limit:g} s"
        if word:
            found.append(Stuck(row["id"], row["route"], row["repo"], "running", since, why, word))
    return found


def stuck(
    conn: sqlite3.Connection, now: float, caps: Caps = NO_CAPS, running: list[Stuck] | None = None
) -> list[Stuck]:
    """Tasks that an operator should look at, STUCK_MAX at most: `running` (`stuck_running`), then those that wait.

    The latter are ready, and wait only for a worker, for far longer than others or for over an hour.
    """
    found = list(stuck_running(conn, now) if running is None else running)
    rows = conn.execute(
        "SELECT id AS task, route, repo, created_at FROM tasks WHERE state = 'queued' ORDER BY created_seq LIMIT ?",
        (QUEUED_EXAMINED,),
    ).fetchall()
    from statistics import median  # here, for `covenq why`, which needs none of it and must start fast

    ages = [now - seconds_or(row["created_at"], now) for row in rows]
    usual = median(ages) if len(ages) > 1 else 0.0
    waiting: Waiting | None = None
    for row, age in zip(rows, ages, strict=True):
        outlier = len(ages) > 2 and age > STUCK_MEDIANS * usual
        if age < STUCK_AFTER_S or not (age > STUCK_ALWAYS_S or outlier) or len(found) >= STUCK_MAX:
            break  # the others are younger
        waiting = waiting or Waiting(conn, now, caps)
        waits = waiting.reason_for(row["task"])
        if waits is not None and waits.word in _UNANNOUNCED:
            found.append(Stuck(row["task"], row["route"], row["repo"], "queued", row["created_at"], waits.why, WAITS))
    return found[:STUCK_MAX]
