"""What becomes of attempts that ended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.route import Retry
from covenq.model import DURATION_MAX_S, Category, Kind, at_text
from covenq.tasks.scheduling.interruption import INTERRUPTIONS_MAX, recover
from covenq.tasks.scheduling.outcome import RETRY_AFTER_MAX_S, Outcome, Policy, Task, backoff, ending_after

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
    ending = ending_after(task, 2, 5, outcome, result="attempts/t1/2/result", now=NOW, random=lambda: random)
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


def test_only_the_categories_that_the_route_names_are_tried_again() -> None:
    only = replace(TASK, policy=replace(POLICY, retry=Retry(2, 2.0, 60.0, on=("timeout", "http"))))
    assert ended(only, Outcome(Category.EXIT))[0] == "task.failed"
    assert ended(only, Outcome(Category.TIMEOUT))[0] == "task.retry"
    assert ended(only, Outcome(Category.INTERRUPTED))[0] == "task.retry", "a stop is no failure"
    frozen = Policy.from_record({"run": ["true"], "retry": {"max": 1, "on": ["exit"]}})
    assert (frozen.retry.on, Policy.from_record({"run": ["true"]}).retry.on) == (("exit",), None)


@pytest.mark.parametrize(("asked", "waits"), [(None, 1.0), (0.5, 1.0), (30.0, 30.0), (1e12, RETRY_AFTER_MAX_S)])
def test_a_retry_waits_as_long_as_was_asked_and_no_longer_than_a_day(asked: float | None, waits: float) -> None:
    kind, data = ended(TASK, Outcome(Category.HTTP, retry_after_s=asked), 0.5)
    assert (kind, data["not_before"]) == ("task.retry", at_text(NOW + waits))


def test_what_policy_refused_is_not_tried_again() -> None:
    assert ended(TASK, Outcome(Category.POLICY))[0] == "task.failed"


def test_a_stop_uses_up_no_retry() -> None:
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
    assert "it was interrupted 3 times, and a person" in str(entries[2].data["detail"])
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


@pytest.mark.parametrize("seconds", [9_999_999 * 86_400.0, 1e308, -5.0])
def test_a_frozen_policy_of_any_numbers_ends_in_a_time(seconds: float) -> None:
    policy = Policy.from_record(
        {"run": ["false"], "timeout_s": seconds, "retry": {"max": 3, "backoff_s": seconds, "cap_s": seconds}}
    )
    assert 0 <= policy.timeout_s <= DURATION_MAX_S
    kind, data = ended(replace(TASK, policy=policy), Outcome(Category.EXIT, 1))
    assert kind == "task.retry" and at_text(NOW) <= str(data["not_before"]) <= at_text(NOW + DURATION_MAX_S)
