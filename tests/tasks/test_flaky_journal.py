"""The product over a journal whose answers get lost, come late, or whose reads fail: nothing lost, doubled or stuck."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covenq.config.live import Snapshot
from covenq.config.load import Config, build
from covenq.config.secret_keys import Key
from covenq.intake.receive import Request, receive
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId
from covenq.model.rows import Delivery
from covenq.operate.act import pauses
from covenq.operate.act.actions import plan_cancel, plan_requeue
from covenq.operate.act.plan import Plan, apply
from covenq.operate.answers import Done
from covenq.operate.parameters import Pause, Selection
from covenq.state import query
from covenq.tasks.execution.pool import Pool, PoolSettings
from covenq.tasks.remote.claims import Claims
from covenq.tasks.remote.report_files import ReportFiles
from tests.support.flaky import FlakyJournal
from tests.support.pool import Harness
from tests.support.records import queued, received
from tests.support.requests import SECRET, issue, signed

SEEDS = range(6)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (
        "journal.append.PAUSE_S",
        "covenq.tasks.execution.attempt.RETRY_S",
        "covenq.tasks.execution.pool.RETRY_S",
    ):
        monkeypatch.setattr(name, 0.001)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def harness(journal_engine: None, tmp_path: Path) -> Iterator[Harness]:
    opened = Harness(tmp_path / "data").open()
    yield opened
    opened.close()


def once(kinds: list[str], word: str) -> bool:
    return Counter(kinds)[word] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pool_ends_every_task_once(harness: Harness, seed: int) -> None:
    tasks = [harness.add(f"g{n}", ["true"] if n % 3 else ["false"]) for n in range(12)]
    flaky = FlakyJournal(harness.journal, seed, reads=0.1)
    pool = Pool(flaky, harness.store, harness.fold_thread, harness.data, settings=PoolSettings(3))
    harness.pools.append(pool)
    pool.start()
    for task in tasks:
        harness.wait(task)
    assert pool.stop(30.0)
    assert pool.error is None
    assert flaky.lost
    for task in tasks:
        kinds = harness.kinds(task)
        assert once(kinds, "claimed") and once(kinds, "completed") != once(kinds, "failed"), kinds


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stop_leaves_no_task_that_the_next_start_does_not_end(harness: Harness, seed: int) -> None:
    tasks = [harness.add(f"g{n}", ["sleep", "0.05"]) for n in range(8)]
    pool = Pool(
        FlakyJournal(harness.journal, seed, before=0.3, after=0.3), harness.store, harness.fold_thread, harness.data
    )
    pool.start()
    harness.wait(tasks[0], "running", "completed")
    assert pool.stop(30.0)
    harness.pool()
    for task in tasks:
        assert harness.wait(task).state == "completed"
        assert once(harness.kinds(task), "completed")


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_answered_202_is_there_once(harness: Harness, seed: int) -> None:
    config = build({"route": [{"name": "r", "match": "event:issues", "pull": True}]}, None, {})
    flaky = FlakyJournal(harness.journal, seed, reads=0.05)

    def lookup(id: DeliveryId, at_least: int) -> Delivery | None:
        assert harness.fold_thread.wait_for(at_least, 30)
        return query.delivery(harness.store.reader(), id.hook, id.guid)

    for number in range(40):
        guid = f"guid-{number // 2}"
        body, headers = signed("issues", issue(number // 2), guid, "9")
        answer = receive(
            Request(list(headers.items()), body),
            journal=flaky,
            live=Snapshot(config, (Key("t", SECRET.encode()),)),
            bindings=ScopeBindings(flaky),
            lookup=lookup,
        )
        assert (answer.status, answer.body["duplicate"]) == ((202, False), (200, True))[number % 2]
    kinds = Counter(record.kind for record in harness.journal.read(0))
    assert (kinds["delivery.received"], kinds["task.queued"], kinds["delivery.repeated"]) == (20, 20, 20)
    assert flaky.lost


@pytest.mark.parametrize("seed", SEEDS)
def test_pull_workers_get_each_task_once(harness: Harness, seed: int) -> None:
    ids = []
    for number in range(20):
        entry = queued(
            f"g{number}", route="p", kind="pull", policy={"pull": True, "timeout_s": 600.0, "retry": {"max": 0}}
        )
        harness.journal.append([received(f"g{number}"), entry])
        ids.append(entry.subject)
    claims = Claims(FlakyJournal(harness.journal, seed), harness.store, harness.fold_thread, ReportFiles(harness.data))
    claims.start()
    try:
        while granted := claims.claim_all("w", 60, 3):
            for one in granted:
                claims.reports.phase(one.task.id, one.fence, "at it")
                claims.reports.complete(one.task.id, one.fence, result={"n": 1})
    finally:
        claims.stop()
    for subject in ids:
        kinds = [record.kind for record in harness.journal.read(0) if record.subject == subject]
        assert kinds == ["task.queued", "task.claimed", "task.phase", "task.completed"]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_operators_do_is_done_once(harness: Harness, seed: int) -> None:
    tasks = [harness.add(f"g{n}", ["true"]) for n in range(6)]
    flaky = FlakyJournal(harness.journal, seed)

    def conn() -> object:
        assert harness.fold_thread.wait_for(harness.journal.head().seq, 30)
        return harness.store.reader()

    def act(plan: Callable[..., Plan]) -> list[Done]:
        return apply(plan(flaky, conn(), Config(), Selection(ids=tasks), None), flaky).done

    assert len(act(plan_cancel)) == 6
    assert len(act(plan_requeue)) == 6
    assert pauses.pause(flaky, conn, Pause(what="worker")).changed  # type: ignore[arg-type]
    assert pauses.resume(flaky, conn, Pause(what="worker")).changed  # type: ignore[arg-type]
    for task in tasks:
        assert harness.kinds(task) == ["queued", "cancelled", "requeued"]
    assert [r.kind for r in harness.journal.read(0) if r.subject == "ops.pauses"] == ["ops.paused", "ops.resumed"]
