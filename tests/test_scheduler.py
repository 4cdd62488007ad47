"""Decisions about tasks, and the pick over the real tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq import schema
from covenq.config_route import Retry
from covenq.model import Category, Kind, at_text
from covenq.picker import Picker
from covenq.scheduler import INTERRUPTIONS_MAX, Outcome, Policy, Task, after, backoff, recover

NOW = 1_800_000_000.0
POLICY = Policy(("true",), retry=Retry(2, 2.0, 60.0))
TASK = Task(
    id="t1",
    hook="9",
    guid="g",
    delivery_seq=1,
    route="r",
    event="issues",
    action=None,
    repo="o/r",
    installation=None,
    number=None,
    head_sha=None,
    key=None,
    attempts=1,
    retries=0,
    interruptions=0,
    last_seq=7,
    claim_seq=5,
    policy=POLICY,
)


def ended(task: Task, outcome: Outcome, random: float = 1.0) -> tuple[str, dict[str, object]]:
    ending = after(task, 2, 5, outcome, result="attempts/t1/2/result", now=NOW, random=lambda: random)
    return ending.kind.value, ending.data


def test_backoff_doubles_up_to_the_cap() -> None:
    retry = Retry(10, 2.0, 30.0)
    assert [backoff(retry, n, lambda: 1.0) for n in range(1, 7)] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert backoff(retry, 10**9, lambda: 0.5) == 15.0


@given(
    number=st.integers(-5, 10**6),
    base=st.floats(0, 1e9),
    cap=st.floats(0, 1e9),
    random=st.floats(0, 1, exclude_max=True),
)
def test_backoff_is_bounded(number: int, base: float, cap: float, random: float) -> None:
    assert 0 <= backoff(Retry(1, base, cap), number, lambda: random) <= cap


def test_completed() -> None:
    assert ended(TASK, Outcome(None, 0)) == (
        "task.completed",
        {"attempt": 2, "claim": 5, "exit_code": 0, "result": "attempts/t1/2/result"},
    )


@pytest.mark.parametrize("category", [Category.EXIT, Category.SIGNAL, Category.TIMEOUT, Category.SPAWN])
def test_retries_while_some_are_left(category: Category) -> None:
    outcome = Outcome(category, 3, None, "why")
    kind, data = ended(replace(TASK, retries=1, interruptions=2), outcome, 0.25)
    assert kind == "task.retry"
    assert data == {
        "attempt": 2,
        "claim": 5,
        "category": category.value,
        "exit_code": 3,
        "signal": None,
        "detail": "why",
        "interruptions": 2,
        "not_before": at_text(NOW + 1.0),
    }
    kind, data = ended(replace(TASK, retries=2), outcome)
    assert kind == "task.failed"
    assert "not_before" not in data
    assert data["category"] == category.value


def test_what_policy_refused_is_not_tried_again() -> None:
    assert ended(TASK, Outcome(Category.POLICY))[0] == "task.failed"


def test_a_stop_burns_nothing() -> None:
    task = replace(TASK, retries=2, interruptions=INTERRUPTIONS_MAX - 1)
    kind, data = ended(task, Outcome(Category.INTERRUPTED, None, 15))
    assert kind == "task.retry"
    assert data["interruptions"] == task.interruptions
    assert data["not_before"] == at_text(NOW)


def test_recovery_queues_again_and_gives_up_the_third_time() -> None:
    tasks = [replace(TASK, id=f"t{n}", interruptions=n) for n in range(4)]
    entries = recover(tasks, NOW)
    assert [e.kind for e in entries] == [Kind.RETRY, Kind.RETRY, Kind.FAILED, Kind.FAILED]
    assert [e.data["interruptions"] for e in entries] == [1, 2, 3, 4]
    assert {e.data["category"] for e in entries} == {"interrupted"}
    assert {(e.data["attempt"], e.data["claim"], e.expect) for e in entries} == {(1, 5, 7)}
    assert [e.subject for e in entries] == [f"task.t{n}" for n in range(4)]


@given(st.lists(st.sampled_from(["die", "stop", "exit"]), max_size=30), st.integers(0, 5))
def test_a_task_that_never_completes_ends(events: list[str], retries: int) -> None:
    """Whatever happens to it, it fails after its retries or its third interruption, and stops alone never fail it."""
    task = replace(TASK, policy=replace(POLICY, retry=Retry(retries, 0.0, 0.0)))
    for event in events:
        if event == "die":
            (entry,) = recover([task], NOW)
            kind, data = entry.kind, dict(entry.data)
        else:
            category = Category.EXIT if event == "exit" else Category.INTERRUPTED
            kind, data = ended(task, Outcome(category))
        if kind == Kind.FAILED:
            break
        task = replace(
            task, interruptions=int(str(data["interruptions"])), retries=task.retries + (data["category"] == "exit")
        )
    deaths, exits = events.count("die"), events.count("exit")
    reached = deaths >= INTERRUPTIONS_MAX or exits > retries
    assert reached == (events != [] and kind == Kind.FAILED)


# ---- the pick


class Queue:
    """The real `tasks` table, written to as the fold would: every change with a higher seq."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.seq = 0
        self.picker = Picker()
        self.held: dict[str, str | None] = {}

    def add(self, task: str, key: str | None = None, not_before: float | None = None, kind: str = "run") -> None:
        self.seq += 1
        due = None if not_before is None else at_text(not_before)
        self.conn.execute(
            """INSERT INTO tasks (created_seq, id, hook, guid, route, kind, state, attempts, replay, key, priority, policy,
               created_at, updated_at, not_before, last_seq, interruptions, retries, tenant, pull, queued_seq)
               VALUES (?, ?, '9', ?, 'r', ?, 'queued', 0, 0, ?, 0, ?, 'x', 'x', ?, ?, 0, 0, 'hook:9', ?, ?)""",
            (self.seq, task, task, kind, key, json.dumps({"run": ["true"], "retry": {"max": 1}}), due, self.seq,
             kind == "pull", self.seq),
        )

    def move(self, task: str, state: str, not_before: float | None = None) -> None:
        self.seq += 1
        due = None if not_before is None else at_text(not_before)
        self.conn.execute(
            "UPDATE tasks SET state = ?, not_before = ?, last_seq = ? WHERE id = ?", (state, due, self.seq, task)
        )

    def pick(self, limit: int = 10, now: float = NOW) -> list[str]:
        keys = {key for key in self.held.values() if key is not None}
        return [t.id for t in self.picker.next(self.conn, now, limit, exclude=self.held.keys(), keys=keys)]

    def run(self, limit: int = 10, now: float = NOW) -> list[str]:
        ids = self.pick(limit, now)
        for task in ids:
            self.move(task, "running")
        return ids


@pytest.fixture
def queue() -> Iterator[Queue]:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.row_factory = sqlite3.Row
    schema.create(conn)
    yield Queue(conn)
    conn.close()


def test_oldest_first_and_no_more_than_asked(queue: Queue) -> None:
    for n in range(5):
        queue.add(f"t{n}")
    assert queue.run(2) == ["t0", "t1"]
    assert queue.run(0) == []
    assert queue.run(9) == ["t2", "t3", "t4"]
    assert queue.run() == []


def test_what_was_left_for_lack_of_room_comes_next(queue: Queue) -> None:
    queue.add("due", not_before=NOW - 1)
    for n in range(3):
        queue.add(f"t{n}")
    assert queue.run(1) == ["due"]
    assert queue.run(1) == ["t0"]
    assert queue.run(5) == ["t1", "t2"]


def test_not_before_its_time(queue: Queue) -> None:
    queue.add("later", not_before=NOW + 5)
    queue.add("now")
    assert queue.run() == ["now"]
    assert queue.picker.next_due(queue.conn, NOW) == at_text(NOW + 5)
    assert queue.run(now=NOW + 5) == ["later"]
    assert queue.picker.next_due(queue.conn, NOW + 5) is None


def test_one_running_task_a_key(queue: Queue) -> None:
    for task, key in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("free", None)]:
        queue.add(task, key)
    assert queue.run() == ["a1", "b1", "free"]
    assert queue.run() == []
    queue.move("a1", "completed")
    assert queue.run() == ["a2"]
    queue.move("a2", "completed")
    queue.move("b1", "completed")
    assert queue.run() == ["a3"]


def test_a_key_is_shared_with_tasks_that_were_retried(queue: Queue) -> None:
    queue.add("a1", "a", not_before=NOW)
    queue.add("a2", "a")
    queue.add("a3", "a", not_before=NOW)
    assert queue.run() == ["a1"]
    queue.move("a1", "completed")
    assert queue.run() == ["a3"]
    queue.move("a3", "failed")
    assert queue.run() == ["a2"]


def test_requeued_tasks_are_seen_again(queue: Queue) -> None:
    for n in range(3):
        queue.add(f"t{n}")
    assert queue.run() == ["t0", "t1", "t2"]
    queue.move("t1", "failed")
    queue.move("t1", "queued")
    assert queue.run() == ["t1"]


def test_what_is_in_hand_is_not_picked_twice(queue: Queue) -> None:
    queue.add("a1", "a")
    queue.add("a2", "a")
    queue.held = {"a1": "a"}  # picked, and the fold doesn't know yet
    assert queue.pick() == []
    queue.held = {}
    queue.move("a1", "completed")
    assert queue.pick() == ["a2"]


def test_reset_brings_back_what_was_picked_and_not_claimed(queue: Queue) -> None:
    queue.add("t")
    assert queue.pick() == ["t"]
    assert queue.pick() == []
    queue.picker.reset()
    assert queue.pick() == ["t"]


def test_tasks_for_others_are_left_alone(queue: Queue) -> None:
    queue.add("pull", kind="pull")
    assert queue.pick() == []


def test_a_pick_costs_the_same_however_long_the_queue(queue: Queue) -> None:
    """100,000 tasks of one key, all blocked by one that runs: passed over once, then never looked at again."""
    queue.add("first", "hot")
    queue.conn.execute("BEGIN")
    for n in range(100_000):
        queue.add(f"t{n}", "hot")
    queue.conn.execute("COMMIT")
    queue.add("other")
    assert queue.run(4) == ["first", "other"]
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    queue.conn.set_progress_handler(step, 10)
    queue.add("another")
    assert queue.run(4) == ["another"]
    queue.move("first", "completed")
    assert queue.run(4) == ["t0"]
    queue.conn.set_progress_handler(None, 0)
    assert steps < 500, f"{steps}0 steps of SQLite's machine for two picks"


@given(st.data())
def test_picks_agree_with_the_plain_rule(data: st.DataObject) -> None:
    """Against any history: what runs is queued and due, one a key; and nothing that could run is left with room."""
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.row_factory = sqlite3.Row
    schema.create(conn)
    try:
        queue, now, tasks = Queue(conn), NOW, 0
        for _ in range(data.draw(st.integers(1, 25))):
            step = data.draw(st.sampled_from(["add", "add", "pick", "finish", "retry", "requeue", "time"]))
            by_state = {
                state: [row["id"] for row in conn.execute("SELECT id FROM tasks WHERE state = ?", (state,))]
                for state in ("running", "failed")
            }
            if step == "add":
                queue.add(
                    f"t{tasks}", data.draw(st.sampled_from([None, "a", "b"])), data.draw(st.sampled_from([None, now]))
                )
                tasks += 1
            elif step == "time":
                now += 10
            elif step in ("finish", "retry") and by_state["running"]:
                task = data.draw(st.sampled_from(by_state["running"]))
                queue.move(task, *(("failed", None) if step == "finish" else ("queued", now + 5)))
            elif step == "requeue" and by_state["failed"]:
                queue.move(data.draw(st.sampled_from(by_state["failed"])), "queued")
            elif step == "pick":
                room = data.draw(st.integers(0, 3))
                ids = queue.run(room, now)
                running = [
                    row["key"] for row in conn.execute("SELECT key FROM tasks WHERE state = 'running' AND key <> ''")
                ]
                assert len(running) == len(set(running))
                left = conn.execute(
                    "SELECT key FROM tasks WHERE state = 'queued' AND coalesce(not_before, '') <= ?", (at_text(now),)
                )
                able = [row["key"] for row in left if row["key"] is None or row["key"] not in running]
                assert len(ids) == room or not able
    finally:
        conn.close()
