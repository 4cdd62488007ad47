"""Whose turn it is, and what holds a task back: over the real tables, moved as the fold moves them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.config.limits import Cap, Caps, RouteCap, Share
from covenq.model import at_text
from covenq.model.rows import Waits
from covenq.tasks.scheduling.candidates import PRIORITY_ROTATION, SCAN_WINDOW
from covenq.tasks.scheduling.fairness import PULL_KINDS
from covenq.tasks.scheduling.waiting import POSITION_MAX, waiting
from tests.support.task_queue import NOW, Queue


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.conn.close()


# ---- one installation


def test_oldest_first_and_no_more_than_asked(queue: Queue) -> None:
    for n in range(5):
        queue.add(f"t{n}")
    assert queue.run(2) == ["t0", "t1"]
    assert queue.run(0) == []
    assert queue.run(9) == ["t2", "t3", "t4"]
    assert queue.run() == []


def test_not_before_its_time(queue: Queue) -> None:
    queue.add("later", not_before=NOW + 5)
    queue.add("now")
    assert queue.run() == ["now"]
    assert queue.picker.next_due(queue.conn, NOW) == at_text(NOW + 5)
    assert queue.run(now=NOW + 4.9) == []
    assert queue.run(now=NOW + 5) == ["later"]
    assert queue.picker.next_due(queue.conn, NOW + 5) is None


def test_what_is_due_and_what_is_new_take_turns(queue: Queue) -> None:
    for n in range(3):
        queue.add(f"due{n}", not_before=NOW - 1)
        queue.add(f"new{n}")
    assert queue.all() == ["due0", "new0", "due1", "new1", "due2", "new2"]


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


def test_a_key_holds_for_what_was_retried_too(queue: Queue) -> None:
    queue.add("a1", "a", not_before=NOW)
    queue.add("a2", "a")
    queue.add("a3", "a", not_before=NOW)
    assert len(queue.run()) == 1
    assert queue.run() == []
    assert sorted([*queue.all(), "a1"]) == ["a1"]
    queue.move("a1", "completed")
    assert sorted(queue.all()) == ["a2", "a3"]


def test_a_key_of_two_routes_is_kept_by_the_stricter(queue: Queue) -> None:
    queue.caps = Caps(routes={"two": RouteCap(key_concurrency=2)})
    for n, route in enumerate(["two", "one", "two", "one"]):
        queue.add(f"{route}{n}", "a", route=route)
    assert queue.run() == ["two0", "two2"]
    queue.move("two0", "completed")
    assert queue.run() == []
    queue.move("two2", "completed")
    assert queue.run() == ["one1"]


def test_requeued_tasks_are_seen_again(queue: Queue) -> None:
    for n in range(3):
        queue.add(f"t{n}")
    assert queue.run() == ["t0", "t1", "t2"]
    queue.move("t1", "failed")
    queue.move("t1", "queued")
    assert queue.run() == ["t1"]


def test_what_is_in_hand_counts_as_running_and_is_not_picked_twice(queue: Queue) -> None:
    queue.caps = Caps(repo=Cap(concurrency=2))
    for n in range(4):
        queue.add(f"t{n}", "a" if n < 2 else None, repo=1)
    assert queue.pick() == ["t0", "t2"]
    queue.held = dict(queue.picked)  # and the fold doesn't know yet
    assert queue.pick() == []
    for task in queue.held:
        queue.move(task, "running")
    assert queue.pick() == [], "it is counted once, however it is known"
    queue.held = {}
    queue.move("t0", "completed")
    assert queue.pick() == ["t1"]


def test_kinds_and_routes(queue: Queue) -> None:
    queue.add("far", kind="pull", route="a")
    queue.add("farther", kind="pull", route="b")
    queue.add("here", kind="forward", route="a")
    queue.add("there", route="b")
    assert queue.pick(kinds=PULL_KINDS, routes=["b"]) == ["farther"]
    assert queue.pick(kinds=PULL_KINDS) == ["far", "farther"]
    assert queue.pick(without=["a"]) == ["there"]
    assert queue.pick() == ["here", "there"]


# ---- turns


def test_a_noisy_installation_costs_the_others_one_turn_a_round(queue: Queue) -> None:
    """One with 10,000 tasks, then 99 with one each: alone the 99 would take 99 picks, and here it is 100 at most."""
    queue.many(10_000, installation=1)
    for n in range(2, 101):
        queue.add(f"small{n}", installation=n)
    picks = []
    while len(picks) < 250:
        picks += queue.run(3)
        for task in picks[-3:]:
            queue.move(task, "completed")
    small = [place for place, task in enumerate(picks) if task.startswith("small")]
    assert len(small) == 99
    assert max(small) < 100


def test_weights_are_shares(queue: Queue) -> None:
    queue.caps = Caps(installations={"1": Share(weight=3), "hook:9": Share(weight=2)})
    for installation in (1, 2, None):
        queue.many(60, installation=installation)
    order = queue.all(most=60)
    tenants = dict(queue.conn.execute("SELECT id, tenant FROM tasks").fetchall())
    assert Counter(tenants[task] for task in order) == {"1": 30, "hook:9": 20, "2": 10}
    # In every stretch, not only in sum.
    for start in range(54):
        assert {tenants[task] for task in order[start : start + 6]} == {"1", "2", "hook:9"}


def test_who_asks_for_some_routes_has_a_round_of_their_own(queue: Queue) -> None:
    """Two who alternate: in one round, each would come to the same installation forever."""
    for installation in (1, 2):
        for route in "ab":
            queue.many(6, kind="pull", route=route, installation=installation)
    order = [queue.run(1, kinds=PULL_KINDS, routes=["ab"[n % 2]])[0] for n in range(12)]
    tenants = {row["id"]: (row["route"], row["tenant"]) for row in queue.conn.execute("SELECT * FROM tasks")}
    assert Counter(tenants[task] for task in order) == {(route, tenant): 3 for route in "ab" for tenant in "12"}


def test_a_turn_is_not_lost_between_calls(queue: Queue) -> None:
    for installation in (1, 2, 3):
        queue.many(10, installation=installation)
    order = [queue.run(1)[0] for _ in range(9)]
    tenants = dict(queue.conn.execute("SELECT id, tenant FROM tasks").fetchall())
    assert [tenants[task] for task in order] == ["1", "2", "3"] * 3


def test_higher_priorities_first_and_none_starves(queue: Queue) -> None:
    """Work of the highest priority never ends; each of the others is reached within 40 turns of the installation."""
    queue.many(1000, priority=9)
    for priority in range(9):
        queue.add(f"p{priority}", priority=priority)
    order = queue.all(most=10 * PRIORITY_ROTATION)
    places = {task: place for place, task in enumerate(order) if task.startswith("p")}
    assert sorted(places) == [f"p{priority}" for priority in range(9)]
    assert order[:3] == ["m0", "m1", "m2"]


def test_between_due_and_new_of_a_low_priority_none_starves(queue: Queue) -> None:
    queue.many(1000, priority=9)
    queue.many(1000, priority=9, not_before=NOW - 1)
    queue.add("new", priority=2)
    queue.add("due", priority=2, not_before=NOW - 5)
    order = queue.all(most=20 * PRIORITY_ROTATION)
    assert {"new", "due"} <= set(order)


# ---- limits, quotas, pauses


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        (Caps(installation=Cap(concurrency=2)), Counter({"1": 2, "2": 2})),
        (Caps(installations={"1": Share(cap=Cap(concurrency=1))}), Counter({"1": 1, "2": 6})),
        (Caps(repo=Cap(concurrency=1)), Counter({"1": 2, "2": 2})),
        (Caps(route=Cap(concurrency=3)), Counter({"1": 2, "2": 1})),
        (Caps(routes={"r": RouteCap(Cap(concurrency=1))}), Counter({"1": 1})),
    ],
)
def test_concurrency(queue: Queue, caps: Caps, expected: Counter[str]) -> None:
    queue.caps = caps
    for n in range(12):
        queue.add(f"t{n}", installation=1 + n % 2, repo=10 * (1 + n % 2) + n // 2 % 2)
    ids = queue.run(12)
    tenants = dict(queue.conn.execute("SELECT id, tenant FROM tasks").fetchall())
    assert Counter(tenants[task] for task in ids) == expected
    assert queue.run(12) == []
    queue.move(ids[0], "completed")
    assert len(queue.run(12)) == 1


def test_daily_limits_are_kept_in_every_24_hours(queue: Queue) -> None:
    queue.caps = Caps(repo=Cap(daily=3))
    for n in range(8):
        queue.add(f"t{n}", repo=1)
    queue.began("repo 1", NOW - 23 * 3600)
    queue.began("repo 1", NOW - 26 * 3600, 50)
    queue.began("repo 1", NOW + 3 * 86400, 50)
    assert queue.pick() == ["t0", "t1"], "one was begun today, and three may"
    assert queue.waits("t0").word == "worker"
    queue.began("repo 1", NOW, 2)
    assert queue.pick() == []
    assert queue.waits("t0") == Waits("repo_daily", "repo o/r1 began 3 attempts in 24 hours, its limit", 1, "quota")
    assert queue.pick(now=NOW + 3 * 3600) == ["t0"]


def test_pauses(queue: Queue) -> None:
    for n, (route, installation, repo) in enumerate(
        [("a", 1, 1), ("b", 1, 2), ("b", 2, 3), ("b", 2, 4), ("c", 3, None)]
    ):
        queue.add(f"t{n}", route=route, installation=installation, repo=repo)
    queue.pause("route", "a")
    queue.pause("installation", "3")
    queue.pause("repo", "2", "o/r2")
    queue.pause("repo", None, "O/R3")
    queue.pause("intake", None)
    assert queue.pick() == ["t3"]
    assert [queue.waits(f"t{n}").word for n in (0, 1, 2, 4)] == [
        "paused_route", "paused_repo", "paused_repo", "paused_installation"
    ]  # fmt: skip
    assert queue.waits("t0").why == "route a is paused since noon: a reason"
    queue.pause("worker", None)
    assert queue.pick() == []
    assert queue.pick(kinds=PULL_KINDS) == []
    assert queue.waits("t3").word == "paused_worker"


def test_what_is_held_back_in_front_holds_up_nobody_behind(queue: Queue) -> None:
    """More than a window of each: of a paused route, of a repository at its cap, of a busy key."""
    queue.caps = Caps(repo=Cap(concurrency=1))
    queue.pause("route", "paused")
    queue.add("runs", "hot", repo=1)
    queue.run(1)
    queue.many(SCAN_WINDOW + 5, route="paused")
    queue.many(SCAN_WINDOW + 5, repo=1)
    queue.many(SCAN_WINDOW + 5, key="hot")
    free = ["free0", "free1", "free2", "free3"]
    for task, route, repo, key in zip(free, "rsra", (2, None, None, 7), (None, None, "k", "l"), strict=True):
        queue.add(task, key, route=route, repo=repo)
    assert sorted(queue.all()) == free


def test_beyond_the_window_lanes_take_turns(queue: Queue) -> None:
    queue.pause("route", "paused")
    queue.many(SCAN_WINDOW, route="paused")
    for n in range(4):
        for lane in "abc":
            queue.add(f"{lane}{n}", lane)
    assert queue.all() == [f"{lane}{n}" for n in range(4) for lane in "abc"]


# ---- cost

SHAPES: dict[str, dict[str, Any]] = {
    "one lane": {},
    "one busy key": {"key": "hot"},
    "a key each": {"key": lambda n: f"k{n}"},
    "a key each of a route that is paused": {"key": lambda n: f"k{n}", "route": "paused"},
    "a repository each": {"repo": lambda n: n + 10},
    "a repository each of an installation at its cap": {"repo": lambda n: n + 10, "installation": 7},
    "priorities": {"priority": lambda n: n % 10},
    "an installation each": {"installation": lambda n: n + 100},
    "later": {"not_before": NOW + 60},
    "later, an installation each of a hundred": {"not_before": NOW + 60, "installation": lambda n: n % 100 + 100},
}


def steps_of_a_claim(shape: dict[str, Any], queued: int) -> int:
    """Steps of SQLite's machine for one task picked, another one queued, and the next picked."""
    queue = Queue(Caps(installations={"7": Share(cap=Cap(concurrency=1))}))
    queue.pause("route", "paused")
    queue.add("first", "hot", installation=7)
    assert queue.run(1) == ["first"]
    queue.many(queued, **shape)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    queue.conn.set_progress_handler(step, 1)
    queue.run(1)
    queue.add("another", "hot")
    queue.run(1)
    queue.picker.next_due(queue.conn, NOW)
    queue.conn.set_progress_handler(None, 0)
    queue.conn.close()
    return steps


@pytest.mark.parametrize("shape", SHAPES)
def test_a_claim_costs_the_same_however_long_the_queue(shape: str) -> None:
    """What there is at 100 there is a hundred times at 10,000; the wider b-trees alone may cost a little."""
    few, many = (steps_of_a_claim(SHAPES[shape], queued) for queued in (200, 10_000))
    assert many <= few * 1.2 + 50, f"{few} steps at 200 queued, {many} at 10,000"


@pytest.mark.deep
@pytest.mark.parametrize("shape", SHAPES)
def test_a_claim_costs_the_same_at_100_000(shape: str) -> None:
    few, many = (steps_of_a_claim(SHAPES[shape], queued) for queued in (100, 100_000))
    assert many <= few * 1.2 + 50, f"{few} steps at 100 queued, {many} at 100,000"


def test_a_pick_keeps_nothing_of_what_is_queued(queue: Queue) -> None:
    queue.pause("route", "paused")
    queue.many(3000, route="paused", key=lambda n: f"k{n}", repo=lambda n: n)
    queue.add("free")
    assert queue.run() == ["free"]
    [turn] = queue.picker._round_robins.values()
    assert len(turn.turns) == 1


@pytest.mark.parametrize("shared", [{"route": "narrow"}, {"repo": 7}, {"key": "deploy"}])
def test_what_is_shared_goes_round_too(queue: Queue, shared: dict[str, Any]) -> None:
    """Two installations want what one at a time may have, and a third always has something else to run: the turn comes to
    the first of them whenever there is room again, and to the second only when there is none left."""
    queue.caps = Caps(repo=Cap(1), routes={"narrow": RouteCap(Cap(1))})
    for installation in (2, 3):
        queue.many(20, installation=installation, **shared)
    queue.many(100, installation=1)
    tenants = dict(queue.conn.execute("SELECT id, tenant FROM tasks").fetchall())
    order = [tenants[task] for task in queue.all(2, most=42)]
    assert abs(order.count("2") - order.count("3")) <= 1, order
    assert order.count("1") == 21


def test_nobody_is_owed_for_what_they_use_up_themselves_nor_for_what_they_no_longer_want(queue: Queue) -> None:
    queue.caps = Caps(routes={"narrow": RouteCap(Cap(1))})
    queue.many(3, installation=2, key="own", route="a")
    queue.add("theirs", installation=3, route="narrow")
    queue.add("wanted", installation=4, route="narrow")
    assert len(queue.run(9)) == 2  # one with the key, and theirs
    [turn] = queue.picker._round_robins.values()
    assert {tenant: list(scopes) for tenant, scopes in turn.owed.items()} == {"4": ["route narrow"]}
    queue.move("wanted", "canceled")
    queue.move("theirs", "completed")
    assert queue.run(9) == []
    assert not turn.owed


# ---- what a task waits for


def test_waiting_words(queue: Queue) -> None:
    queue.add("runs", "a")
    queue.run()
    queue.add("behind", "a")
    queue.add("retried", not_before=NOW + 9)
    queue.conn.execute("UPDATE tasks SET attempts = 1, category = 'exit' WHERE id = 'retried'")
    queue.add("quiet", not_before=NOW + 9)
    queue.add("next")
    queue.add("first", priority=3)
    queue.add("far", kind="pull")
    assert waiting(queue.conn, "runs", NOW) is None
    assert waiting(queue.conn, "nobody", NOW) is None
    assert queue.waits("behind") == Waits("key", "task runs with the same key runs", 2, "key")
    until = "until 2027-01-15 08:00:09Z, after attempt 1 ended (exit)"
    assert queue.waits("retried") == Waits("retry", until, cause="not_before")
    assert queue.waits("quiet").word == "debounce"
    assert queue.waits("quiet", NOW + 9).word == "worker"
    assert (queue.waits("next").word, queue.waits("next").position) == ("worker", 3)
    assert queue.waits("first").position == 1
    assert (queue.waits("far").word, queue.waits("far").position) == ("pull", 1)


def test_a_position_far_back_is_not_counted(queue: Queue) -> None:
    queue.many(POSITION_MAX + 1)
    assert queue.waits(f"m{POSITION_MAX - 1}").position == POSITION_MAX
    assert queue.waits(f"m{POSITION_MAX}").position is None


# ---- against the plain rule


@settings(max_examples=60)
@given(st.data())
def test_picks_agree_with_the_plain_rule(data: st.DataObject) -> None:
    """Against any history: what runs is queued and due and within the limits; and nothing that could run is left."""
    count = st.sampled_from([None, 1, 2])
    queue = Queue(Caps(installation=Cap(data.draw(count)), repo=Cap(data.draw(count)), route=Cap(data.draw(count))))
    now, tasks = NOW, 0
    if data.draw(st.booleans()):
        queue.pause("route", "b")
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(st.sampled_from(["add", "add", "add", "pick", "finish", "retry", "requeue", "time"]))
        by_state = {
            state: [row["id"] for row in queue.conn.execute("SELECT id FROM tasks WHERE state = ?", (state,))]
            for state in ("running", "failed")
        }
        if step == "add":
            queue.add(
                f"t{tasks}",
                data.draw(st.sampled_from([None, "a", "b"])),
                data.draw(st.sampled_from([None, now])),
                installation=data.draw(st.sampled_from([None, 1])),
                route=data.draw(st.sampled_from("ab")),
                repo=data.draw(st.sampled_from([None, 1, 2])),
                priority=data.draw(st.sampled_from([0, 9])),
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
            running = queue.conn.execute("SELECT * FROM tasks WHERE state = 'running'").fetchall()
            assert within(queue.caps, running)
            ready = queue.conn.execute(
                "SELECT * FROM tasks WHERE state = 'queued' AND coalesce(not_before, '') <= ?", (at_text(now),)
            ).fetchall()
            paused = queue.conn.execute("SELECT 1 FROM pauses").fetchone() is not None
            able = [
                row for row in ready if within(queue.caps, [*running, row]) and not (paused and row["route"] == "b")
            ]
            assert len(ids) == room or not able
            assert not (paused and any(row["route"] == "b" for row in running))
    queue.conn.close()


def within(caps: Caps, running: list[sqlite3.Row]) -> bool:
    keys = Counter(row["key"] for row in running if row["key"] is not None)
    levels = [("tenant", caps.installation), ("route", caps.route), ("repo_id", caps.repo)]
    return max(keys.values(), default=0) <= 1 and all(
        cap.concurrency is None
        or max(Counter(row[level] for row in running if row[level] is not None).values(), default=0) <= cap.concurrency
        for level, cap in levels
    )
