"""Counts of deliveries and of their tasks: by state, event, repository and route, and by interval of time.

Counts of rows (`count`) and counts that were made earlier (`covenq.state.rollups`) are added to the same object, so that there
is one way to count a row.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from covenq.model import State

_FAILED, _IGNORED = State.FAILED.value, State.IGNORED.value

NameCount = tuple[str | None, int, int, int]
"""The name of an event or a repository: its deliveries, how many of them failed, and how many were ignored."""
RouteCount = tuple[str | None, str, int, int]
"""A route and a state: how many of its tasks are in it, and the attempts that these have had."""


class CountsText(msgspec.Struct, array_like=True):
    """Counts as they are kept, as a JSON array: the names of repositories are most of it."""

    duplicates: int
    bytes: int
    states: dict[str, int]
    events: list[NameCount]
    repos: list[NameCount]
    routes: list[RouteCount]


_MOST = (1 << 63) - 1
"""A forged record may say that its attempt is as high a number as that."""
_DECODER = msgspec.json.Decoder(CountsText)


@dataclass(slots=True)
class Timeline:
    """Deliveries by interval of time; the last one has no end."""

    starts: Sequence[str]
    """When each interval begins, in order."""
    deliveries: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)

    def interval(self, received_at: str) -> int:
        """The interval that it is in; what is before all of them is in the first."""
        return max(bisect_right(self.starts, received_at) - 1, 0)

    def add(self, interval: int, deliveries: int, failed: int) -> None:
        self.deliveries[interval] += deliveries
        self.failed[interval] += failed

    def sql(self) -> tuple[str, list[str]]:
        """`interval` of a delivery `d` as SQL, and its parameters."""
        return _interval_sql(self.starts, 0, len(self.starts))


NO_TIMELINE = Timeline([""])
"""Of one interval: who counts for it needs no times."""


@dataclass(slots=True)
class Counts:
    """Counts of some deliveries, and of their tasks."""

    duplicates: int = 0
    bytes: int = 0
    states: Counter[str] = field(default_factory=Counter)
    events: dict[str | None, list[int]] = field(default_factory=dict)
    """Each name's deliveries, how many of them failed, and how many were ignored."""
    repos: dict[str | None, list[int]] = field(default_factory=dict)
    """As `events`, by the name as it is spelled."""
    tasks: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    """By route and state."""
    attempts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    """Of these tasks."""

    def text(self) -> str:
        """As `add_text` takes it: the same counts always give the same text."""
        routes = [(*key, number, min(self.attempts[key], _MOST)) for key, number in self.tasks.items()]
        kept = CountsText(
            self.duplicates,
            self.bytes,
            dict(sorted(self.states.items())),
            sorted(_named(self.events), key=repr),
            sorted(_named(self.repos), key=repr),
            sorted(routes, key=repr),
        )
        return msgspec.json.encode(kept).decode()

    def add_text(self, text: str) -> None:
        """Raises sqlite3.DatabaseError where it isn't what `text` gives: nothing of covenq wrote it."""
        try:
            kept = _DECODER.decode(text)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise sqlite3.DatabaseError(f"counts are not as they were made: {error}") from error
        self.duplicates += kept.duplicates
        self.bytes += kept.bytes
        self.states.update(kept.states)
        _add(self.events, kept.events)
        _add(self.repos, kept.repos)
        for route, state, number, attempts in kept.routes:
            self.tasks[route, state] += number
            self.attempts[route, state] += attempts


def count(
    conn: sqlite3.Connection, where: str, params: Sequence[object], counts: Counts, timeline: Timeline = NO_TIMELINE
) -> None:
    """Add the deliveries `d` for which that SQL holds, and their tasks.

    One pass over the deliveries is for all of the counts.
    """
    interval, starts = timeline.sql()
    groups = (
        f"SELECT d.event, d.repo, d.state, {interval}, count(*), sum(d.duplicates), coalesce(sum(d.payload_bytes), 0) "  # noqa: S608
        f"FROM webhook_deliveries d WHERE {where} GROUP BY 1, 2, 3, 4"
    )
    events: list[NameCount] = []
    repos: list[NameCount] = []
    for event, repo, state, at, number, duplicates, size in conn.execute(groups, [*starts, *params]):
        failed, ignored = number if state == _FAILED else 0, number if state == _IGNORED else 0
        events.append((event, number, failed, ignored))
        repos.append((repo, number, failed, ignored))
        timeline.add(at, number, failed)
        counts.states[state] += number
        counts.duplicates += duplicates
        counts.bytes += size
    _add(counts.events, events)
    _add(counts.repos, repos)
    routes = (
        "SELECT t.route, t.state, count(*), total(t.attempts) "  # noqa: S608 - the conditions are `covenq.filter.sql`'s, or ours
        f"FROM tasks t JOIN webhook_deliveries d ON d.seq = t.delivery_seq WHERE {where} GROUP BY 1, 2"
    )
    for route, state, number, attempts in conn.execute(routes, params):
        counts.tasks[route, state] += number
        counts.attempts[route, state] += int(attempts)


def count_times(conn: sqlite3.Connection, where: str, params: Sequence[object], timeline: Timeline) -> None:
    """As `count`, of the timeline alone."""
    interval, starts = timeline.sql()
    groups = f"SELECT {interval}, d.state = ?, count(*) FROM webhook_deliveries d WHERE {where} GROUP BY 1, 2"  # noqa: S608
    for at, failed, number in conn.execute(groups, [*starts, _FAILED, *params]):
        timeline.add(at, number, number if failed else 0)


def _add(names: dict[str | None, list[int]], found: Sequence[NameCount]) -> None:
    for name, number, failed, ignored in found:
        known = names.get(name)
        if known is None:
            names[name] = [number, failed, ignored]
        else:
            known[0] += number
            known[1] += failed
            known[2] += ignored


def _named(names: dict[str | None, list[int]]) -> list[NameCount]:
    return [(name, number, failed, ignored) for name, (number, failed, ignored) in names.items()]


def _interval_sql(starts: Sequence[str], low: int, high: int) -> tuple[str, list[str]]:
    """A search by halves: a comparison of texts for each half, where `julianday` would parse each row's time."""
    if high - low == 1:
        return str(low), []
    middle = (low + high) // 2
    (earlier, before), (later, after) = _interval_sql(starts, low, middle), _interval_sql(starts, middle, high)
    return f"CASE WHEN d.received_at < ? THEN {earlier} ELSE {later} END", [starts[middle], *before, *after]
