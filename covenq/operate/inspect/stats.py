"""Statistics of deliveries over a span of time: by event, repository, route and state, from state.db."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from covenq.errors import UsageError
from covenq.filter.grammar import Filter
from covenq.model import at_text
from covenq.model.answers import Interval, More, NameStats, RouteStats, Stats
from covenq.model.route_times import RouteTimes
from covenq.operate.inspect import route_times
from covenq.state.counts import Counts, Timeline, count
from covenq.state.query import condition
from covenq.state.readers import snapshot
from covenq.state.rollup_cover import IN_SPAN, count_span

ROWS_MAX = 20
"""Events, repositories and routes listed, each; of the others only the number is given."""
BUCKETS = 24
"""Intervals that the span is divided into."""


def stats(conn: sqlite3.Connection, filter: Filter, *, since: float, now: float, buckets: int = BUCKETS) -> Stats:
    """Statistics of the deliveries that match and came in [since, now).

    Of events, repositories and routes ROWS_MAX each are listed.

    `since` and `now` are seconds since 1970. Raises UsageError for a filter on the payload.
    """
    if filter.needs_payload:
        raise UsageError("payload filters can't be counted", hint="List what matches instead.")
    if not since < now:
        raise UsageError("there is no time between that and now", hint="Write --since 24h.")
    span = at_text(since), at_text(now)
    starts = [at_text(since + interval * (now - since) / buckets) for interval in range(buckets)]
    counts, timeline = Counts(), Timeline(starts)
    where: str
    params: Sequence[object]
    with snapshot(conn):
        where, params = "1", []
        if filter.node.nodes:
            where, params = condition(conn, filter, "webhook_deliveries", now=now)
            count(conn, f"{where} AND {IN_SPAN}", [*params, *span], counts, timeline)
        else:
            count_span(conn, *span, counts, timeline)
        times = route_times.of_deliveries(conn, where, params, *span)
    events, more_events = _most(counts.events)
    repos, more_repos = _most(counts.repos)
    routes, more_routes = _routes(counts, times.routes)
    return Stats(
        since=span[0],
        until=span[1],
        deliveries=counts.states.total(),
        duplicates=counts.duplicates,
        bytes=counts.bytes,
        states=dict(sorted(counts.states.items())),
        events=events,
        repos=repos,
        routes=routes,
        more=More(more_events, more_repos, more_routes),
        time=[Interval(at, timeline.deliveries[n], timeline.failed[n]) for n, at in enumerate(starts)],
        sampled=times.sampled,
    )


def _most(counts: Mapping[str | None, Sequence[int]]) -> tuple[list[NameStats], int]:
    ordered = sorted(counts.items(), key=lambda one: (-one[1][0], _order(one[0])))
    return [NameStats(name, *numbers) for name, numbers in ordered[:ROWS_MAX]], max(0, len(ordered) - ROWS_MAX)


def _routes(counts: Counts, times: Mapping[str | None, RouteTimes]) -> tuple[list[RouteStats], int]:
    states: dict[str | None, dict[str, int]] = {}
    for (route, state), number in sorted(counts.tasks.items(), key=lambda one: one[0][1]):
        states.setdefault(route, {})[state] = number
    ordered = sorted(states.items(), key=lambda one: (-sum(one[1].values()), _order(one[0])))
    listed = [
        RouteStats(
            name=route,
            tasks=sum(found.values()),
            attempts=sum(counts.attempts[route, state] for state in found),
            states=found,
            times=times.get(route),
        )
        for route, found in ordered[:ROWS_MAX]
    ]
    return listed, max(0, len(ordered) - ROWS_MAX)


def _order(name: str | None) -> tuple[str, bool]:
    """Of names that are as frequent: none is in the place of the text None."""
    return str(name), name is not None
