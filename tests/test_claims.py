"""Claims by workers elsewhere, on the real journal and state, with clocks that the test sets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from records import queued, received
from support import eventually

from covenq.errors import NotFound, Refused, StaleFence, UsageError
from covenq.model import Kind
from covenq.state import query
from covenq.state.follow import Folder
from covenq.state.store import StateStore
from covenq.tasks.remote.claims import Claims, Done
from covenq.tasks.scheduling.leases import FIRST_LOOK_S
from covenq.tasks.scheduling.outcome import Usage
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.records import Appended, Entry


@dataclass
class Clock:
    wall: float = 1_800_000_000.0
    mono: float = 1000.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


@dataclass
class House:
    data: Path
    clock: Clock = field(default_factory=Clock)

    def open(self) -> House:
        self.data.mkdir(exist_ok=True)
        self.journal: FileJournal = open_journal(self.data / "journal")
        self.store = StateStore(self.data / "state.db", self.journal)
        self.folder = Folder(self.store, self.journal)
        self.folder.start()
        self.claims = Claims(
            self.journal,
            self.store,
            self.folder,
            self.data,
            clock=lambda: self.clock.wall,
            monotonic=lambda: self.clock.mono,
            random=lambda: 1.0,
        )
        self.claims.start()
        return self

    def close(self) -> None:
        self.claims.stop()
        self.folder.stop()
        self.store.close()
        self.journal.close()

    def add(self, guid: str, route: str = "p", *, kind: str = "pull", key: str | None = None, **policy: Any) -> str:
        frozen = {"pull": True, "timeout_s": 600.0, "retry": {"max": 0, "backoff_s": 2.0, "cap_s": 300.0}, **policy}
        entry = queued(guid, route=route, kind=kind, policy=frozen, about={"key": key})
        assert isinstance(self.journal.append([received(guid), entry]), Appended)
        return entry.subject.removeprefix("task.")

    def row(self, task: str) -> dict[str, Any]:
        assert self.folder.wait_for(self.journal.head().seq, 30)
        return query.task(self.store.reader(), task)

    def attempts(self, task: str) -> list[dict[str, Any]]:
        assert self.folder.wait_for(self.journal.head().seq, 30)
        return query.attempts(self.store.reader(), task)

    def kinds(self, task: str) -> list[str]:
        return [r.kind.removeprefix("task.") for r in self.journal.read(0) if r.subject == f"task.{task}"]

    def late(self) -> list[dict[str, Any]]:
        return [r.data for r in self.journal.read(0) if r.kind == "ops.late"]

    def lapse(self, task: str, times: int = 1) -> None:
        before = self.row(task)["interruptions"]
        eventually(lambda: self.row(task)["interruptions"] >= before + times, what="the lease is ended")


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[[], House]]:
    opened: list[House] = []
    clock = Clock()

    def make() -> House:
        opened.append(House(tmp_path / "data", clock).open())
        return opened[-1]

    yield make
    for house in opened:
        house.close()


@pytest.fixture
def house(make_house: Callable[[], House]) -> House:
    return make_house()


def claim(house: House, worker: str = "w1", lease_s: float = 60, **more: Any) -> dict[str, Any]:
    found = house.claims.claim(worker, lease_s, **more)
    assert found is not None
    return found


def test_a_claim_gives_the_whole_task_and_its_token(house: House) -> None:
    task = house.add("g1")
    found = claim(house)
    assert found["task"] == house.row(task)
    assert (found["task"]["state"], found["task"]["worker"], found["task"]["attempts"]) == ("running", "w1", 1)
    assert found["lease_until"] == found["task"]["lease_until"] == "2027-01-15T08:01:00.000000Z"
    assert found["payload_url"] == "/api/v1/deliveries/9/g1/payload"
    assert house.attempts(task)[0]["fence"] == found["fence"]
    assert house.claims.claim("w2", 60) is None


def test_only_pull_tasks_of_the_wanted_routes_are_claimed(house: House) -> None:
    house.add("g1", kind="run")
    task = house.add("g2", "other")
    assert house.claims.claim("w", 60, routes=["p"]) is None
    assert claim(house, routes=["p", "other"])["task"]["id"] == task


def test_a_claims_life(house: House) -> None:
    task = house.add("g1")
    fence = claim(house)["fence"]
    house.clock.pass_(30)
    assert house.claims.renew(task, fence, 120)["lease_until"] == house.row(task)["lease_until"]
    assert house.claims.phase(task, fence, " building\n ghp_" + "a" * 36)["phase"] == "building  ghp_***"
    answer = house.claims.complete(task, fence, result={"pr": 7}, exit_code=0, usage=Usage(1.5, 0.25, 1 << 20))
    assert answer == {"state": "completed", "result": f"attempts/{task}/1/result", "duplicate": False}
    (attempt,) = house.attempts(task)
    assert (attempt["outcome"], attempt["exit_code"], attempt["result"]) == ("completed", 0, answer["result"])
    assert attempt["usage"] == {"user_s": 1.5, "system_s": 0.25, "max_rss": 1 << 20}
    assert [name for name, _ in attempt["phases"]] == ["building  ghp_***"]
    assert json.loads((house.data / answer["result"]).read_bytes()) == {"pr": 7}
    assert house.kinds(task) == ["queued", "claimed", "renewed", "phase", "completed"]


def test_a_lost_answer_may_be_asked_for_again(house: House) -> None:
    task = house.add("g1")
    fence = claim(house)["fence"]
    house.claims.complete(task, fence)
    assert house.claims.complete(task, fence)["duplicate"] is True
    assert house.kinds(task).count("completed") == 1
    with pytest.raises(StaleFence):
        house.claims.fail(task, fence, category="exit")
    assert [one["what"] for one in house.late()] == ["fail"]


@pytest.mark.parametrize("word", ["renew", "phase", "complete", "fail"])
def test_every_late_word_is_refused_and_recorded(house: House, word: str) -> None:
    task = house.add("g1")
    first = claim(house, "slow", 10)
    house.clock.pass_(11)
    house.lapse(task)
    second = claim(house, "quick", 60)
    say: dict[str, Callable[[str], Any]] = {
        "renew": lambda fence: house.claims.renew(task, fence, 60),
        "phase": lambda fence: house.claims.phase(task, fence, "x"),
        "complete": lambda fence: house.claims.complete(task, fence),
        "fail": lambda fence: house.claims.fail(task, fence, category="exit"),
    }
    with pytest.raises(StaleFence):
        say[word](first["fence"])
    assert house.late() == [{"task": task, "attempt": 1, "fence": first["fence"], "what": word, "worker": "slow"}]
    say[word](second["fence"])
    assert len(house.late()) == 1
    assert house.attempts(task)[0]["category"] == "lease_lost"


@pytest.mark.parametrize("fence", ["", "x", "0" * 16 + ".7", ".", "a.b", "1" * 200])
def test_a_token_that_never_was_is_refused_and_not_recorded(house: House, fence: str) -> None:
    task = house.add("g1")
    claim(house)
    with pytest.raises(StaleFence):
        house.claims.complete(task, fence)
    with pytest.raises(NotFound):
        house.claims.complete("nothing", fence)
    assert house.late() == []


def test_another_tasks_token_is_not_this_ones(house: House) -> None:
    one, other = house.add("g1"), house.add("g2")
    found = claim(house)
    claim(house)
    assert found["task"]["id"] == one
    with pytest.raises(StaleFence):
        house.claims.complete(other, found["fence"])
    assert house.row(other)["state"] == "running"


def test_the_daemons_own_attempts_take_phases_alone(house: House) -> None:
    task = house.add("g1", kind="run")
    answer = house.journal.append(
        [Entry(f"task.{task}", Kind.CLAIMED, {"attempt": 1, "worker": "pool", "lease_until": None})]
    )
    assert isinstance(answer, Appended)
    fence = house.attempts(task)[0]["fence"]
    house.claims.phase(task, fence, "halfway")
    for say in (house.claims.renew, house.claims.complete):
        with pytest.raises(Refused):
            say(task, fence, 60) if say == house.claims.renew else say(task, fence)
    assert house.kinds(task) == ["queued", "claimed", "phase"]


def test_a_failure_is_tried_again_as_the_policy_has_it(house: House) -> None:
    task = house.add("g1", retry={"max": 2, "backoff_s": 2.0, "cap_s": 300.0})
    fence = claim(house)["fence"]
    said = house.claims.fail(task, fence, category="http", detail="x" * 1000, retry_after_s=90)
    assert (said["state"], said["not_before"]) == ("queued", "2027-01-15T08:01:30.000000Z")
    assert house.claims.fail(task, fence, category="http")["duplicate"] is True
    assert house.late() == []
    assert (house.row(task)["retries"], len(house.row(task)["detail"])) == (1, 300)
    assert house.claims.claim("w", 60) is None
    house.clock.pass_(91)
    fence = claim(house)["fence"]
    assert house.claims.fail(task, fence, category="exit", exit_code=3, retry=False)["state"] == "failed"
    assert house.attempts(task)[-1]["exit_code"] == 3


def test_what_is_given_back_burns_nothing(house: House) -> None:
    task = house.add("g1")
    for number in range(1, 6):
        fence = claim(house)["fence"]
        assert house.claims.fail(task, fence, category="interrupted")["state"] == "queued"
        row = house.row(task)
        assert (row["attempts"], row["retries"], row["interruptions"]) == (number, 0, 0)


def test_silence_requeues_and_the_third_time_fails(house: House) -> None:
    task = house.add("g1")
    for number in (1, 2, 3):
        claim(house, f"w{number}", 5)
        house.clock.pass_(6)
        house.lapse(task)
        row = house.row(task)
        assert (row["state"], row["category"], row["retries"]) == (
            "failed" if number == 3 else "queued",
            "lease_lost",
            0,
        )
    assert house.claims.claim("w", 60) is None


def test_setting_the_wall_clock_ends_no_lease(house: House) -> None:
    task, marker = house.add("g1"), house.add("g2")
    claim(house, lease_s=60)
    claim(house, lease_s=5)
    house.clock.wall += 10 * 86400
    house.clock.mono += 6
    house.lapse(marker)  # the leases were looked at
    assert house.row(task)["state"] == "running"
    house.clock.wall -= 20 * 86400
    house.clock.mono += 60
    house.lapse(task)


def test_a_lease_outlives_a_restart(make_house: Callable[[], House]) -> None:
    house = make_house()
    task, other = house.add("g1"), house.add("g2")
    fence = claim(house, lease_s=60)["fence"]
    claim(house, lease_s=5)
    house.close()
    house.clock.wall += 30
    house.clock.mono = 5.0  # another boot's, perhaps
    house = make_house()
    house.claims.renew(task, fence, 3600)
    eventually(lambda: house.row(other)["interruptions"] or house.clock.pass_(2), what="the other lease is ended")
    assert house.clock.mono > 5.0 + FIRST_LOOK_S
    assert house.claims.complete(task, fence)["state"] == "completed"


def test_a_waiting_claim_is_given_what_comes(house: House) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(house.claims.claim(f"w{n}", 60, wait_s=60))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    tasks = [house.add(f"g{n}") for n in range(4)]
    for thread in threads:
        thread.join(30)
    assert sorted(one["task"]["id"] for one in found) == sorted(tasks)


def test_a_claim_waits_no_longer_than_it_said_nor_for_who_has_gone(house: House) -> None:
    done = threading.Event()

    def wait(**more: Any) -> None:
        assert house.claims.claim("w", 60, wait_s=60, **more) is None
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: house.clock.pass_(20) or done.is_set())
    thread.join()
    assert house.claims.claim("w", 60, wait_s=60, gone=lambda: True) is None
    house.add("g1")
    assert claim(house)


def test_one_running_task_a_key(house: House) -> None:
    first, second = house.add("g1", key="k"), house.add("g2", key="k")
    found = claim(house)
    assert found["task"]["id"] == first
    assert house.claims.claim("w", 60) is None
    house.claims.complete(first, found["fence"])
    assert claim(house)["task"]["id"] == second


def test_of_many_who_claim_at_once_each_gets_its_own(house: House) -> None:
    tasks = [house.add(f"g{n}") for n in range(40)]
    found: list[str] = []

    def work(worker: str) -> None:
        while (one := house.claims.claim(worker, 60)) is not None:
            found.append(one["task"]["id"])
            house.claims.complete(one["task"]["id"], one["fence"])

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == sorted(tasks)
    assert {house.row(task)["state"] for task in tasks} == {"completed"}
    assert house.late() == []


def test_several_share_an_append_and_each_stands_for_itself(house: House) -> None:
    tasks = [house.add(f"g{n}") for n in range(5)]
    house.row(tasks[-1])  # the state has them all
    before = house.journal.status().batches
    found = house.claims.claim_all("w", 60, 64)
    assert [one["task"]["id"] for one in found] == tasks
    assert house.journal.status().batches == before + 1
    assert found[3]["task"] == house.row(tasks[3])
    cancelled = house.journal.last(f"task.{tasks[1]}")
    assert cancelled is not None
    house.journal.append([Entry(f"task.{tasks[1]}", Kind.CANCELLED, {"by": "me"}, expect=cancelled.seq)])
    done = [Done(one["task"]["id"], one["fence"], 0) for one in found]
    answers = house.claims.complete_all([*done[:4], Done(tasks[4], done[0].fence), Done("nothing", "x.1")])
    assert [(one["task"], one["ok"], one.get("error")) for one in answers] == [
        (tasks[0], True, None),
        (tasks[1], False, "stale_fence"),
        (tasks[2], True, None),
        (tasks[3], True, None),
        (tasks[4], False, "stale_fence"),
        ("nothing", False, "not_found"),
    ]
    assert [house.row(task)["state"] for task in tasks] == [
        "completed",
        "cancelled",
        "completed",
        "completed",
        "running",
    ]
    assert [one["task"] for one in house.late()] == [tasks[1]]
    again = house.claims.complete_all(done)
    assert [one.get("duplicate") for one in again] == [True, None, True, True, False]


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
def test_what_makes_no_sense_is_refused(house: House, words: tuple[str, float], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        house.claims.claim(*words, **options)
