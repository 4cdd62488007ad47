"""How attempts ended, and how long they waited and ran, by route: read out of state.db within a bound, as it grows.

ATTEMPTS_MAX rows are read, whatever the span: of more, as many from each of PARTS parts of the span, so that a percentile is of
the whole of it. Whoever shows the numbers then says so (`sampled`).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from covenq.model import State
from covenq.model.route_times import RouteTimes, Times
from covenq.text import instant

ATTEMPTS_MAX = 4000
PARTS = 50
UNKNOWN_CATEGORY = "unknown"
"""A failure whose record has no category: nothing of covenq's writes one."""

_COLUMNS = "t.route, a.attempt, t.created_at, a.started_at, a.ended_at, a.outcome, a.category"
_BEGUN = f"""SELECT {_COLUMNS} FROM task_attempts a CROSS JOIN tasks t ON t.id = a.task
    WHERE a.claim_seq BETWEEN ? AND ? AND +a.started_at >= ? AND +a.started_at < ? LIMIT ?"""  # noqa: S608 - constants
_ATTEMPT_AT = "SELECT claim_seq, started_at FROM task_attempts WHERE claim_seq >= ? ORDER BY claim_seq LIMIT 1"
_ATTEMPT_LAST = "SELECT max(claim_seq) FROM task_attempts"
_EDGE = "SELECT seq FROM webhook_deliveries WHERE received_at {} ? ORDER BY received_at {} LIMIT 1"


class Ended(NamedTuple):
    """An attempt, as far as it is counted; the columns of a row."""

    route: str | None
    attempt: int
    queued_at: str
    started_at: str
    ended_at: str | None
    outcome: str | None
    category: str | None


@dataclass(slots=True)
class _Route:
    attempts: int = 0
    completed: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    ran: list[float] = field(default_factory=list)

    def add(self, one: Ended) -> None:
        self.attempts += 1
        self.completed += one.outcome == State.COMPLETED
        if one.outcome == State.FAILED:
            self.categories[one.category or UNKNOWN_CATEGORY] += 1
        if one.attempt == 1:
            _add(self.waited, one.queued_at, one.started_at)
        if one.ended_at is not None:
            _add(self.ran, one.started_at, one.ended_at)

    def told(self) -> RouteTimes:
        return RouteTimes(
            attempts=self.attempts,
            completed=self.completed,
            failed=self.categories.total(),
            categories=dict(self.categories.most_common()),
            waited=times(self.waited),
            ran=times(self.ran),
        )


class Found(NamedTuple):
    """By route; `sampled`: there were more than the attempts that were read."""

    routes: dict[str | None, RouteTimes]
    sampled: bool


def begun(conn: sqlite3.Connection, since: str, until: str) -> Found:
    """Of the attempts that began in [since, until)."""
    (last,) = conn.execute(_ATTEMPT_LAST).fetchone()
    first = first_since(conn, _ATTEMPT_AT, since, int(last or 0))
    return _told(int(last or 0), first, lambda low, high, most: conn.execute(_BEGUN, (low, high, since, until, most)))


def of_deliveries(conn: sqlite3.Connection, where: str, params: Sequence[object], since: str, until: str) -> Found:
    """Of the attempts of the tasks of the deliveries `d` received in [since, until) for which that SQL holds."""
    edges = [
        conn.execute(_EDGE.format(*words), (at,)).fetchone()
        for words, at in (((">=", ""), since), (("<", "DESC"), until))
    ]
    if None in edges:
        return Found({}, False)
    sql = (
        f"SELECT {_COLUMNS} FROM webhook_deliveries d CROSS JOIN tasks t ON t.delivery_seq = d.seq "  # noqa: S608
        f"CROSS JOIN task_attempts a ON a.task = t.id WHERE {where} AND d.seq BETWEEN ? AND ? "
        "AND +d.received_at >= ? AND +d.received_at < ? LIMIT ?"
    )
    first, last = edges[0][0], edges[1][0]
    return _told(last, first, lambda low, high, most: conn.execute(sql, (*params, low, high, since, until, most)))


def first_since(conn: sqlite3.Connection, sql: str, since: str, last: int) -> int:
    """The seq of the first row of a table in order of time that is not before `since`, by halves; past `last` if none is.

    `sql` selects seq and time of the row at a seq or after it. Where a clock was set back, it may be a later row's.
    """
    low, high = 0, last + 1
    while low < high:
        row = conn.execute(sql, ((low + high) // 2,)).fetchone()
        if row is None or row[1] >= since:
            high = (low + high) // 2
        else:
            low = row[0] + 1
    return low


def times(values: Sequence[float]) -> Times | None:
    """The nearest-rank percentiles, None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p95 = (round(ordered[-(-len(ordered) * percent // 100) - 1], 6) for percent in (50, 95))
    return Times(len(ordered), p50, p95)


def _told(last: int, first: int, read: Callable[[int, int, int], Iterable[Sequence[object]]]) -> Found:
    rows = list(read(first, last, ATTEMPTS_MAX + 1))
    sampled = len(rows) > ATTEMPTS_MAX
    if sampled:
        rows = [row for low, high in _parts(first, last) for row in read(low, high, ATTEMPTS_MAX // PARTS)]
    routes: dict[str | None, _Route] = {}
    for row in rows:
        one = Ended(*row)  # type: ignore[arg-type]  # the columns of SQLite are of their table's types
        routes.setdefault(one.route, _Route()).add(one)
    return Found({route: found.told() for route, found in routes.items()}, sampled)


def _parts(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The seqs from first to last in PARTS ranges."""
    edges = [first + part * (last + 1 - first) // PARTS for part in range(PARTS + 1)]
    for low, high in pairwise(edges):
        if low < high:
            yield low, high - 1


def _add(values: list[float], start: str, end: str) -> None:
    """A clock that was set back makes no negative duration; a time that is none, none at all."""
    begin, stop = instant(start), instant(end)
    if begin is not None and stop is not None:
        values.append(max(0.0, stop - begin))
