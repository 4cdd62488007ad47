"""Statistics of deliveries over a span of time: by event, repository, route and state, from state.db."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence

from covenq.errors import UsageError
from covenq.filter.grammar import Filter
from covenq.model import at_text
from covenq.model.answers import Interval, More, NameStats, RouteStats, Stats
from covenq.state.query import condition

ROWS_MAX = 20
"""Events, repositories and routes listed, each; of the others only the number is given."""
BUCKETS = 24
"""Intervals that the span is divided into."""

_DELIVERIES = "FROM webhook_deliveries d WHERE {where} AND d.received_at >= ? AND d.received_at < ?"
_TASKS = (
    "FROM tasks t JOIN webhook_deliveries d ON d.seq = t.delivery_seq "
    "WHERE {where} AND d.received_at >= ? AND d.received_at < ?"
)


def stats(conn: sqlite3.Connection, filter: Filter, *, since: float, now: float, buckets: int = BUCKETS) -> Stats:
    """Statistics of the deliveries that match and came in [since, now).

    Of events, repositories and routes ROWS_MAX each are listed.

    `since` and `now` are seconds since 1970. Raises UsageError for a filter on the payload.
    """
    if filter.needs_payload:
        raise UsageError("payload filters can't be counted", hint="List what matches instead.")
    if not since < now:
        raise UsageError("there is no time between that and now", hint="Write --since 24h.")
    where, params = condition(conn, filter, "webhook_deliveries", now=now)
    span = [at_text(since), at_text(now)]
    some, of_tasks = _DELIVERIES.format(where=where), _TASKS.format(where=where)
    values = [*params, *span]
    groups = _groups(conn, some, values, since, (now - since) / buckets)
    events, repos = Counter[tuple[str | None, str]](), Counter[tuple[str | None, str]]()
    states, time = Counter[str](), Counter[tuple[int, str]]()
    duplicates = size = 0
    for event, repo, state, interval, number, repeated, bytes_in in groups:
        events[event, state] += number
        repos[repo, state] += number
        states[state] += number
        time[min(max(interval, 0), buckets - 1), state] += number
        duplicates += repeated
        size += bytes_in
    most_events, more_events = _most(events)
    most_repos, more_repos = _most(repos)
    routes, more_routes = _routes(
        conn, f"SELECT t.route, t.state, count(*), total(t.attempts) {of_tasks} GROUP BY 1, 2", values
    )
    return Stats(
        since=span[0],
        until=span[1],
        deliveries=states.total(),
        duplicates=duplicates,
        bytes=size,
        states=dict(sorted(states.items())),
        events=most_events,
        repos=most_repos,
        routes=routes,
        more=More(more_events, more_repos, more_routes),
        time=_time(time, since, now, buckets),
    )


def _groups(
    conn: sqlite3.Connection, some: str, values: Sequence[object], since: float, width: float
) -> Iterator[tuple[str | None, str | None, str, int, int, int, int]]:
    """(event, repo, state, interval, deliveries, duplicates, bytes), in one pass over the rows for all of the counts.
    `julianday` counts days."""
    sql = (
        "SELECT d.event, d.repo, d.state, CAST((julianday(d.received_at) - julianday(?)) * 86400.0 / ? AS INTEGER), "
        f"count(*), sum(d.duplicates), coalesce(sum(d.payload_bytes), 0) {some} GROUP BY 1, 2, 3, 4"
    )
    yield from conn.execute(sql, [at_text(since), width, *values])


def _most(found: Counter[tuple[str | None, str]]) -> tuple[list[NameStats], int]:
    counts: dict[str | None, Counter[str]] = {}
    for (name, state), number in found.items():
        counts.setdefault(name, Counter())[state] += number
    ordered = sorted(counts.items(), key=lambda one: (-one[1].total(), str(one[0])))
    listed = [NameStats(name, found.total(), found["failed"], found["ignored"]) for name, found in ordered[:ROWS_MAX]]
    return listed, max(0, len(ordered) - ROWS_MAX)


def _routes(conn: sqlite3.Connection, sql: str, values: Sequence[object]) -> tuple[list[RouteStats], int]:
    counts: dict[str | None, Counter[str]] = {}
    attempts: Counter[str | None] = Counter()
    for name, state, number, tried in conn.execute(sql, values):
        counts.setdefault(name, Counter())[str(state)] += int(number)
        attempts[name] += int(tried)
    ordered = sorted(counts.items(), key=lambda one: (-one[1].total(), str(one[0])))
    listed = [RouteStats(name, found.total(), attempts[name], dict(found)) for name, found in ordered[:ROWS_MAX]]
    return listed, max(0, len(ordered) - ROWS_MAX)


def _time(found: Counter[tuple[int, str]], since: float, now: float, buckets: int) -> list[Interval]:
    whole = Counter[int]()
    for (interval, _), number in found.items():
        whole[interval] += number
    width = (now - since) / buckets
    return [
        Interval(at_text(since + interval * width), whole[interval], found[interval, "failed"])
        for interval in range(buckets)
    ]
