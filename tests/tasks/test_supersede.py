"""Tasks that newer ones outdate: superseded, held back for a quiet period, or stale; over the real fold and dispatcher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from covenq.config.load import build
from covenq.model import DeliveryId, Kind, at_text
from covenq.routing.decide import route
from covenq.state.fold import fold
from covenq.tasks.scheduling.claim import Claim, StaleClaim
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.outcome import Task
from covenq.tasks.scheduling.waiting import waiting
from journal.records import Entry
from tests.support.records import START, empty_state
from tests.support.simulation import Crash, SimJournal

KEYED = {"key": "{repo}#{number}"}


class Harness:
    """A journal in memory, the state folded behind it, and a dispatcher."""

    def __init__(self, **rule: Any) -> None:
        self.now = START
        self.fault: list[Any] = []
        self.journal = SimJournal(lambda: self.now, lambda entries: self.fault.pop(0) if self.fault else None)
        self.conn = empty_state()
        self.folded = 0
        self.config = build({"route": [{"name": "r", "match": "", "run": ["true"], **rule}]}, None, {})
        self.start()

    def start(self) -> None:
        self.dispatcher = Dispatcher(self.journal, lambda: self.folded, lambda: self.config.caps)

    def arrive(
        self, name: str, number: int = 1, at: str | None = None, head: str | None = None, replay: int = 0
    ) -> str:
        id = DeliveryId("9", name)
        row = {"event": "pull_request", "repo": "o/r", "repo_id": 6, "number": number, "head_sha": head}
        body = {"pull_request": {"updated_at": at}}
        decided = route(self.config, id, row, lambda: body, now=lambda: self.now, replay=replay)
        self.journal.append(decided.entries)
        return decided.tasks[0]

    def fold(self) -> None:
        fold(self.conn, self.journal.records[self.folded :])
        self.folded = len(self.journal.records)

    def supersede(self) -> None:
        """Fold and record what is outdated, until there is nothing more."""
        self.fold()
        while self.dispatcher.record_queue_changes(self.conn, self.now):
            self.fold()

    def claim(self) -> list[tuple[Task, Claim]]:
        found = []
        for task in self.dispatcher.pick(self.conn, self.now, 10):
            claim = Claim.acquire(self.journal, task, "w")
            self.dispatcher.release(task, self.journal.head().seq)
            if claim is not None:
                found.append((task, claim))
        self.fold()
        return found

    def state(self, task: str) -> tuple[str, str | None]:
        row = self.conn.execute("SELECT state, reason FROM tasks WHERE id = ?", (task,)).fetchone()
        return row["state"], row["reason"]

    def superseded(self) -> dict[str, Any]:
        return {r.subject[5:]: r.data for r in self.journal.records if r.kind == Kind.SUPERSEDED}


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    made = Harness(**request.param)
    yield made
    made.conn.close()


QUEUED = pytest.mark.parametrize("harness", [{**KEYED, "supersede": "queued"}], indirect=True)
RUNNING = pytest.mark.parametrize("harness", [{**KEYED, "supersede": "running", "retry": {"max": 3}}], indirect=True)
QUIET = pytest.mark.parametrize("harness", [{**KEYED, "debounce": "30s", "debounce_max": "70s"}], indirect=True)
ORDER = pytest.mark.parametrize("harness", [{"order": "newest"}], indirect=True)


@QUEUED
def test_the_newest_of_a_key_wins(harness: Harness) -> None:
    first, second, other, third = (harness.arrive(n, number) for n, number in (("a", 1), ("b", 1), ("c", 2), ("d", 1)))
    harness.supersede()
    assert harness.superseded() == {one: {"by_task": third, "reason": "newer"} for one in (first, second)}
    assert harness.state(first) == ("superseded", "newer")
    assert [task.id for task, _ in harness.claim()] == [other, third]


@QUEUED
def test_what_runs_is_left_alone_and_the_newest_waits_for_it(harness: Harness) -> None:
    first = harness.arrive("a")
    harness.supersede()
    [(_, claim)] = harness.claim()
    second = harness.arrive("b")
    harness.supersede()
    third = harness.arrive("c")
    harness.supersede()
    assert harness.superseded() == {second: {"by_task": third, "reason": "newer"}}
    assert harness.state(first) == ("running", None)
    assert harness.claim() == []
    # It fails, and would be tried again: but it is not the newest any more.
    claim.record(
        [(Kind.RETRY, claim.record_data(category="exit", not_before=at_text(harness.now + 5), interruptions=0))]
    )
    harness.supersede()
    assert harness.superseded()[first] == {"by_task": third, "reason": "newer"}
    assert [task.id for task, _ in harness.claim()] == [third]


@QUEUED
def test_what_is_not_recorded_yet_is_not_picked_either(harness: Harness) -> None:
    harness.arrive("a")
    newest = harness.arrive("b")
    harness.fold()
    assert [task.id for task, _ in harness.claim()] == [newest]


@QUEUED
def test_one_that_is_claimed_in_that_moment_is_left_alone(harness: Harness) -> None:
    first = harness.arrive("a")
    harness.fold()
    [task] = harness.dispatcher.pick(harness.conn, harness.now, 10)
    second = harness.arrive("b")
    harness.fold()
    claim = Claim.acquire(harness.journal, task, "w")  # durable, and not folded when superseding is checked
    assert claim is not None
    assert harness.dispatcher.record_queue_changes(harness.conn, harness.now) == 0
    harness.dispatcher.release(task, claim.seq)
    harness.supersede()
    assert harness.superseded() == {}
    assert (harness.state(first)[0], harness.state(second)[0]) == ("running", "queued")


@QUEUED
def test_a_long_queue_of_one_key_is_looked_at_in_portions(harness: Harness) -> None:
    tasks = [harness.arrive(f"g{n}") for n in range(700)]
    harness.fold()
    assert harness.dispatcher.record_queue_changes(harness.conn, harness.now) == 700 + 256
    assert [task.id for task, _ in harness.claim()] == [tasks[-1]], "whatever is not recorded yet"
    harness.supersede()
    assert set(harness.superseded()) == set(tasks[:-1])


@QUEUED
def test_an_operators_word_wins(harness: Harness) -> None:
    first, second = harness.arrive("a"), harness.arrive("b")
    harness.supersede()
    harness.journal.append([Entry(f"task.{first}", Kind.REQUEUED, {"by": "me", "reason": None})])
    replayed = harness.arrive("a", replay=1)
    harness.supersede()
    assert set(harness.superseded()) == {first}
    assert {harness.state(one)[0] for one in (first, second, replayed)} == {"queued"}


@RUNNING
def test_what_runs_is_superseded_too_and_its_result_withheld(harness: Harness) -> None:
    first = harness.arrive("a")
    harness.supersede()
    [(_, claim)] = harness.claim()
    claim.record([(Kind.PHASE, claim.record_data(phase="started"))])
    second = harness.arrive("b")
    harness.fold()
    claim.record([(Kind.PHASE, claim.record_data(phase="testing"))])  # moves it between the check and the record
    assert harness.dispatcher.record_queue_changes(harness.conn, harness.now) == 0
    harness.supersede()
    assert harness.superseded()[first] == {"by_task": second, "reason": "newer", "attempt": 1, "claim": claim.seq}
    with pytest.raises(StaleClaim):
        claim.record([(Kind.COMPLETED, claim.record_data(exit_code=0, result=None))])
    assert harness.state(first) == ("superseded", "newer")
    row = harness.conn.execute("SELECT outcome, ended_at FROM task_attempts WHERE task = ?", (first,)).fetchone()
    assert row["outcome"] == "superseded"
    assert row["ended_at"] is not None
    assert [task.id for task, _ in harness.claim()] == [second]


# ---- the quiet period


@QUIET
def test_a_burst_runs_once_after_it_is_quiet(harness: Harness) -> None:
    for n in range(3):
        newest = harness.arrive(f"g{n}")
        harness.supersede()
        harness.now += 10
    assert harness.claim() == []
    told = waiting(harness.conn, newest, harness.now)
    assert told is not None
    assert told.word == "debounce"
    harness.now = START + 20 + 30
    assert [task.id for task, _ in harness.claim()] == [newest]


@QUIET
@pytest.mark.parametrize("restarts", [False, True])
def test_a_burst_without_end_runs_in_time_whatever_restarts(harness: Harness, restarts: bool) -> None:
    """A delivery every 20 s keeps a quiet period of 30 s from ending; 70 s after the first one, the newest runs."""
    for n in range(4):
        newest = harness.arrive(f"g{n}")
        if restarts:
            harness.conn, harness.folded = empty_state(), 0
            harness.start()
        harness.supersede()
        assert harness.claim() == []
        harness.now += 20
    assert harness.dispatcher.next_due(harness.conn, harness.now - 15) == at_text(START + 70)
    assert [task.id for task, _ in harness.claim()] == [newest]
    harness.arrive("later")
    harness.supersede()
    assert harness.dispatcher.next_due(harness.conn, harness.now) == at_text(harness.now + 30), "a new burst"


@QUIET
def test_a_crash_between_the_two_records_loses_no_burst(harness: Harness) -> None:
    first = harness.arrive("a")
    harness.now += 20
    second = harness.arrive("b")
    harness.fold()
    harness.fault = [1]  # a prefix of one entry survives
    with pytest.raises(Crash):
        harness.dispatcher.record_queue_changes(harness.conn, harness.now)
    harness.start()
    harness.supersede()
    delayed = [r.data for r in harness.journal.records if r.kind == Kind.DELAYED]
    assert delayed == [{"since": at_text(START), "not_before": at_text(START + 50)}]
    assert set(harness.superseded()) == {first}
    assert harness.state(second)[0] == "queued"


@QUIET
def test_a_replay_does_not_wait(harness: Harness) -> None:
    task = harness.arrive("a", replay=1)
    harness.supersede()
    assert [one.id for one, _ in harness.claim()] == [task]


# ---- order


@ORDER
def test_what_came_after_something_newer_is_stale(harness: Harness) -> None:
    newer = harness.arrive("b", at="2026-11-23T10:00:05Z", head="bb")
    older = harness.arrive("a", at="2026-11-23T10:00:01Z", head="aa")
    other = harness.arrive("c", 2, at="2026-11-23T09:00:00Z")
    unknown = harness.arrive("d", at=None)
    same = harness.arrive("e", at="2026-11-23T10:00:05Z", head="bb")
    harness.supersede()
    assert {task: data["reason"] for task, data in harness.superseded().items()} == {older: "stale"}
    assert harness.state(older) == ("superseded", "stale")
    assert [task.id for task, _ in harness.claim()] == [newer, other, unknown, same]


@ORDER
def test_what_waits_is_stale_when_the_head_moves_on_and_not_before(harness: Harness) -> None:
    opened = harness.arrive("a", at="2026-11-23T10:00:01Z", head="aa")
    harness.arrive("b", at="2026-11-23T10:00:02Z", head="aa")
    harness.supersede()
    assert harness.superseded() == {}, "a label was put on: both are about the same head"
    newest = harness.arrive("c", at="2026-11-23T10:00:03.5Z", head="cc")
    harness.fold()
    assert [task.id for task, _ in harness.claim()] == [newest], "the others are not picked, though not recorded yet"
    harness.supersede()
    assert harness.state(opened) == ("superseded", "stale")
    assert len(harness.superseded()) == 2


@ORDER
def test_a_retry_is_stale_when_the_head_has_moved_on_meanwhile(harness: Harness) -> None:
    first = harness.arrive("a", at="2026-11-23T10:00:01Z", head="aa")
    harness.supersede()
    [(_, claim)] = harness.claim()
    harness.arrive("b", at="2026-11-23T10:00:02Z", head="bb")
    harness.supersede()
    assert harness.state(first)[0] == "running"
    claim.record([(Kind.RETRY, claim.record_data(category="exit", not_before=at_text(harness.now), interruptions=0))])
    harness.supersede()
    assert harness.state(first) == ("superseded", "stale")


@ORDER
def test_times_are_only_taken_for_times(harness: Harness) -> None:
    for at in ("yesterday", "2026-11-23T10:00:01+02:00", 5, "２026-11-23T10:00:01Z"):
        harness.arrive(f"g{len(harness.journal.records)}", at=at)  # type: ignore[arg-type]
    assert [r.about["source_at"] for r in harness.journal.records if r.about] == [None] * 4


# ---- a clock that is set


@QUIET
def test_a_clock_set_back_makes_nothing_wait_for_its_future(harness: Harness) -> None:
    harness.now += 86400
    first, second = harness.arrive("a", 1), harness.arrive("b", 2)
    harness.supersede()
    harness.now -= 86400 - 5
    harness.supersede()
    delayed = {r.subject[5:]: r.data for r in harness.journal.records if r.kind == Kind.DELAYED}
    assert delayed == {
        one: {"not_before": at_text(harness.now + 30), "since": None, "reason": "clock"} for one in (first, second)
    }
    assert harness.dispatcher.next_due(harness.conn, harness.now) == at_text(harness.now + 30)
    harness.now += 31
    assert [task.id for task, _ in harness.claim()] == [first, second]


@QUIET
def test_a_clock_set_back_while_no_daemon_ran_is_noticed_at_the_start(harness: Harness) -> None:
    harness.now += 86400
    harness.arrive("a")
    harness.supersede()
    harness.start()
    harness.now -= 86400
    harness.supersede()
    assert harness.dispatcher.next_due(harness.conn, harness.now) == at_text(harness.now + 30)


@QUIET
def test_a_clock_that_goes_on_is_left_alone(harness: Harness) -> None:
    harness.arrive("a")
    harness.supersede()
    harness.now -= 0.5
    harness.supersede()
    harness.now += 86400
    harness.supersede()
    assert [r.kind for r in harness.journal.records] == ["task.queued"]
