"""When what is missing will be fetched at GitHub's limit: the forecast alone, against one that is counted request by request."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from covenq.config.github_api import KEPT_S, GithubApp, GithubHook, GithubLogs, digest_of
from covenq.config.secret_source import SecretSource
from covenq.github.api_client import Usage
from covenq.model import at_text, seconds_of
from covenq.model.ledger import KIND, PREFIX, Ledger, Tally, data_of, hour_of, hour_text, missing_text
from covenq.model.status import Missing, RequestBudget
from covenq.operate.inspect import ledger
from covenq.operate.inspect.reconciling import budget_of
from covenq.reconcile.forecast import WINDOW_S, Budget, Forecast, forecast
from covenq.state.fold import fold
from journal.records import Entry
from tests.support.records import as_records, empty_state

NOW = 1_800_000_000.0
HOUR = 3600.0
DAY = 86_400.0
AMPLE = Budget(usable=2500, per_window=2500, reset=NOW + 1800, lists=1, request_s=0.25, every_s=300.0)


# ---- what is said


def test_what_fits_into_this_window_waits_for_none() -> None:
    found = forecast([(NOW + DAY, 100)], AMPLE, NOW)
    assert found == Forecast(NOW + 300 + 0.25 + 25, False, 0, None)


def test_what_does_not_waits_until_the_limit_is_counted_anew() -> None:
    found = forecast([(NOW + DAY, 2499 + 100)], AMPLE, NOW)
    assert found == Forecast(NOW + 1800 + 300 + 0.25 + 25, True, 0, None)
    several = forecast([(NOW + DAY, 10_000)], AMPLE, NOW)
    assert several.done_at == NOW + 1800 + 300 + 3 * (HOUR + 300) + 0.25 + 4 * 0.25


def test_what_github_forgets_before_is_too_late_and_what_it_keeps_longer_is_not() -> None:
    found = forecast([(NOW - 1, 3), (NOW + HOUR, 5000), (NOW + 2 * DAY, 10)], AMPLE, NOW)
    assert (found.too_late, found.too_late_from) == (5003 - 2 * 2499 + 0, NOW - 1)
    assert found.done_at is not None and found.done_at < NOW + 3 * HOUR


def test_where_the_lists_take_all_nothing_is_promised() -> None:
    found = forecast([(NOW + DAY, 1)], replace(AMPLE, usable=5, per_window=5, lists=5), NOW)
    assert found == Forecast(None, False, 1, NOW + DAY)


def test_of_a_window_that_is_over_the_whole_limit_counts() -> None:
    found = forecast([(NOW + DAY, 100)], replace(AMPLE, usable=0, reset=NOW - 1), NOW)
    assert found.done_at is not None and found.done_at < NOW + HOUR and not found.waits


# ---- what holds for all


def budgets() -> st.SearchStrategy[Budget]:
    return st.builds(
        Budget,
        usable=st.integers(0, 60),
        per_window=st.integers(0, 60),
        reset=st.floats(NOW - HOUR, NOW + HOUR),
        lists=st.integers(1, 6),
        request_s=st.floats(0.0, 200.0),
        every_s=st.floats(1.0, 2 * HOUR),
    )


MISSING = st.lists(st.tuples(st.floats(NOW - HOUR, NOW + KEPT_S), st.integers(1, 40)), max_size=6)


def simulated(missing: list[tuple[float, int]], budget: Budget, phase: float) -> tuple[int, float]:
    """How many are fetched in time, and when the last one was, of a GitHub that counts and passes that keep to the half.

    `phase`, of 0 to 1, is when within `every_s` the first pass is made.
    """
    left = [forgotten_at for forgotten_at, number in missing for _ in range(number)]
    now, fetched, last = NOW + phase * budget.every_s, 0, NOW
    room, reset = budget.usable, budget.reset
    while left and now < NOW + KEPT_S + 3 * HOUR:
        asked, began = 0, now
        while True:
            if now >= reset:
                room, reset = budget.per_window, now + WINDOW_S
            listing = asked < budget.lists
            left = left if listing else [one for one in left if one >= now + budget.request_s - 1e-3]
            if room == 0 or (not listing and not left):
                break
            room, now, asked = room - 1, now + budget.request_s, asked + 1
            if not listing:
                left.pop(0)
                fetched, last = fetched + 1, now
        # The next pass: where nothing was asked, nothing is until the limit is counted anew.
        now = now + budget.every_s if now > began or room else max(now, reset - budget.every_s) + budget.every_s
    return fetched, last


@given(MISSING, budgets(), st.floats(0.0, 1.0))
def test_it_never_promises_what_the_budget_can_not_give(
    missing: list[tuple[float, int]], budget: Budget, phase: float
) -> None:
    found = forecast(missing, budget, NOW)
    number = sum(count for _, count in missing)
    fetched, last = simulated(missing, budget, phase)
    assert number - found.too_late <= fetched, (missing, budget, phase, fetched, last)
    if found.too_late == 0 and number:
        assert found.done_at is not None and last <= found.done_at + 1e-3


@given(MISSING, budgets(), st.tuples(st.floats(NOW, NOW + KEPT_S), st.integers(1, 40)))
def test_more_that_is_missing_is_done_no_sooner_and_no_more_in_time(
    missing: list[tuple[float, int]], budget: Budget, one: tuple[float, int]
) -> None:
    few, more = forecast(sorted(missing), budget, NOW), forecast(sorted([*missing, one]), budget, NOW)
    assert few.too_late <= more.too_late <= few.too_late + one[1]
    assert few.done_at is None or (more.done_at is not None and more.done_at >= few.done_at - 1e-3)


@given(MISSING, budgets(), st.integers(1, 40), st.integers(1, 40))
def test_a_larger_budget_leaves_no_more_too_late(
    missing: list[tuple[float, int]], budget: Budget, now: int, each: int
) -> None:
    larger = replace(budget, usable=budget.usable + now, per_window=budget.per_window + each)
    found, better = forecast(missing, budget, NOW), forecast(missing, larger, NOW)
    assert better.too_late <= found.too_late
    if better.too_late == found.too_late and found.done_at is not None:
        assert better.done_at is not None and better.done_at <= found.done_at + 1e-3


@given(MISSING, budgets())
def test_what_is_promised_is_in_time(missing: list[tuple[float, int]], budget: Budget) -> None:
    found = forecast(missing, budget, NOW)
    number = sum(count for _, count in missing)
    assert 0 <= found.too_late <= number and (found.done_at is None) == (found.too_late == number)
    assert (found.too_late_from is None) == (found.too_late == 0)
    if found.done_at is not None:
        assert NOW < found.done_at <= max(forgotten_at for forgotten_at, _ in missing) + 1e-3


# ---- from what is known of logs


APP = GithubApp(1, None, (SecretSource("key", file="/app.pem"),))
SEVEN, EIGHT = (GithubHook(id, "o/r", None, SecretSource(f"token of hook {id}", env="TOKEN")) for id in ("7", "8"))
OTHER = GithubHook("9", "o/r", None, SecretSource("token", env="ANOTHER"))
START = NOW - NOW % HOUR - HOUR
TOLD = RequestBudget(5000, 2600, 2500, at_text(NOW + 1800), 0.25, 1)


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    conn = empty_state()
    yield conn
    conn.close()


def open_in(conn: sqlite3.Connection, **numbers: int) -> None:
    """So many are open of the hour before NOW, in the logs of these names."""
    logs = {"app": APP, "seven": SEVEN, "eight": EIGHT, "other": OTHER}
    entries = []
    for name, number in numbers.items():
        found = Ledger(START, "7", {}, {hour_of(START): Tally({("open", None): number})})
        entries.append(Entry(PREFIX + digest_of(logs[name]), KIND, data_of(found)))
    fold(conn, as_records(entries, first=1 + next(conn.execute("SELECT COALESCE(MAX(seq), 0) FROM ledger"))[0]))


def missing_of(
    conn: sqlite3.Connection, logs: GithubLogs, every_s: float | None = 300.0, **told: RequestBudget
) -> Missing:
    names = {"app": APP.name, "seven": SEVEN.name, "eight": EIGHT.name, "other": OTHER.name}
    found = ledger.missing(conn, logs, {names[name]: one for name, one in told.items()}, every_s, NOW)
    assert found is not None
    return found


def test_what_the_limit_makes_of_the_open_ones_is_said(conn: sqlite3.Connection) -> None:
    open_in(conn, app=1204)
    logs = GithubLogs(APP)
    found = missing_of(conn, logs, app=TOLD)
    assert found.waits and found.too_late == 0
    assert seconds_of(found.done_at or "") == pytest.approx(NOW + 1800 + 300 + 0.25 + (1204 - 99) * 0.25)
    for unknown in (missing_of(conn, logs), missing_of(conn, logs, None, app=TOLD)):
        assert (unknown.done_at, unknown.waits, unknown.too_late) == (None, False, 0)
    poor = missing_of(conn, logs, app=RequestBudget(20, 0, 0, at_text(NOW + 1800), 0.25, 1))
    assert poor.too_late > 500 and poor.too_late_from == poor.forgotten_at


def test_what_is_fetched_first_leaves_others_to_be_forgotten(conn: sqlite3.Connection) -> None:
    """Of two hours 2,400 each, of which the limit lets only one be fetched before GitHub forgets the older."""
    early, late = NOW - KEPT_S + HOUR, START
    hours = {hour_of(at): Tally({("open", None): 2400}) for at in (early, late)}
    fold(conn, as_records([Entry(PREFIX + digest_of(APP), KIND, data_of(Ledger(early, "7", {}, hours)))]))
    for first, too_late in (
        (0, 0),
        (1000, 2400 - (2499 - (1000 - 99))),
        (2400, 2400 - (2499 - (2400 - 99))),
        (9999, 2202),
    ):
        told = structs.replace(TOLD, first={hour_text(hour_of(late)): first})
        found = missing_of(conn, GithubLogs(APP), app=told)
        assert (found.too_late, found.too_late_from) == (too_late, at_text(NOW + HOUR) if too_late else None), first


def test_hooks_with_one_token_share_its_limit(conn: sqlite3.Connection) -> None:
    open_in(conn, seven=60, eight=60)
    shared = missing_of(conn, GithubLogs(None, (SEVEN, EIGHT)), seven=TOLD, eight=TOLD)
    assert shared.waits, "together they are more than the hundred that are left"
    half = missing_of(conn, GithubLogs(None, (SEVEN, EIGHT)), seven=TOLD)
    assert half.done_at is None, "of one of them nothing is known"
    open_in(conn, other=60)
    apart = missing_of(conn, GithubLogs(None, (SEVEN, OTHER)), seven=TOLD, other=TOLD)
    assert not apart.waits
    assert seconds_of(apart.done_at or "") == pytest.approx(NOW + 300 + 0.25 + 2 * 60 * 0.25)  # one after the other


def test_a_budget_is_known_once_github_has_told_all_of_it() -> None:
    usage = Usage()
    assert budget_of(usage, 1, {}) is None
    headers = {"x-ratelimit-remaining": "4999", "x-ratelimit-reset": str(int(NOW))}
    usage.requests, usage.spent_s = 4, 2.0
    usage.note(headers, NOW)
    assert budget_of(usage, 1, {}) is None
    usage.note({**headers, "x-ratelimit-limit": "5000"}, NOW)
    assert budget_of(usage, 0, {}) == RequestBudget(5000, 4999, 2499, at_text(NOW), 0.5, 1)
    assert Usage(1, 0.0, 5000, 4999, NOW, 2499).requests == 1
    quick = budget_of(Usage(1000, 1.0, 5000, 4999, NOW, 2499), 3, {})
    assert quick is not None and quick.request_s == 0.075, "requests are no closer than that"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "in 9h: covenq reconcile"),
        ({"done_at": "2026-12-03T05:10:00Z"}, "in 9h: covenq reconcile"),
        (
            {"done_at": "2026-12-03T15:40:30Z", "waits": True},
            "in 9h; at GitHub's limit done at about 15:40Z: covenq reconcile",
        ),
        (
            {
                "done_at": "2026-12-04T01:40:30Z",
                "waits": True,
                "too_late": 300,
                "too_late_from": "2026-12-03T14:10:00Z",
            },
            "in 9h; 300 of them can't be fetched in time, GitHub forgets them from 14:10Z; "
            "at GitHub's limit the rest is done at about 2026-12-04 01:40Z: covenq reconcile",
        ),
        (
            {"too_late": 1204, "too_late_from": "2026-12-03T14:10:00Z"},
            "in 9h; they can't be fetched in time, GitHub forgets them from 14:10Z: covenq reconcile",
        ),
    ],
)
def test_the_alarm_says_what_the_limit_makes_of_it(more: dict[str, Any], words: str) -> None:
    one = Missing(1204, "2026-11-30T14:00:00Z", "2026-11-30T15:00:00Z", "2026-12-03T14:00:00Z", **more)
    now = 1_796_274_000.0  # 2026-12-03T05:00Z
    start = "1,204 deliveries of 2026-11-30 14:00-15:00Z are missing; GitHub forgets them "
    assert missing_text(one, now) == start + words
