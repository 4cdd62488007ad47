"""Throughput: deliveries accepted and refused, and attempts ended, in each of the last minutes.

Also which tasks run, and which are stuck.

The cost doesn't grow with the rows: arrivals are counted along an index, ends were counted as they were folded, and of the
queued tasks only the oldest are examined.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from statistics import median

from covenq.config.limits import NO_CAPS, Caps
from covenq.errors import UsageError
from covenq.intake.refusal_log import Refusal
from covenq.model import at_text, seconds_of
from covenq.model.answers import Throughput
from covenq.model.status import Running, Stuck
from covenq.tasks.scheduling.waiting import Waiting

MINUTES = 60
MINUTES_MAX = 720
"""Half a day; ends are kept by the minute for a day."""
QUEUED_EXAMINED = 100
"""Queued tasks that are examined, the oldest first."""
RUNNING_MAX = 50
"""Running tasks that are listed, the oldest first."""
STUCK_MAX = 5
STUCK_AFTER_S = 600.0
"""Seconds: a task that waits for less isn't stuck."""
STUCK_ALWAYS_S = 3600.0
"""Seconds: a ready task that waits for longer is stuck, however long others wait."""
STUCK_MEDIANS = 10
"""In between, a ready task is stuck if it waits for so many times the median."""
GRACE_S = 60.0
"""Seconds beyond its timeout for ending a command and recording its result."""
_UNANNOUNCED = ("worker", "pull")
"""What a ready task waits for: not a time, a pause or a limit, each of which is shown elsewhere."""


def per_minute(
    conn: sqlite3.Connection,
    *,
    minutes: int,
    now: float,
    log: Iterable[Refusal] = (),
    refused: Mapping[str, int] | None = None,
) -> Throughput:
    """How many were accepted and refused, and ended, in each of the last minutes.

    The last minute is the one that `now` (seconds since 1970) is in.

    `accepted` counts deliveries, `completed` and `failed` attempts. Refusals are counted in `log`, which is bounded, and in
    `refused` ("2026-11-23T08:49" → n), a daemon's memory, which has more when many refusals overran the log.
    Raises UsageError.
    """
    if not 1 <= minutes <= MINUTES_MAX:
        raise UsageError(f"{minutes} minutes", hint=f"It is 1 to {MINUTES_MAX}.")
    first = int(now // 60) - minutes + 1
    names = [at_text((first + n) * 60.0)[:16] for n in range(minutes + 1)]
    ends: dict[str, list[int]] = {}
    for outcome in ("completed", "failed"):
        found = dict(
            conn.execute(
                "SELECT minute, n FROM ended WHERE minute >= ? AND minute < ? AND outcome = ?",
                (names[0], names[-1], outcome),
            ).fetchall()
        )
        ends[outcome] = [int(found.get(name, 0)) for name in names[:-1]]
    logged = Counter(one.at[:16] for one in log)
    known = refused or {}
    counted = "SELECT count(*) FROM webhook_deliveries WHERE received_at >= ? AND received_at < ?"
    return Throughput(
        at=f"{names[0]}:00Z",
        minutes=minutes,
        accepted=[int(conn.execute(counted, pair).fetchone()[0]) for pair in pairwise(names)],
        refused=[max(logged[name], known.get(name, 0)) for name in names[:-1]],
        **ends,
    )


_RUNNING = """SELECT t.id, t.route, t.repo, t.number, t.worker, t.lease_until, t.attempts, a.started_at,
    CASE WHEN json_type(t.policy, '$.timeout_s') IN ('integer', 'real')
        THEN json_extract(t.policy, '$.timeout_s') END AS timeout_s
    FROM tasks t LEFT JOIN task_attempts a ON a.task = t.id AND a.attempt = t.attempts
    WHERE t.state = 'running' ORDER BY t.created_seq LIMIT ?"""


def running(conn: sqlite3.Connection) -> list[Running]:
    """The running tasks, of this daemon or of remote workers, oldest first; RUNNING_MAX at most."""
    return [
        Running(
            task=row["id"],
            attempt=row["attempts"],
            route=row["route"],
            repo=row["repo"],
            number=row["number"],
            worker=row["worker"],
            since=row["started_at"],
            timeout_s=row["timeout_s"],
            lease_until=row["lease_until"],
        )
        for row in conn.execute(_RUNNING, (RUNNING_MAX,))
    ]


def stuck(conn: sqlite3.Connection, now: float, caps: Caps = NO_CAPS) -> list[Stuck]:
    """Tasks that an operator should look at, STUCK_MAX at most.

    Tasks that run for longer than their timeout and GRACE_S, and ready tasks that wait only for a worker and for far longer
    than others, or for over an hour.
    """
    found: list[Stuck] = []
    for one in running(conn):
        began, limit = _seconds(one.since), one.timeout_s
        if began is not None and limit and one.lease_until is None and now - began > limit + GRACE_S:
            why = f"it runs for longer than its timeout of {limit:g} s"
            found.append(Stuck(one.task, one.route, one.repo, "running", one.since, why))
    rows = conn.execute(
        "SELECT id AS task, route, repo, created_at FROM tasks WHERE state = 'queued' ORDER BY created_seq LIMIT ?",
        (QUEUED_EXAMINED,),
    ).fetchall()
    ages = [now - (_seconds(row["created_at"]) or now) for row in rows]
    usual = median(ages) if len(ages) > 1 else 0.0
    waiting: Waiting | None = None
    for row, age in zip(rows, ages, strict=True):
        outlier = len(ages) > 2 and age > STUCK_MEDIANS * usual
        if age < STUCK_AFTER_S or not (age > STUCK_ALWAYS_S or outlier) or len(found) >= STUCK_MAX:
            break  # the others are younger
        waiting = waiting or Waiting(conn, now, caps)
        waits = waiting.reason_for(row["task"])
        if waits is not None and waits.word in _UNANNOUNCED:
            found.append(Stuck(row["task"], row["route"], row["repo"], "queued", row["created_at"], waits.why))
    return found[:STUCK_MAX]


def _seconds(text: str | None) -> float | None:
    return None if text is None else seconds_of(text)
