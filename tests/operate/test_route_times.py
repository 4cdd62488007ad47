"""How attempts ended and how long they took, by route: counted from folded records, and by a sample where there are too many."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from covenq.filter.grammar import parse
from covenq.model import at_text
from covenq.model.answers import RouteStats
from covenq.model.route_times import RouteTimes, Times
from covenq.operate.inspect import route_minutes, route_times
from covenq.operate.inspect.stats import stats
from covenq.operate.inspect.throughput import per_minute
from covenq.state.fold import fold
from journal.records import Entry
from tests.support.records import START, as_records, empty_state, moved, of, queued, received


def _some(number: int, *, route: str = "fix", first: int = 0) -> Iterator[Entry]:
    """Per delivery five records, a second each: its task waits a second and runs one, and each fifth fails."""
    for n in range(first, first + number):
        guid, task = f"g{n}", of(f"g{n}", route=route)
        yield received(guid)
        yield queued(guid, route=route)
        yield moved("claimed", task, attempt=1, worker="w")
        if n % 5:
            yield moved("completed", task, attempt=1)
        else:
            yield moved("failed", task, attempt=1, category="timeout" if n % 10 else "exit", exit_code=3)


@pytest.fixture
def state() -> sqlite3.Connection:
    """20 of fix, then 10 of mirror, the last of which is claimed once more and runs, and three that wait."""
    conn = empty_state()
    entries = [*_some(20), *_some(10, route="mirror", first=20)]
    task = of("g29", route="mirror")
    entries += [moved("requeued", task), moved("claimed", task, attempt=2, worker="w")]
    entries += [one for n in (1, 2, 3) for one in (received(f"w{n}"), queued(f"w{n}", route="late"))]
    fold(conn, as_records(entries))
    return conn


def test_a_routes_minutes_have_what_came_how_it_ended_and_what_waits(state: sqlite3.Connection) -> None:
    found = per_minute(state, minutes=3, now=START + 130)
    assert not found.sampled and found.more_routes == 0
    mirror, fix, late = sorted(found.routes, key=lambda one: ("mirror", "fix", "late").index(str(one.name)))
    assert (sum(fix.tasks), sum(mirror.tasks), sum(late.tasks)) == (20, 10, 3)
    assert fix.tasks == [15, 5, 0], "a record a second, four for each task"
    times = RouteTimes(20, 16, 4, {"exit": 2, "timeout": 2}, Times(20, 1.0, 1.0), Times(20, 1.0, 1.0))
    assert fix.times == times and times.ok == 0.8
    assert mirror.times is not None
    assert (mirror.times.attempts, mirror.times.completed, mirror.times.failed) == (11, 8, 2), "one of them runs"
    assert mirror.times.waited == mirror.times.ran == Times(10, 1.0, 1.0), "waiting is up to the first attempt"
    assert (late.queued, late.times) == (3, None)
    assert [one.name for one in found.routes] == ["fix", "mirror", "late"], "what failed is first, then what waits"
    assert per_minute(state, minutes=1, now=START + 3600).routes[0].name == "late", (
        "what waits is told whenever it came"
    )


def test_statistics_have_the_same_of_what_came_and_of_a_filter_too(state: sqlite3.Connection) -> None:
    found = stats(state, parse(""), since=START, now=START + 200)
    assert [one.name for one in found.routes] == ["fix", "mirror", "late"]
    fix, mirror, late = found.routes
    assert fix.times == RouteTimes(20, 16, 4, {"exit": 2, "timeout": 2}, Times(20, 1.0, 1.0), Times(20, 1.0, 1.0))
    assert mirror.times is not None and mirror.times.attempts == mirror.attempts == 11
    assert late == RouteStats("late", tasks=3, attempts=0, states={"queued": 3})
    (only,) = stats(state, parse("state:failed route:mirror"), since=START, now=START + 200).routes
    assert only.times is not None and only.times.categories == {"exit": 1, "timeout": 1}
    assert only.times.completed == 0
    (early,) = stats(state, parse(""), since=START, now=START + 8).routes
    assert early.times is not None and early.times.attempts == 2


def test_of_more_than_is_read_a_sample_of_the_whole_span_is_told(
    state: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_times, "ATTEMPTS_MAX", 20)
    monkeypatch.setattr(route_times, "PARTS", 10)
    monkeypatch.setattr(route_minutes, "TASKS_MAX", 24)
    statements: list[str] = []
    state.set_trace_callback(statements.append)
    found = per_minute(state, minutes=3, now=START + 130)
    state.set_trace_callback(None)
    routes = {one.name: one for one in found.routes}
    assert found.sampled
    attempts = [routes[name].times.attempts for name in ("fix", "mirror")]  # type: ignore[union-attr]
    assert sum(attempts) <= 20 and all(attempts), "the sample is of the whole span"
    assert abs(sum(routes["fix"].tasks) - 20) <= 4 and abs(sum(routes["mirror"].tasks) - 10) <= 4, (
        "and tasks are estimated"
    )
    assert all("LIMIT" in one for one in statements if "FROM task_attempts a" in one or "created_at FROM tasks" in one)
    told = stats(state, parse(""), since=START, now=START + 200)
    assert told.sampled and sum(one.tasks for one in told.routes) == 33, "counts of tasks stay exact"


def test_only_so_many_routes_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    conn = empty_state()
    fold(conn, as_records(one for n in range(5) for one in (received(f"g{n}"), queued(f"g{n}", route=f"r{n}"))))
    monkeypatch.setattr(route_minutes, "ROUTES_MAX", 3)
    found = per_minute(conn, minutes=1, now=START + 30)
    assert (len(found.routes), found.more_routes) == (3, 2)


def test_the_first_row_of_a_span_is_found_by_halves(state: sqlite3.Connection) -> None:
    sql = "SELECT seq, received_at FROM webhook_deliveries WHERE seq >= ? ORDER BY seq LIMIT 1"
    (last,) = state.execute("SELECT max(seq) FROM webhook_deliveries").fetchone()
    for second in range(0, last + 3, 7):
        since = at_text(START + second)
        row = state.execute("SELECT min(seq) FROM webhook_deliveries WHERE received_at >= ?", (since,)).fetchone()
        found = route_times.first_since(state, sql, since, last)
        assert state.execute(sql, (found,)).fetchone()[0] == row[0] if row[0] is not None else found == last + 1


def test_percentiles_are_of_what_was_measured() -> None:
    assert route_times.times([]) is None
    assert route_times.times([2.0]) == Times(1, 2.0, 2.0)
    assert route_times.times([float(n) for n in range(100, 0, -1)]) == Times(100, 50.0, 95.0)
