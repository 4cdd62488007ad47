"""How long tasks waited and attempts ran is counted as it happens, by the configuration's routes, whoever runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from covenq.model import Kind, at_text
from covenq.tasks.scheduling import attempt_times
from covenq.tasks.scheduling.attempt_times import BOUNDS, OTHER, AttemptTimes
from covenq.tasks.scheduling.outcome import Policy, Task
from journal.histogram import Counts
from tests.support.pool import Harness
from tests.support.waiting import eventually

START = 1_800_000_000.0


def _task(route: str, *, attempts: int = 0, waited_s: float = 0.0) -> Task:
    given = (None, None, None, None, None, None, None)
    return Task(
        "t", "9", "g", 1, route, *given, attempts, 0, 0, 1, None, Policy(()), created_at=at_text(START - waited_s)
    )


def _in(counts: Counts) -> dict[float, int]:
    """The counts that aren't 0, by their bounds."""
    return {bound: n for bound, n in zip((*BOUNDS, float("inf")), counts.counts, strict=True) if n}


def test_waiting_ends_with_the_first_attempt_and_running_with_each_end() -> None:
    times = AttemptTimes(lambda: {"fix"})
    times.began(_task("fix", waited_s=10.0), 1, START)
    times.ended(1, Kind.RETRY, START + 2.0)
    times.began(_task("fix", attempts=1, waited_s=10.0), 2, START + 5.0)
    times.ended(2, Kind.COMPLETED, START + 5.01)
    times.ended(2, Kind.COMPLETED, START + 99.0)
    times.ended(77, Kind.FAILED, START)  # of another process's
    assert _in(times.waited()["fix"]) == {15.0: 1} and times.waited()["fix"].total == 10.0
    assert {key: _in(counts) for key, counts in times.ran().items()} == {
        ("fix", "failed"): {5.0: 1},
        ("fix", "completed"): {0.05: 1},
    }


def test_a_claim_that_was_lost_and_a_clock_that_was_set_back_count_nothing_wrong() -> None:
    times = AttemptTimes(lambda: {"fix"})
    times.began(_task("fix", waited_s=-50.0), 1, START)
    times.forget(1)
    times.ended(1, Kind.COMPLETED, START + 1.0)
    times.began(_task("fix"), 2, START)
    times.ended(2, Kind.COMPLETED, START - 5.0)
    assert times.waited()["fix"].total == 0.0 and times.ran()["fix", "completed"].total == 0.0


def test_labels_are_the_routes_that_are_configured_now_and_other(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = {"a", "b"}
    times = AttemptTimes(lambda: routes)
    for claim, route in enumerate(("a", "b", "replay-to", "gone", *(f"forged{n}" for n in range(100)))):
        times.began(_task(route), claim, START)
        times.ended(claim, Kind.FAILED, START)
    assert set(times.waited()) == {"a", "b", OTHER}
    routes = {"b"}
    assert set(times.waited()) == {"b", OTHER} and set(times.ran()) == {("b", "failed"), (OTHER, "failed")}
    monkeypatch.setattr(attempt_times, "OPEN_MAX", 3)
    for claim in range(1000, 1010):
        times.began(_task("b"), claim, START)
    assert len(times._running) == 3


def test_a_pool_counts_what_it_runs(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "data").open()
    try:
        harness.add("good", [sys.executable, "-c", ""])
        harness.add("bad", [sys.executable, "-c", "raise SystemExit(3)"])
        pool = harness.pool(2)
        times = pool._context.times
        eventually(lambda: sum(sum(one.counts) for one in times.ran().values()) == 2)
        assert sum(times.waited()[OTHER].counts) == 2
        assert {key: sum(one.counts) for key, one in times.ran().items()} == {
            (OTHER, "completed"): 1,
            (OTHER, "failed"): 1,
        }
        assert not times._running
    finally:
        harness.close()
