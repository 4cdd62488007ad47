"""Records that say odd things of one task: that task's fault, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.model import Kind
from journal.records import Entry
from tests.support.pool import Harness
from tests.support.waiting import eventually


@pytest.fixture
def harness(journal_engine: None, tmp_path: Path) -> Iterator[Harness]:
    opened = Harness(tmp_path / "data").open()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.DELAYED, {"not_before": "garbage", "since": None}),
        (Kind.DELAYED, {"not_before": "2026-W48-1T00:00:00.000000Z", "since": "garbage"}),
        (Kind.DELAYED, {"not_before": "2026-99-99T99:99:99.999999Z", "since": None}),
        (Kind.DELAYED, {"not_before": ["2027"], "since": {}}),
        (Kind.RETRY, {"not_before": "garbage", "attempt": "x", "category": 7, "interruptions": "many"}),
    ],
)
def test_a_time_that_is_none_holds_up_nobody(harness: Harness, kind: Kind, data: dict[str, object]) -> None:
    odd = harness.add("g1", ["true"])
    harness.journal.append([Entry(f"task.{odd}", kind, data)])
    harness.row(odd)
    good = [harness.add(f"g{n}", ["true"]) for n in range(2, 5)]
    harness.pool(concurrency=1)
    for task in (*good, odd):
        assert harness.wait(task).state == "completed"


def test_a_time_at_the_end_of_all_holds_up_nobody(harness: Harness) -> None:
    odd = harness.add("g1", ["true"])
    last = "9999-12-31T23:59:59.999999Z"
    harness.journal.append([Entry(f"task.{odd}", Kind.DELAYED, {"not_before": last, "since": None})])
    harness.row(odd)
    now = [0.0]
    harness.pool(concurrency=1, clock=lambda: now[0])  # behind: what was postponed is postponed anew
    assert harness.wait(harness.add("g2", ["true"])).state == "completed"


@pytest.mark.parametrize("wait", [1e300, "inf", float("1e18")])
def test_a_wait_without_an_end_ends_its_task_alone(harness: Harness, wait: float | str) -> None:
    odd = harness.add("g1", ["false"], retry={"max": 1, "backoff_s": wait, "cap_s": wait})  # type: ignore[dict-item]
    good = harness.add("g2", ["true"])
    harness.pool(concurrency=1)
    assert harness.wait(good).state == "completed"
    eventually(lambda: harness.kinds(odd)[-1] in ("retry", "failed"), what="the attempt has ended")
    newest = harness.records(odd)[-1]
    assert newest.kind == Kind.RETRY
    assert str(newest.data["not_before"]) < "9999", "it waits, as long as can be written"
