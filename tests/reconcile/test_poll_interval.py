"""When a followed log is looked at: clocks and counts are passed in, nothing waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from covenq.github.api_client import Usage
from covenq.reconcile.other_requests import OtherRequests
from covenq.reconcile.poll_interval import (
    FAST_S,
    WAIT_MAX_S,
    PollInterval,
    affordable_s,
    next_wait_s,
)


def waits(found: list[bool], longest_s: float = 60.0) -> list[float]:
    """The wait after each look, the next of which is made when it is over."""
    interval, now, made = PollInterval(), 1000.0, []
    for one in found:
        interval = interval.after(found=one, now=now, longest_s=longest_s)
        made.append(interval.waited_s)
        now += interval.waited_s
    return made


def test_seconds_while_things_come_a_minute_when_not_and_doubling_between() -> None:
    assert waits([False] * 8) == [2, 4, 8, 16, 32, 60, 60, 60]
    after = waits([True] + [False] * 36)
    assert after[:31] == [FAST_S] * 31  # for a minute after the last that came
    assert after[31:] == [4, 8, 16, 32, 60, 60]
    assert waits([False] * 6 + [True])[-1] == FAST_S
    assert waits([True, False], longest_s=1.0) == [1, 1]
    assert max(waits([False] * 20, longest_s=7.0)) == 7


def left(remaining: int | None, reset: float | None, floor: int = 0) -> Usage:
    return Usage(remaining=remaining, reset=reset, floor=floor)


@given(
    remaining=st.integers(0, 15_000),
    share=st.floats(0, 1),
    seconds=st.floats(1, 3600),
    cost=st.integers(1, 40),
    fetched=st.lists(st.integers(0, 30), max_size=200),
)
def test_looks_alone_never_use_up_what_is_left_whatever_they_fetch(
    remaining: int, share: float, seconds: float, cost: int, fetched: list[int]
) -> None:
    """Simulated to the time at which GitHub counts anew. What is fetched besides is taken off, and the looks become rarer."""
    usage, now = left(remaining, seconds, int(remaining * share)), 0.0
    for number in range(20_000):
        allowed = usage.remaining - usage.floor if usage.remaining is not None else 0
        wait = max(FAST_S, affordable_s(usage, cost, now))
        now += wait
        if now >= seconds:
            return
        assert allowed >= cost, "a look was made that the budget does not have"
        also = fetched[number] if number < len(fetched) else 0
        assert usage.remaining is not None
        usage.remaining -= cost + min(also, max(0, allowed - cost))
    raise AssertionError("it did not come to the end")


def test_without_counts_and_when_they_are_over_nothing_is_held_back() -> None:
    assert affordable_s(left(None, None), 1, 5.0) == 0
    assert affordable_s(left(0, 5.0), 1, 5.0) == 0
    assert affordable_s(left(0, 10.0), 1, 5.0) == 6  # until they are counted anew
    assert affordable_s(left(10, 1e12), 1, 5.0) == WAIT_MAX_S  # a header that can't be meant


def test_the_wait_is_the_longest_of_what_each_log_and_github_ask_for() -> None:
    interval = PollInterval(None, 2.0)
    assert next_wait_s(interval, [], 0.0, None) == 2
    assert next_wait_s(interval, [(left(100, 1000.0), 1), (left(10, 1000.0), 1)], 0.0, None) == 100
    assert next_wait_s(interval, [], 0.0, 300.0) == 300


# ---- what others ask


def counts(per_minute: list[tuple[int, int]], look_s: float = 2.0) -> OtherRequests:
    """Minutes of looks, of each how many requests are ours a look, and how many others', at once in its middle."""
    usage, others, now = left(5000, 1e6), OtherRequests(), 0.0
    others.note(usage, usage.requests, now)
    for ours, foreign in per_minute:
        looks = max(1, int(60 / look_s))
        for look in range(looks):
            now += 60 / looks
            usage.requests += ours
            assert usage.remaining is not None
            usage.remaining -= ours + (foreign if look == looks // 2 else 0)
            others.note(usage, usage.requests, now - 0.001)
    return others


def test_requests_of_others_are_told_where_they_come_steadily() -> None:
    assert counts([(1, 0)] * 20).steady(1200.0) == 0
    assert counts([(1, 1)] * 20).steady(1199.0) == 15
    assert counts([(1, 3)] * 20).steady(1199.0) == 45
    assert counts([(1, 0)] * 15 + [(1, 200)] + [(1, 0)] * 4).steady(1199.0) == 0  # one command
    assert counts([(1, 1)] * 8).steady(480.0) == 0  # not for long enough
    assert counts([(1, 1)] * 20 + [(1, 0)] * 15).steady(2100.0) == 0  # over


def test_they_are_told_where_looks_are_rare_too_and_not_over_two_windows_of_githubs() -> None:
    assert counts([(1, 5)] * 20, look_s=60.0).steady(1199.0) == 75
    others = OtherRequests()
    others.note(left(10, 3600.0), 0, 0.0)
    others.note(left(4999, 7200.0), 1, 3700.0)
    assert others.steady(3700.0) == 0


def test_counts_that_are_a_little_behind_are_no_others() -> None:
    usage, others = left(5000, 1e6), OtherRequests()
    for n in range(900):
        usage.requests += 1
        usage.remaining = 5000 - n + (n % 2)  # too much, and too little at the next
        others.note(usage, usage.requests, n * 1.0)
    assert others.steady(900.0) == 0


def test_they_may_be_asked_for_while_more_are_noted() -> None:
    """The status is asked for on other threads than the looks are made on."""
    others = counts([(1, 1)] * 20)

    class Meanwhile(float):
        """A time at whose every use another look is noted, a minute later than the one before."""

        noted = 1200.0

        def __floordiv__(self, other: float) -> float:  # type: ignore[override]
            Meanwhile.noted += 60.0
            others.note(left(5000, 1e6), 0, Meanwhile.noted)
            return float(self) // other

    assert others.steady(Meanwhile(1199.0)) == 15
