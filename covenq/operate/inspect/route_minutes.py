"""The last minutes by route: tasks made in each, how attempts ended and how long they took, and what waits now.

Reads TASKS_MAX tasks at most: of more, some from each quarter of a minute, which stand for the others of it. The queue is
counted by its groups, as what it waits for is (`covenq.operate.inspect.waiting`).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from covenq.model.route_times import RouteMinutes
from covenq.operate.inspect import route_times
from covenq.tasks.scheduling.queue_groups import queue_groups

TASKS_MAX = 20_000
PARTS = 4
"""Of a minute."""
ROUTES_MAX = 50
"""Routes that are listed: those with the most to say, first what failed, then what waits, then what came."""

_TASK_AT = "SELECT created_seq, created_at FROM tasks WHERE created_seq >= ? ORDER BY created_seq LIMIT 1"
_TASK_LAST = "SELECT max(created_seq) FROM tasks"
_MADE = "SELECT route, created_at FROM tasks WHERE created_seq >= ? LIMIT ?"
_MADE_IN = (
    "SELECT route, created_seq FROM tasks WHERE created_seq >= ? AND created_seq < ? ORDER BY created_seq LIMIT ?"
)

Made = dict[tuple[str | None, str], int]
"""Tasks by route and minute."""


class Found(NamedTuple):
    routes: list[RouteMinutes]
    more: int
    """Routes that aren't listed."""
    sampled: bool
    """There were more tasks, or more attempts, than were read."""


def route_minutes(conn: sqlite3.Connection, minutes: Sequence[str], now: str) -> Found:
    """By route. `minutes` are the names of minutes in order, as "2026-11-23T08:49", and of the one after the last."""
    made, estimated = _made(conn, minutes)
    attempts = route_times.begun(conn, minutes[0], minutes[-1])
    queued: Counter[str | None] = Counter()
    for group in queue_groups(conn, now):
        queued[group.task.route] += group.number
    names = {route for route, _ in made} | set(attempts.routes) | set(queued)
    found = [
        RouteMinutes(
            route, [made.get((route, one), 0) for one in minutes[:-1]], queued[route], attempts.routes.get(route)
        )
        for route in names
    ]
    found.sort(key=_importance)
    return Found(found[:ROUTES_MAX], max(0, len(found) - ROUTES_MAX), estimated or attempts.sampled)


def _made(conn: sqlite3.Connection, minutes: Sequence[str]) -> tuple[Made, bool]:
    """And whether the numbers are estimates."""
    (last,) = conn.execute(_TASK_LAST).fetchone()
    first = route_times.first_since(conn, _TASK_AT, minutes[0], int(last or 0))
    rows = conn.execute(_MADE, (first, TASKS_MAX + 1)).fetchall()
    if len(rows) <= TASKS_MAX:
        return Counter((row[0], row[1][:16]) for row in rows), False
    starts = [route_times.first_since(conn, _TASK_AT, minute, last) for minute in minutes]
    most = max(2, TASKS_MAX // (len(minutes) - 1) // PARTS)
    made: Made = {}
    for minute, (start, end) in zip(minutes, pairwise(starts), strict=False):
        found: dict[str | None, float] = {}
        for low, high in pairwise(start + part * (end - start) // PARTS for part in range(PARTS + 1)):
            read = conn.execute(_MADE_IN, (low, high, most)).fetchall()
            factor = 1.0
            if len(read) == most:  # those before the last are all there are before it
                factor = (high - low) / (read.pop()[1] - low)
            for route, number in Counter(row[0] for row in read).items():
                found[route] = found.get(route, 0.0) + number * factor
        made |= {(route, minute): round(number) for route, number in found.items()}
    return made, True


def _importance(one: RouteMinutes) -> tuple[int, int, int, str]:
    failed = 0 if one.times is None else one.times.failed
    return -failed, -one.queued, -sum(one.tasks), str(one.name)
