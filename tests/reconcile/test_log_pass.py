"""A pass over a log from its state to the next, by values: how far it goes back, what it fetches, and where the mark is then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.errors import CovenqError, GithubLimited, GithubRefused, OutgoingFailed
from covenq.github.delivery_log import Attempt, LogPage
from covenq.model import DeliveryId, at_text
from covenq.model.ledger import hour_of, hour_text
from covenq.reconcile.compare import Absent, Came
from covenq.reconcile.fetch import FAILURES_MAX, Detail, Outcome, fetch
from covenq.reconcile.log_pass import Earlier, PassResult, PassSettings, make_pass
from covenq.reconcile.log_state import LogState, Mark, begun, data_of, moved, state_of
from covenq.reconcile.result import row_of
from covenq.reconcile.walk import CursorRefused

NOW = 1_800_000_000.0
SETTINGS = PassSettings(overlap_s=900.0, grace_s=300.0, is_wanted=lambda one: True)
FIRST = LogState(epoch="e", baseline=NOW - 50_000, hook="9")


def attempt(guid: str, at: float, id: int) -> Attempt:
    return Attempt(str(id), guid, at, False, 500, "push")


@dataclass
class World:
    """A log of GitHub's, newest first, the journal, and what may go wrong. It is the log, the holdings and the recorder."""

    attempts: list[Attempt]
    held_guids: set[str] = field(default_factory=set)
    name: str = "app x"
    hook: str | None = "9"
    app_id: int | None = None
    size: int = 100
    requests: int = 0
    pages: int = 0
    refuse_cursor: bool = False
    list_error: CovenqError | None = None
    """Raised by the second page."""
    details: dict[str, CovenqError] = field(default_factory=dict)
    """Raised by the detail of that GUID."""
    gone: set[str] = field(default_factory=set)
    erased: set[float] = field(default_factory=set)
    """Times at which what was sent is erased."""
    before_detail: Callable[[], None] = lambda: None
    recorded: list[Detail] = field(default_factory=list)
    end_at: int = 1 << 62
    """After so many recorded ones the process ends."""

    def page(self, cursor: str | None) -> LogPage:
        self.requests += 1
        self.pages += 1
        if cursor is not None and self.list_error is not None:
            raise self.list_error
        if cursor is not None and self.refuse_cursor:
            self.refuse_cursor = False
            raise CursorRefused
        listed = sorted(self.attempts, key=lambda one: one.order, reverse=True)
        start = 0 if cursor is None else int(cursor)
        end = start + self.size
        return LogPage(tuple(listed[start:end]), str(end) if len(listed) > end else None)

    def detail(self, attempt: str) -> bytes | None:
        self.requests += 1
        self.before_detail()
        (guid,) = {one.guid for one in self.attempts if one.id == attempt}
        if guid in self.details:
            raise self.details[guid]
        return None if guid in self.gone else b"{}"

    def headers(self, attempt: object) -> list[list[str]]:
        raise AssertionError("the hook is known")

    def held(self, guids: Sequence[str]) -> dict[DeliveryId, Came]:
        return {DeliveryId("9", one): Came("http", NOW) for one in guids if one in self.held_guids}

    def is_erased(self, repo_id: int | None, installation: int | None, at: float) -> bool:
        return at in self.erased

    def record(self, details: Sequence[Detail]) -> list[Outcome]:
        outcomes = []
        for one in details:
            if len(self.recorded) >= self.end_at:
                raise KeyboardInterrupt
            assert one.guid not in self.held_guids
            self.held_guids.add(one.guid)
            self.recorded.append(one)
            outcomes.append(Outcome("fetched" if one.hold is None else "waiting", hook="9"))
        return outcomes

    def passed(self, state: LogState, now: float = NOW, settings: PassSettings = SETTINGS) -> PassResult:
        return make_pass(self, state, lambda: self, self, settings, now, lambda: None)  # type: ignore[arg-type]


def states(result: PassResult) -> dict[str, str]:
    return {row.guid: row.state for row in result.rows}


def test_a_pass_fetches_what_is_missing_and_moves_the_mark_to_the_newest_that_is_settled() -> None:
    world = World(
        [
            attempt("old", NOW - 60_000, 1),
            attempt("a", NOW - 9000, 2),
            attempt("b", NOW - 8000, 3),
            attempt("c", NOW - 10, 4),
        ],
        {"b"},
    )
    found = world.passed(FIRST)
    assert states(found) == {"a": "fetched", "c": "on_its_way"} and found.state.mark == Mark(NOW - 8000, "3")
    assert found.summary.listed == 3 and not found.troubles
    again = world.passed(found.state)
    assert states(again) == {"c": "on_its_way"} and again.state == found.state
    later = world.passed(again.state, NOW + 400)
    assert states(later) == {"c": "fetched"} and later.state.mark == Mark(NOW - 10, "4")


def test_a_pass_with_fewer_than_a_hundred_in_its_overlap_is_one_request() -> None:
    world = World([attempt(f"g{n}", NOW - 20_000 - n, n + 1) for n in range(5000)])
    world.attempts += [attempt(f"new{n}", NOW - 400 - n / 10, 9000 + n) for n in range(99)]
    world.held_guids = {one.guid for one in world.attempts}
    found = world.passed(replace(FIRST, mark=Mark(NOW - 600, "1")))
    assert (world.requests, found.summary.listed, found.rows) == (1, 99, [])


def test_more_than_ten_thousand_in_one_minute_between_two_passes_lose_nothing() -> None:
    world = World([attempt(f"g{n}", NOW - 400 + n / 200, n + 1) for n in range(10_500)])
    world.refuse_cursor = True
    found = world.passed(replace(FIRST, mark=Mark(NOW - 700, "1")))
    assert len(world.recorded) == 10_500 and found.state.mark == Mark(NOW - 400 + 10_499 / 200, "10500")
    assert world.pages == 2 + 105  # a refused cursor has the walk start over
    assert [one.guid for one in world.recorded] == [f"g{n}" for n in range(10_500)]


def test_a_walk_that_does_not_reach_its_end_moves_nothing_and_fetches_nothing() -> None:
    world = World([attempt(f"g{n}", NOW - 5000 + n, n + 1) for n in range(150)])
    world.list_error = OutgoingFailed("away")
    found = world.passed(FIRST)
    assert found.state == FIRST and found.rows == [] and world.recorded == []
    assert found.summary.error == "away" and [str(one) for one in found.troubles] == ["away"]


def test_the_mark_stays_before_what_could_not_be_fetched() -> None:
    world = World([attempt(f"g{n}", NOW - 5000 + n, n + 1) for n in range(9)], {"g8"})
    world.details = {"g4": GithubLimited("half is used")}
    found = world.passed(FIRST)
    assert [one.guid for one in world.recorded] == ["g0", "g1", "g2", "g3"]
    assert states(found)["g4"] == states(found)["g7"] == "open"
    assert found.state.mark == Mark(NOW - 4996, "5")
    world.details = {}
    found = world.passed(found.state, NOW + 90_000)  # however late it is made
    assert len(world.held_guids) == 9 and found.state.mark == Mark(NOW - 4992, "9")


def test_one_detail_that_github_can_not_give_keeps_no_other_from_being_fetched() -> None:
    world = World([attempt(f"g{n}", NOW - 5000 + n, n + 1) for n in range(9)])
    world.details = {"g0": OutgoingFailed("too much"), "g3": OutgoingFailed("too much")}
    found = world.passed(FIRST)
    assert {guid for guid, state in states(found).items() if state == "open"} == {"g0", "g3"}
    assert len(world.recorded) == 7 and len(found.troubles) == 2
    world.details = {f"g{n}": OutgoingFailed("away") for n in range(9)}
    world.held_guids, asked = set(), world.requests
    world.passed(FIRST)
    assert world.requests - asked == 1 + FAILURES_MAX


def test_a_log_that_gives_no_details_keeps_those_of_no_other_from_being_fetched() -> None:
    world = World([attempt(f"g{n}", NOW - 5000 + n, n + 1) for n in range(8)])
    errors = {"refuses": GithubRefused("no"), "fails": OutgoingFailed("away")}
    asked: list[str] = []

    def failing(log: str) -> Callable[[str], bytes | None]:
        def detail(attempt: str) -> bytes | None:
            asked.append(log)
            raise errors[log]

        return detail

    logs = ["refuses", "fails", "fails", "fails", "good", "refuses", "fails", "good"]
    absent = [
        Absent("9", f"g{n}", "push", None, None, None, NOW - 5000 + n, NOW - 5000 + n, 1, str(n + 1), 500)
        for n in range(8)
    ]
    rows = [row_of(log, one, "missing") for log, one in zip(logs, absent, strict=True)]
    details = {"good": world.detail, **{log: failing(log) for log in errors}}
    troubles = fetch(rows, details, world, lambda row: None, lambda: lambda row: False)
    assert [one.guid for one in world.recorded] == ["g4", "g7"]
    assert asked == ["refuses", *["fails"] * FAILURES_MAX] and len(troubles) == 4
    assert {row.state for row in rows if row.log != "good"} == {"open"}


def test_however_many_details_github_can_not_give_the_next_pass_fetches_the_others() -> None:
    world = World([attempt(f"g{n}", NOW - 5000 + n, n + 1) for n in range(9)])
    world.details = {f"g{n}": OutgoingFailed("too much") for n in range(FAILURES_MAX)}
    first = world.passed(FIRST)
    assert world.recorded == [] and first.state.mark == Mark(NOW - 5000, "1")
    make_pass(world, first.state, lambda: world, world, SETTINGS, NOW, lambda: None, Earlier(first.failed))  # type: ignore[arg-type]
    assert [one.guid for one in world.recorded] == [f"g{n}" for n in range(FAILURES_MAX, 9)]


def test_what_comes_first_is_fetched_first_and_what_of_it_is_left_is_told_by_its_hour() -> None:
    world = World([attempt(f"g{n}", NOW - 9000 + n * 1800, n + 1) for n in range(5)])
    for number, one in enumerate(world.attempts):
        world.attempts[number] = replace(one, repo_id=number)
    settings = dataclasses.replace(SETTINGS, is_first=lambda one: one.repo_id in (2, 4))
    found = world.passed(FIRST, settings=settings)
    assert [one.guid for one in world.recorded] == ["g2", "g4", "g0", "g1", "g3"] and found.first_open == {}
    assert found.state.mark == Mark(NOW - 1800, "5")
    world.recorded, world.held_guids = [], set()
    world.details = {"g4": GithubLimited("no more")}
    found = world.passed(FIRST, settings=settings)
    assert [one.guid for one in world.recorded] == ["g2"], "of the others none is asked for"
    assert found.first_open == {hour_text(hour_of(NOW - 1800)): 1}


def test_what_can_not_be_fetched_is_asked_for_once_and_holds_nothing_up() -> None:
    world = World([attempt(f"g{n}", NOW - 5000 + n, n + 1) for n in range(3)])
    world.gone = {"g1"}
    first = world.passed(FIRST)
    assert states(first)["g1"] == "unrecoverable" and first.state.mark == Mark(NOW - 4998, "3")
    asked = world.requests
    again = make_pass(world, first.state, lambda: world, world, SETTINGS, NOW, lambda: None, Earlier(first.failed))  # type: ignore[arg-type]
    assert world.requests - asked == 1
    assert states(again) == {"g1": "unrecoverable"} and again.rows[0].reason == first.rows[1].reason
    world.attempts.append(attempt("g1", NOW - 4000, 9))  # another attempt is asked for
    make_pass(world, first.state, lambda: world, world, SETTINGS, NOW, lambda: None, Earlier(again.failed))  # type: ignore[arg-type]
    assert world.requests - asked == 3


def test_what_is_erased_while_it_is_fetched_is_not_recorded() -> None:
    world = World([attempt(f"g{n}", NOW - 5000 + n, n + 1) for n in range(3)])
    world.before_detail = lambda: world.erased.add(NOW - 4999)
    assert states(world.passed(FIRST)) == {"g0": "fetched", "g1": "erased", "g2": "fetched"}
    assert [one.guid for one in world.recorded] == ["g0", "g2"]


def test_before_the_baseline_nothing_is_taken_and_in_another_epoch_what_was_sent_before_is_held_back() -> None:
    world = World([attempt("old", NOW - 50_100, 1), attempt("a", NOW - 9000, 2), attempt("b", NOW - 400, 3)])
    state = begun(FIRST, "another", NOW - 500)
    assert begun(FIRST, "e", NOW) is FIRST and begun(None, "e", NOW) == LogState(epoch="e", baseline=NOW)
    found = world.passed(state)
    assert states(found) == {"old": "before_us", "a": "waiting", "b": "fetched"}
    assert [(one.guid, one.hold) for one in world.recorded] == [("a", "restored"), ("b", None)]


def test_the_hook_is_kept_and_mended_by_what_was_recorded() -> None:
    world = World([attempt("a", NOW - 9000, 1)], hook=None)
    assert world.passed(replace(FIRST, hook="7")).state.hook == "9"


@pytest.mark.parametrize("mark", [None, Mark(NOW, "7")])
@pytest.mark.parametrize("held", [None, NOW])
def test_a_record_has_all_of_the_state(mark: Mark | None, held: float | None) -> None:
    state = LogState(epoch="e", baseline=NOW - 1.5, held_before=held, hook="9", mark=mark)
    assert state_of(data_of(state)) == state


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"epoch": 1, "baseline": at_text(NOW)},
        {"epoch": "e", "baseline": "soon"},
        {"epoch": "e", "baseline": 5},
    ],
)
def test_a_record_that_has_none_is_none(data: dict[str, object]) -> None:
    assert state_of(data) is None


def test_what_is_odd_in_a_record_is_left_out() -> None:
    odd = {
        "epoch": "e",
        "baseline": at_text(NOW),
        "hook": "a b",
        "mark": {"at": "x", "attempt": "1"},
        "held_before": [],
    }
    assert state_of(odd) == LogState(epoch="e", baseline=NOW)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4000), st.booleans()), max_size=60),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 40)), max_size=6),
    st.integers(1, 7),
)
def test_whatever_ends_passes_everything_is_held_once_in_the_end(
    made: list[tuple[int, int, bool]], ends: list[tuple[int, int]], size: int
) -> None:
    """Attempts come in between; a pass is cut short while it records, as by SIGKILL, and its state is lost."""
    attempts = [attempt(f"g{guid}", NOW + at, n + 1) for n, (guid, at, _) in enumerate(made)]
    arrives = {f"g{guid}" for guid, _, here in made if here}
    world = World([], size=size)
    state = LogState(epoch="e", baseline=NOW - 1, hook="9")
    moment = NOW
    for step, end_at in [*ends, (10_000, 1 << 62)]:
        moment += step
        world.attempts = [one for one in attempts if one.at <= moment]
        world.held_guids |= {one.guid for one in world.attempts if one.guid in arrives}
        world.end_at = end_at
        try:
            found = world.passed(state, moment)
        except KeyboardInterrupt:
            continue
        state = found.state
    assert world.held_guids == {one.guid for one in attempts}
    fetched = [one.guid for one in world.recorded]
    assert len(fetched) == len(set(fetched)) and not arrives & set(fetched)


def test_the_mark_never_moves_back() -> None:
    assert moved(Mark(NOW, "2"), attempt("g", NOW - 5, 1), []) == Mark(NOW, "2")
    assert moved(None, None, []) is None
