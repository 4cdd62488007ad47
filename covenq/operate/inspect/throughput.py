"""Throughput: deliveries accepted and refused, and attempts ended, in each of the last minutes.

Also the same by route, and which tasks run. The cost doesn't grow with the rows: arrivals are counted along an index, ends were
counted as they were folded, and by route so many rows are read at most.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from covenq.errors import UsageError
from covenq.intake.refusal_log import Refusal
from covenq.model import at_text
from covenq.model.answers import Throughput
from covenq.model.status import Running
from covenq.operate.inspect.route_minutes import route_minutes
from covenq.state.readers import snapshot

MINUTES = 60
MINUTES_MAX = 720
"""Half a day; ends are kept by the minute for a day."""
RUNNING_MAX = 50
"""Running tasks that are listed, the oldest first."""


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
    with snapshot(conn):
        return _counted(conn, names, now, Counter(one.at[:16] for one in log), refused or {})


def _counted(
    conn: sqlite3.Connection, names: Sequence[str], now: float, logged: Counter[str], known: Mapping[str, int]
) -> Throughput:
    ends: dict[str, list[int]] = {}
    for outcome in ("completed", "failed"):
        found = dict(
            conn.execute(
                "SELECT minute, n FROM ended WHERE minute >= ? AND minute < ? AND outcome = ?",
                (names[0], names[-1], outcome),
            ).fetchall()
        )
        ends[outcome] = [int(found.get(name, 0)) for name in names[:-1]]
    by_route = route_minutes(conn, names, at_text(now))
    counted = "SELECT count(*) FROM webhook_deliveries WHERE received_at >= ? AND received_at < ?"
    return Throughput(
        at=f"{names[0]}:00Z",
        minutes=len(names) - 1,
        accepted=[int(conn.execute(counted, pair).fetchone()[0]) for pair in pairwise(names)],
        refused=[max(logged[name], known.get(name, 0)) for name in names[:-1]],
        routes=by_route.routes,
        more_routes=by_route.more,
        sampled=by_route.sampled,
        completed=ends["completed"],
        failed=ends["failed"],
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
