"""Claims by workers elsewhere, on the real journal and state, with clocks that the test sets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from covenq.errors import NotDurable, NotFound, Refused, StaleFence, UsageError
from covenq.model import Kind, at_text
from covenq.model.answers import Grant
from covenq.model.rows import Attempt, Task
from covenq.state import query
from covenq.state.store import StateStore
from covenq.tasks.remote.claims import Claims, TimeSources
from covenq.tasks.remote.report_files import Outputs, ReportFiles
from covenq.tasks.remote.reports import Completion, Failure
from covenq.tasks.remote.task_locks import TaskLocks
from covenq.tasks.scheduling.leases import INHERITED_LEASE_MIN_S
from covenq.tasks.scheduling.outcome import OUTPUT_MAX, Usage
from journal.errors import JournalFull, JournalStandby
from journal.interface import Engine
from journal.records import Appended, Entry
from tests.support.fold_thread import FoldThread
from tests.support.journals.chosen import open_chosen
from tests.support.records import queued, received
from tests.support.waiting import eventually


@dataclass
class Clock:
    wall: float = 1_800_000_000.0
    mono: float = 1000.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


@dataclass
class Harness:
    data: Path
    clock: Clock = field(default_factory=Clock)

    def open(self) -> Harness:
        self.data.mkdir(exist_ok=True)
        self.journal = open_chosen(self.data)
        self.store = StateStore(self.data / "state.db", self.journal)
        self.fold_thread = FoldThread(self.store, self.journal)
        self.fold_thread.start()
        self.claims = Claims(
            self.journal,
            self.store,
            self.fold_thread,
            ReportFiles(self.data),
            sources=TimeSources(lambda: self.clock.wall, lambda: self.clock.mono, random=lambda: 1.0),
        )
        self.claims.start()
        return self

    def close(self) -> None:
        self.claims.stop()
        self.fold_thread.stop()
        self.store.close()
        self.journal.close()

    def add(self, guid: str, route: str = "p", *, kind: str = "pull", key: str | None = None, **policy: Any) -> str:
        frozen = {"pull": True, "timeout_s": 600.0, "retry": {"max": 0, "backoff_s": 2.0, "cap_s": 300.0}, **policy}
        entry = queued(guid, route=route, kind=kind, policy=frozen, about={"key": key})
        assert isinstance(self.journal.append([received(guid), entry]), Appended)
        return entry.subject.removeprefix("task.")

    def row(self, task: str) -> Task:
        assert self.fold_thread.wait_for(self.journal.head().seq, 30)
        return query.task(self.store.reader(), task)

    def attempts(self, task: str) -> list[Attempt]:
        assert self.fold_thread.wait_for(self.journal.head().seq, 30)
        return query.attempts(self.store.reader(), task)

    def kinds(self, task: str) -> list[str]:
        return [r.kind.removeprefix("task.") for r in self.journal.read(0) if r.subject == f"task.{task}"]

    def late(self) -> list[dict[str, Any]]:
        return [r.data for r in self.journal.read(0) if r.kind == "ops.late"]

    def expire(self, task: str, times: int = 1) -> None:
        before = self.row(task).interruptions
        eventually(lambda: self.row(task).interruptions >= before + times, what="the lease is ended")


@pytest.fixture
def make_harness(journal_engine: None, tmp_path: Path) -> Iterator[Callable[[], Harness]]:
    opened: list[Harness] = []
    clock = Clock()

    def make() -> Harness:
        opened.append(Harness(tmp_path / "data", clock).open())
        return opened[-1]

    yield make
    for harness in opened:
        harness.close()


@pytest.fixture
def harness(make_harness: Callable[[], Harness]) -> Harness:
    return make_harness()


def claim(harness: Harness, worker: str = "w1", lease_s: float = 60, **more: Any) -> Grant:
    found = harness.claims.claim(worker, lease_s, **more)
    assert found is not None
    return found


def test_a_claim_gives_the_whole_task_and_its_token(harness: Harness) -> None:
    task = harness.add("g1")
    found = claim(harness)
    assert found.task == harness.row(task)
    assert (found.task.state, found.task.worker, found.task.attempts) == ("running", "w1", 1)
    assert found.lease_until == found.task.lease_until == "2027-01-15T08:01:00.000000Z"
    assert found.payload_url == "/api/v1/deliveries/9/g1/payload"
    assert harness.attempts(task)[0].fence == found.fence
    assert harness.claims.claim("w2", 60) is None


def test_only_pull_tasks_of_the_wanted_routes_are_claimed(harness: Harness) -> None:
    harness.add("g1", kind="run")
    task = harness.add("g2", "other")
    assert harness.claims.claim("w", 60, routes=["p"]) is None
    assert claim(harness, routes=["p", "other"]).task.id == task


def test_a_claims_life(harness: Harness) -> None:
    task = harness.add("g1")
    fence = claim(harness).fence
    harness.clock.pass_(30)
    assert harness.claims.reports.renew(task, fence, 120)["lease_until"] == harness.row(task).lease_until
    assert harness.claims.reports.phase(task, fence, " building\n ghp_" + "a" * 36)["phase"] == "building  ghp_***"
    answer = harness.claims.reports.complete(
        task, fence, result={"pr": 7}, exit_code=0, usage=Usage(1.5, 0.25, 1 << 20)
    )
    assert answer == {"state": "completed", "result": f"attempts/{task}/1/result", "duplicate": False}
    (attempt,) = harness.attempts(task)
    assert (attempt.outcome, attempt.exit_code, attempt.result) == ("completed", 0, answer["result"])
    assert attempt.usage == {"user_s": 1.5, "system_s": 0.25, "max_rss": 1 << 20}
    assert [name for name, _ in attempt.phases] == ["building  ghp_***"]
    assert json.loads((harness.data / str(answer["result"])).read_bytes()) == {"pr": 7}
    assert harness.kinds(task) == ["queued", "claimed", "renewed", "phase", "completed"]


def test_the_ends_of_outputs_are_kept_bounded_and_scrubbed(harness: Harness) -> None:
    task = harness.add("g1", retry={"max": 1, "backoff_s": 0.0, "cap_s": 0.0})
    token = "ghp_" + "a" * 36
    said = Outputs("x" * OUTPUT_MAX + "\u20ac" * OUTPUT_MAX, f"{token}\x1b[2J\0\n")
    assert harness.claims.reports.fail(task, claim(harness).fence, Failure("exit", outputs=said))["state"] == "queued"
    kept = harness.data / "attempts" / task / "1"
    assert (kept / "stdout").read_bytes() == ("\u20ac" * OUTPUT_MAX).encode()[-OUTPUT_MAX:]
    assert (kept / "stderr").read_bytes() == b"ghp_***\x1b[2J\0\n"
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (kept, *kept.parents[:2])} == {0o700}
    fence = claim(harness).fence
    assert harness.claims.reports.complete(task, fence, outputs=Outputs(stderr=""))["state"] == "completed"
    assert [path.name for path in (harness.data / "attempts" / task / "2").iterdir()] == ["stderr"]
    assert harness.claims.reports.complete(task, fence, outputs=Outputs("other"))["duplicate"]
    assert not (harness.data / "attempts" / task / "2" / "stdout").exists()


def test_no_output_is_written_where_a_link_leads(harness: Harness) -> None:
    elsewhere = harness.data / "elsewhere"
    (elsewhere / "1").mkdir(parents=True)
    (elsewhere / "stdout").write_text("another's")
    for number, planted in enumerate(("task", "attempt", "file", "directory")):
        task = harness.add(f"g{number}")
        attempt = harness.data / "attempts" / task / "1"
        attempt.parent.parent.mkdir(exist_ok=True)
        if planted == "task":
            attempt.parent.symlink_to(elsewhere)
        elif planted == "attempt":
            attempt.parent.mkdir()
            attempt.symlink_to(elsewhere)
        else:
            attempt.mkdir(parents=True)
            if planted == "file":
                (attempt / "stdout").symlink_to(elsewhere / "stdout")
            else:
                (attempt / "stdout").mkdir()
        fence = claim(harness).fence
        assert harness.claims.reports.complete(task, fence, outputs=Outputs("said"))["state"] == "completed"
        if planted == "file":
            assert (attempt / "stdout").read_text() == "said" and not (attempt / "stdout").is_symlink()
    assert (elsewhere / "stdout").read_text() == "another's"
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["1", "stdout"]


def behave(journal: Engine, otherwise: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a journal do as this class says, before it does as its own."""
    monkeypatch.setattr(journal, "__class__", type("Behaving", (otherwise, type(journal)), {}))


class Overtaken:
    """Of a journal in which, once, another's record of a task comes just before an end that a worker reports of it."""

    other: Entry | None = None

    def append(self, entries: Sequence[Entry], **more: Any) -> Any:
        other, self.other = self.other, None
        if other is not None:
            assert isinstance(super().append([other]), Appended)
        return super().append(entries, **more)


class FullOnce:
    """Of the real journal, with a disk that is full at the next append."""

    full = True

    def append(self, entries: Sequence[Entry], **more: Any) -> Any:
        if self.full:
            self.full = False
            raise JournalFull("the disk is full")
        return super().append(entries, **more)


@pytest.mark.parametrize("room", ["enough", "made meanwhile"])
@pytest.mark.parametrize("what", ["complete", "fail"])
def test_files_of_a_report_that_comes_late_are_removed(
    harness: Harness, what: str, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = harness.add("g1")
    found = claim(harness)
    cancelled = Entry(f"task.{task}", Kind.CANCELLED, {"by": "x"}, expect=found.task.last_seq)
    if room == "enough":
        behave(harness.journal, Overtaken, monkeypatch)
        harness.journal.other = cancelled  # type: ignore[attr-defined]
    else:
        behave(harness.journal, FullOnce, monkeypatch)
        append = harness.journal.append
        monkeypatch.setattr(harness.claims.reports, "_on_full", lambda: isinstance(append([cancelled]), Appended))
    with pytest.raises(StaleFence):
        if what == "complete":
            harness.claims.reports.complete(task, found.fence, result={"a": 1}, outputs=Outputs("said"))
        else:
            harness.claims.reports.fail(task, found.fence, Failure("exit", outputs=Outputs("said")))
    assert harness.kinds(task)[-1] == "cancelled"
    assert not (harness.data / "attempts" / task / "1").exists()


def test_a_result_that_is_nested_too_deeply_is_refused(harness: Harness) -> None:
    task = harness.add("g1")
    fence = claim(harness).fence
    result: object = 1
    for _ in range(1000):
        result = [result]
    with pytest.raises(UsageError, match="nested over 250 levels"):
        harness.claims.reports.complete(task, fence, result=result)
    assert harness.claims.reports.complete(task, fence, result=[1])["state"] == "completed"


def test_a_lost_answer_may_be_asked_for_again(harness: Harness) -> None:
    task = harness.add("g1")
    fence = claim(harness).fence
    harness.claims.reports.complete(task, fence)
    assert harness.claims.reports.complete(task, fence)["duplicate"] is True
    assert harness.kinds(task).count("completed") == 1
    with pytest.raises(StaleFence):
        harness.claims.reports.fail(task, fence, Failure("exit"))
    assert [one["what"] for one in harness.late()] == ["fail"]


def at_once(*reports: Callable[[], Any]) -> list[Any]:
    """The answer or the error of each, in their order."""
    barrier, said = threading.Barrier(len(reports)), [None] * len(reports)

    def say(number: int) -> None:
        barrier.wait(30)
        try:
            said[number] = reports[number]()
        except StaleFence as error:
            said[number] = error

    threads = [threading.Thread(target=say, args=(number,)) for number in range(len(reports))]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    return said


def test_of_two_reports_at_once_the_accepted_ones_files_are_kept(harness: Harness) -> None:
    reports = harness.claims.reports
    for number in range(25):
        task = harness.add(f"g{number}")
        fence = claim(harness).fence
        completed, failed = at_once(
            partial(reports.complete, task, fence, outputs=Outputs("COMPLETED")),
            partial(reports.fail, task, fence, Failure("exit", outputs=Outputs("FAILED"))),
        )
        assert [type(one) for one in (completed, failed)].count(StaleFence) == 1
        kept = (harness.data / "attempts" / task / "1" / "stdout").read_text()
        assert kept == ("FAILED" if isinstance(completed, StaleFence) else "COMPLETED")
    assert len(harness.late()) == 25


def test_the_same_report_several_times_at_once_is_a_duplicate_of_the_first(harness: Harness) -> None:
    reports = harness.claims.reports
    for number in range(10):
        task = harness.add(f"g{number}")
        fence = claim(harness).fence
        said = at_once(
            *(
                partial(reports.complete, task, fence, exit_code=one, outputs=Outputs(f"said {one}"))
                for one in range(6)
            ),
            partial(reports.complete_all, [Completion(task, fence), Completion("other", fence)]),
        )
        said[6] = said[6][0]
        assert sorted(one["duplicate"] for one in said) == [False, *[True] * 6]
        first = next(place for place, one in enumerate(said) if not one["duplicate"])
        kept = harness.data / "attempts" / task / "1" / "stdout"
        assert kept.read_text() == f"said {first}" if first < 6 else not kept.exists()
        assert harness.attempts(task)[0].exit_code == (first if first < 6 else None)
    assert harness.late() == []


def test_a_report_waits_for_another_of_its_task_for_a_bounded_time(harness: Harness) -> None:
    task, other = harness.add("g1"), harness.add("g2")
    fences = {one.task.id: one.fence for one in (claim(harness), claim(harness))}
    locks = TaskLocks(wait_s=0.01)
    harness.claims.reports._locks = locks
    with locks.held(task):
        with pytest.raises(NotDurable):
            harness.claims.reports.complete(task, fences[task])
        assert harness.claims.reports.complete(other, fences[other])["state"] == "completed"
    assert harness.claims.reports.complete(task, fences[task])["duplicate"] is False
    assert len(locks) == 0


@pytest.mark.parametrize("word", ["renew", "phase", "complete", "fail"])
def test_every_late_report_is_refused_and_recorded(harness: Harness, word: str) -> None:
    task = harness.add("g1")
    first = claim(harness, "slow", 10)
    harness.clock.pass_(11)
    harness.expire(task)
    second = claim(harness, "quick", 60)
    say: dict[str, Callable[[str], Any]] = {
        "renew": lambda fence: harness.claims.reports.renew(task, fence, 60),
        "phase": lambda fence: harness.claims.reports.phase(task, fence, "x"),
        "complete": lambda fence: harness.claims.reports.complete(task, fence),
        "fail": lambda fence: harness.claims.reports.fail(task, fence, Failure("exit")),
    }
    with pytest.raises(StaleFence):
        say[word](first.fence)
    assert harness.late() == [{"task": task, "attempt": 1, "fence": first.fence, "what": word, "worker": "slow"}]
    say[word](second.fence)
    assert len(harness.late()) == 1
    assert harness.attempts(task)[0].category == "lease_lost"


@pytest.mark.parametrize("fence", ["", "x", "0" * 16 + ".7", ".", "a.b", "1" * 200])
def test_a_token_that_never_was_is_refused_and_not_recorded(harness: Harness, fence: str) -> None:
    task = harness.add("g1")
    claim(harness)
    with pytest.raises(StaleFence):
        harness.claims.reports.complete(task, fence)
    with pytest.raises(NotFound):
        harness.claims.reports.complete("nothing", fence)
    assert harness.late() == []


def test_another_tasks_token_is_not_this_ones(harness: Harness) -> None:
    one, other = harness.add("g1"), harness.add("g2")
    found = claim(harness)
    claim(harness)
    assert found.task.id == one
    with pytest.raises(StaleFence):
        harness.claims.reports.complete(other, found.fence)
    assert harness.row(other).state == "running"


def test_the_daemons_own_attempts_take_phases_alone(harness: Harness) -> None:
    task = harness.add("g1", kind="run")
    answer = harness.journal.append(
        [Entry(f"task.{task}", Kind.CLAIMED, {"attempt": 1, "worker": "pool", "lease_until": None})]
    )
    assert isinstance(answer, Appended)
    fence = harness.attempts(task)[0].fence
    harness.claims.reports.phase(task, fence, "halfway")
    for say in (harness.claims.reports.renew, harness.claims.reports.complete):
        with pytest.raises(Refused):
            say(task, fence, 60) if say == harness.claims.reports.renew else say(task, fence)
    assert harness.kinds(task) == ["queued", "claimed", "phase"]


def test_a_failure_is_tried_again_as_the_policy_has_it(harness: Harness) -> None:
    task = harness.add("g1", retry={"max": 2, "backoff_s": 2.0, "cap_s": 300.0})
    fence = claim(harness).fence
    said = harness.claims.reports.fail(task, fence, Failure("http", detail="x" * 1000, retry_after_s=90))
    assert (said["state"], said["not_before"]) == ("queued", "2027-01-15T08:01:30.000000Z")
    assert harness.claims.reports.fail(task, fence, Failure("http"))["duplicate"] is True
    assert harness.late() == []
    assert (harness.row(task).retries, len(harness.row(task).detail)) == (1, 300)
    assert harness.claims.claim("w", 60) is None
    harness.clock.pass_(91)
    fence = claim(harness).fence
    assert harness.claims.reports.fail(task, fence, Failure("exit", exit_code=3, retry=False))["state"] == "failed"
    assert harness.attempts(task)[-1].exit_code == 3


def test_what_is_given_back_uses_up_no_retry(harness: Harness) -> None:
    task = harness.add("g1")
    for number in range(1, 6):
        fence = claim(harness).fence
        assert harness.claims.reports.fail(task, fence, Failure("interrupted"))["state"] == "queued"
        row = harness.row(task)
        assert (row.attempts, row.retries, row.interruptions) == (number, 0, 0)


def test_silence_requeues_and_the_third_time_fails(harness: Harness) -> None:
    task = harness.add("g1")
    for number in (1, 2, 3):
        claim(harness, f"w{number}", 5)
        harness.clock.pass_(6)
        harness.expire(task)
        row = harness.row(task)
        assert (row.state, row.category, row.retries) == (
            "failed" if number == 3 else "queued",
            "lease_lost",
            0,
        )
    assert harness.claims.claim("w", 60) is None
    ran = harness.claims._dispatcher.times.ran
    eventually(lambda: [sum(counts.counts) for counts in ran().values()] == [3], what="each end is counted")


def test_setting_the_wall_clock_ends_no_lease(harness: Harness) -> None:
    task, marker = harness.add("g1"), harness.add("g2")
    claim(harness, lease_s=60)
    claim(harness, lease_s=5)
    harness.clock.wall += 10 * 86400
    harness.clock.mono += 6
    harness.expire(marker)  # the leases were looked at
    assert harness.row(task).state == "running"
    harness.clock.wall -= 20 * 86400
    harness.clock.mono += 60
    harness.expire(task)


def test_tasks_of_commands_are_claimed_for_a_node_alone(harness: Harness) -> None:
    command, _, pulled = harness.add("g1", "r", kind="run"), harness.add("g2", "f", kind="forward"), harness.add("g3")
    assert harness.claims.claim("w1", 60, routes=["r", "f"]) is None
    (found,) = harness.claims.claim_all("w1", 60, 5, routes=["r", "f", "p"], node="b")
    assert (found.task.id, found.task.node) == (command, "b")
    assert (harness.row(command).node, harness.row(command).worker) == ("b", "w1")
    assert harness.attempts(command)[0].node == "b"
    harness.claims.reports.complete(command, found.fence)
    assert harness.row(command).state == "completed"
    assert (one := harness.claims.claim("w1", 60)) is not None and one.task.id == pulled
    with pytest.raises(UsageError):
        harness.claims.claim_all("w1", 60, 1, routes=["r"], node="b c")


def test_what_is_the_pools_keeps_no_worker_from_what_is_its_own(harness: Harness) -> None:
    """Tasks that forward, of a route that has a command by now: each stands before the one that is asked for."""
    for number in range(3):
        harness.add(f"f{number}", "r", kind="forward")
    command = harness.add("g1", "r", kind="run")
    for _ in range(2):
        found = harness.claims.claim_all("w1", 60, 1, routes=["r"], node="b")
        if found:
            assert found[0].task.id == command
            break
    assert harness.row(command).state == "running"


def test_a_node_that_knows_less_than_a_token_judges_no_claim_by_it(harness: Harness) -> None:
    """It was frozen, another node leads since, and has given this claim: the worker asks that one."""
    task = harness.add("g1")
    found = claim(harness)
    epoch, _, seq = found.fence.partition(".")
    newer = f"{epoch}.{int(seq) + 1000}"
    reports = harness.claims.reports
    with pytest.raises(StaleFence):
        reports.renew(task, newer, 60)
    reports._shared = True
    for report in (lambda: reports.renew(task, newer, 60), lambda: reports.complete(task, newer)):
        with pytest.raises(JournalStandby, match="not heard of it"):
            report()
    with pytest.raises(StaleFence):
        reports.renew(task, f"other.{int(seq) + 1000}", 60)
    assert reports.complete(task, found.fence)["state"] == "completed"


def test_until_when_a_lease_lasts_is_a_time_of_the_journals_clock(harness: Harness) -> None:
    """Another node looks at it, whose clock is another: by this one's own it would end 1000 s early there."""
    task = harness.add("g1")
    database = harness.clock.wall + 1000.0
    sources = TimeSources(lambda: harness.clock.wall, lambda: harness.clock.mono, lambda: 1.0, lambda: database)
    claims = Claims(harness.journal, harness.store, harness.fold_thread, ReportFiles(harness.data), sources=sources)
    found = claims.claim("w1", 60)
    assert found is not None
    assert found.lease_until == harness.row(task).lease_until == at_text(database + 60)
    assert claims.reports.renew(task, found.fence, 120)["lease_until"] == at_text(database + 120)


def test_a_lease_outlives_a_restart(make_harness: Callable[[], Harness]) -> None:
    harness = make_harness()
    task, other = harness.add("g1"), harness.add("g2")
    fence = claim(harness, lease_s=60).fence
    claim(harness, lease_s=5)
    harness.close()
    harness.clock.wall += 30
    harness.clock.mono = 5.0  # another boot's, perhaps
    harness = make_harness()
    harness.claims.reports.renew(task, fence, 3600)
    eventually(lambda: harness.row(other).interruptions or harness.clock.pass_(2), what="the other lease is ended")
    assert harness.clock.mono > 5.0 + INHERITED_LEASE_MIN_S
    assert harness.claims.reports.complete(task, fence)["state"] == "completed"


def test_a_waiting_claim_is_given_what_comes(harness: Harness) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(harness.claims.claim(f"w{n}", 60, wait_s=60)))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    tasks = [harness.add(f"g{n}") for n in range(4)]
    for thread in threads:
        thread.join(30)
    assert sorted(one.task.id for one in found) == sorted(tasks)


def test_a_claim_waits_no_longer_than_it_said_nor_for_who_has_gone(harness: Harness) -> None:
    done = threading.Event()

    def wait(**more: Any) -> None:
        assert harness.claims.claim("w", 60, wait_s=60, **more) is None
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: harness.clock.pass_(20) or done.is_set())
    thread.join()
    assert harness.claims.claim("w", 60, wait_s=60, gone=lambda: True) is None
    harness.add("g1")
    assert claim(harness)


def test_one_running_task_a_key(harness: Harness) -> None:
    first, second = harness.add("g1", key="k"), harness.add("g2", key="k")
    found = claim(harness)
    assert found.task.id == first
    assert harness.claims.claim("w", 60) is None
    harness.claims.reports.complete(first, found.fence)
    assert claim(harness).task.id == second


def test_of_many_who_claim_at_once_each_gets_its_own(harness: Harness) -> None:
    tasks = [harness.add(f"g{n}") for n in range(40)]
    found: list[str] = []

    def work(worker: str) -> None:
        while (one := harness.claims.claim(worker, 60)) is not None:
            found.append(one.task.id)
            harness.claims.reports.complete(one.task.id, one.fence)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == sorted(tasks)
    assert {harness.row(task).state for task in tasks} == {"completed"}
    assert harness.late() == []


def test_several_share_an_append_and_each_stands_for_itself(harness: Harness) -> None:
    tasks = [harness.add(f"g{n}") for n in range(5)]
    harness.row(tasks[-1])  # the state has them all
    found = harness.claims.claim_all("w", 60, 64)
    assert [one.task.id for one in found] == tasks
    claimed = [one for one in harness.journal.read(0) if one.kind == Kind.CLAIMED]
    # Not by counting batches: a journal that is idle for a moment appends a record of its own.
    assert len({one.synced for one in claimed}) == 1, "what was synced before them was the same: they are of one batch"
    assert found[3].task == harness.row(tasks[3])
    cancelled = harness.journal.last(f"task.{tasks[1]}")
    assert cancelled is not None
    harness.journal.append([Entry(f"task.{tasks[1]}", Kind.CANCELLED, {"by": "me"}, expect=cancelled.seq)])
    done = [Completion(one.task.id, one.fence, 0) for one in found]
    answers = harness.claims.reports.complete_all(
        [*done[:4], Completion(tasks[4], done[0].fence), Completion("nothing", "x.1")]
    )
    assert [type(one) for one in answers] == [dict, StaleFence, dict, dict, StaleFence, NotFound]
    assert [harness.row(task).state for task in tasks] == [
        "completed",
        "cancelled",
        "completed",
        "completed",
        "running",
    ]
    assert [one["task"] for one in harness.late()] == [tasks[1]]
    again = harness.claims.reports.complete_all(done)
    assert [isinstance(one, dict) and one["duplicate"] for one in again] == [True, False, True, True, False]
    assert isinstance(again[1], StaleFence)


def completions(harness: Harness, count: int) -> list[Completion]:
    """Of as many claimed tasks."""
    tasks = [harness.add(f"g{number}") for number in range(count)]
    harness.row(tasks[-1])  # the state has them all
    return [Completion(one.task.id, one.fence, 0) for one in harness.claims.claim_all("w", 60, count)]


def test_one_that_another_report_is_on_holds_up_none_of_the_others(harness: Harness) -> None:
    done = completions(harness, 4)
    reports = harness.claims.reports
    reports._locks = locks = TaskLocks(wait_s=0.01)
    with locks.held(done[1].task):
        answers = reports.complete_all(done)
    assert [type(one) for one in answers] == [dict, NotDurable, dict, dict]
    assert [harness.row(one.task).state for one in done] == ["completed", "running", "completed", "completed"]
    reports._locks = locks = TaskLocks()
    with ThreadPoolExecutor(1) as pool:
        with locks.held(done[1].task):
            waiting = pool.submit(reports.complete_all, [done[0], done[1]])
            eventually(
                lambda: len(locks) == 1 and locks._locks[done[1].task].wanted == 2, 30, "it waits for that alone"
            )
        assert [one["duplicate"] for one in waiting.result(30) if isinstance(one, dict)] == [True, False]
    assert len(locks) == 0


class FullAfter:
    """Of the real journal, with a disk that is full after `left` appends."""

    left = 0

    def append(self, entries: Sequence[Entry], **more: Any) -> Any:
        if not self.left:
            raise JournalFull("the disk is full")
        self.left -= 1
        return super().append(entries, **more)


def test_what_was_recorded_is_said_where_the_journal_fails_for_the_others(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = completions(harness, 3)
    reports = harness.claims.reports
    reports.complete(done[2].task, done[2].fence)
    behave(harness.journal, FullAfter, monkeypatch)
    with pytest.raises(JournalFull):
        reports.complete_all(done[:2])
    answers = reports.complete_all([done[2], done[0]])  # the first was recorded before, and needs no append
    assert [type(one) for one in answers] == [dict, JournalFull]
    harness.journal.left = 100  # type: ignore[attr-defined]
    assert [type(one) for one in reports.complete_all(done)] == [dict, dict, dict]


def test_several_ends_get_the_room_that_is_reserved_for_the_end_of_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = completions(harness, 3)
    released: list[bool] = []
    monkeypatch.setattr(harness.claims.reports, "_on_full", lambda: released.append(True) or True)
    behave(harness.journal, FullOnce, monkeypatch)
    assert [type(one) for one in harness.claims.reports.complete_all(done)] == [dict, dict, dict]
    assert released == [True]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("", 60), {}),
        (("a b", 60), {}),
        (("w", 0), {}),
        (("w", 3601), {}),
        (("w", 60), {"wait_s": 61}),
        (("w", 60), {"routes": []}),
        (("w", 60), {"routes": ["a b"]}),
    ],
)
def test_what_makes_no_sense_is_refused(harness: Harness, words: tuple[str, float], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        harness.claims.claim(*words, **options)
