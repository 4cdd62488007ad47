"""The ledger by values: its rows are what the log listed and what became of it, whatever happens between two passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.errors import CovenqError, GithubLimited, OutgoingFailed
from covenq.github.delivery_log import Attempt, LogPage
from covenq.model import DeliveryId, at_text
from covenq.model.ledger import FORGOTTEN, OTHER_REASONS, Ledger, NotHeld, Tally, data_of, ledger_of
from covenq.reconcile.compare import Came
from covenq.reconcile.fetch import FAILURES_MAX, Detail, Outcome
from covenq.reconcile.ledger import TRACKED_MAX
from covenq.reconcile.log_pass import Earlier, PassResult, PassSettings, make_pass
from covenq.reconcile.log_state import LogState

HOUR = 3600
START = 500_000 * HOUR
OVERLAP = 900.0
SETTINGS = PassSettings(OVERLAP, 300.0, lambda one: one.repo_id != 6)
DAY = 86_400

Rows = dict[int, dict[str, int]]


@dataclass
class Journal:
    """GitHub's log and ours: the oracle and what is asked. The ledger and the state survive, but for a pass that is killed."""

    attempts: list[Attempt] = field(default_factory=list)
    listed_from: dict[str, float] = field(default_factory=dict)
    """When an attempt, by its id, is listed at last; else at once."""
    now: float = START
    ours: dict[str, Came] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    limited: bool = False
    erased: set[int] = field(default_factory=set)
    kill_after: int = 1 << 62
    name: str = "app x"
    hook: str | None = "9"
    app_id: int | None = None
    requests: int = 0
    settings: PassSettings = SETTINGS
    state: LogState = field(default_factory=lambda: LogState(epoch="e", baseline=START, hook="9"))
    ledger: Ledger | None = None
    rows: Rows = field(default_factory=dict)
    """What is folded from the records: the newest of each hour."""
    records: int = 0

    def send(self, guid: str, at: float, *, again: bool = False, late: float = 0.0, repo_id: int | None = None) -> None:
        one = Attempt(str(len(self.attempts) + 1), guid, at, again, 500, "push", None, None, repo_id)
        self.attempts.append(one)
        self.listed_from[one.id] = at + late

    def take(self, guid: str) -> None:
        """By webhook, when it was first sent."""
        self.ours[guid] = Came("http", min(one.at for one in self.attempts if one.guid == guid))

    @property
    def listed(self) -> list[Attempt]:
        found = [one for one in self.attempts if self.listed_from[one.id] <= self.now and one.at > self.now - 3 * DAY]
        return sorted(found, key=lambda one: one.order, reverse=True)

    def page(self, cursor: str | None) -> LogPage:
        start = int(cursor or 0)
        listed = self.listed
        return LogPage(tuple(listed[start : start + 100]), str(start + 100) if len(listed) > start + 100 else None)

    def detail(self, attempt: str) -> bytes | None:
        (guid,) = {one.guid for one in self.attempts if one.id == attempt}
        if self.limited:
            raise GithubLimited("half is used")
        if guid in self.away:
            raise OutgoingFailed("too much")
        return None if guid in self.gone else b"{}"

    def headers(self, attempt: object) -> list[list[str]]:
        raise AssertionError("the hook is known")

    def held(self, guids: Sequence[str]) -> dict[DeliveryId, Came]:
        return {DeliveryId("9", one): self.ours[one] for one in guids if one in self.ours}

    def is_erased(self, repo_id: int | None, installation: int | None, at: float) -> bool:
        return repo_id in self.erased

    def record(self, details: Sequence[Detail]) -> list[Outcome]:
        for one in details:
            if self.kill_after <= 0:
                raise KeyboardInterrupt
            self.kill_after -= 1
            assert one.guid not in self.ours
            self.ours[one.guid] = Came("import", self.now)
        return [Outcome("fetched", hook="9") for _ in details]

    def make_pass(self, *, killed_before: str | None = None) -> PassResult | None:
        """One pass, as the daemon makes it: the ledger is recorded before the state. `killed_before` which of them it ends."""
        try:
            found = make_pass(
                self, self.state, lambda: self, self, self.settings, self.now, lambda: None, Earlier({}, self.ledger)
            )  # type: ignore[arg-type]
        except KeyboardInterrupt:
            return None
        if found.summary.error is not None or killed_before == "ledger":
            return found
        if self.ledger is None or found.ledger != self.ledger.pruned():
            stored = ledger_of(data_of(found.ledger))
            assert stored == found.ledger
            self.ledger = stored
            self.records += 1
            self.rows |= {hour: by_state(tally) for hour, tally in found.ledger.rows().items()}
        if killed_before != "state":
            self.state = found.state
        return found

    def stands(self, guid: str) -> str:
        """How a delivery stands by what is known outside of the product."""
        mine = [one for one in self.attempts if one.guid == guid and self.listed_from[one.id] <= self.now]
        if guid in self.ours:
            came = self.ours[guid]
            again = any(one.at == came.at and one.redelivery for one in self.attempts if one.guid == guid)
            return "fetched" if came.fetched else "redelivered" if again else "held"
        if max(one.at for one in mine) > self.now - SETTINGS.grace_s:
            return "on_its_way"
        if mine[0].repo_id in self.erased:
            return "erased"
        if min(one.at for one in mine) < START:
            return "before_us"
        if mine[0].repo_id == 6:
            return "not_wanted"
        return "unrecoverable" if guid in self.gone else "open"

    def truth(self) -> Rows:
        """Of each hour what was listed, from where the first pass began."""
        found: dict[int, Counter[str]] = {}
        for one in self.attempts:
            if not one.redelivery and one.at >= START - OVERLAP and self.listed_from[one.id] <= self.now:
                found.setdefault(int(one.at // HOUR), Counter())[self.stands(one.guid)] += 1
        return {hour: dict(counts) for hour, counts in found.items()}


def by_state(tally: Tally) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (state, _), number in tally.items():
        counts[state] += number
    return dict(counts)


MOMENTS = st.integers(-1200, 4 * HOUR)
DELIVERIES = st.lists(
    st.tuples(
        MOMENTS,
        st.integers(0, 800),  # late in the list
        st.sampled_from(["comes", "comes again", "missed", "gone", "erased", "away", "unwanted"]),
        st.lists(st.integers(120, 2 * HOUR), max_size=2),  # redelivered after
    ),
    max_size=40,
)
STEPS = st.lists(
    st.tuples(
        st.integers(1, 2500),
        st.sampled_from(["whole", "whole", "killed", "before ledger", "before state", "limited"]),
        st.integers(0, 4),
    ),
    max_size=14,
)


@given(DELIVERIES, STEPS)
def test_the_rows_are_what_the_log_listed_and_what_became_of_it(
    made: list[tuple[int, int, str, list[int]]], steps: list[tuple[int, str, int]]
) -> None:
    """Attempts are listed late, passes are killed at any point, details fail for a while, and what came is held."""
    world = Journal(erased={7})
    arrives: dict[str, float] = {}
    for n, (at, late, kind, again) in enumerate(made):
        guid, repo = f"g{n}", {"erased": 7, "unwanted": 6}.get(kind, 8)
        world.send(guid, START + at, late=late, repo_id=repo)
        for after in again if at >= 0 else ():  # what was sent before us and is sent again by hand is taken
            world.send(guid, START + at + after, again=True, late=late / 2, repo_id=repo)
        if kind == "comes":
            arrives[guid] = START + at
        if kind == "comes again" and again and at >= 0:
            arrives[guid] = START + at + again[0]
        if kind == "gone":
            world.gone.add(guid)
        if kind == "away" and len(world.away) < FAILURES_MAX - 1:  # more would end the fetching
            world.away.add(guid)
    for step, how, kill_after in [*steps, (2500, "whole", 0), (8 * HOUR, "well", 0), (1, "well", 0)]:
        world.now += step
        world.ours |= {
            guid: Came("http", at) for guid, at in arrives.items() if at <= world.now and guid not in world.ours
        }
        world.limited = how == "limited"
        world.kill_after = kill_after if how == "killed" else 1 << 62
        if how == "well":
            world.away.clear()
        found = world.make_pass(killed_before=how.removeprefix("before ") if how.startswith("before") else None)
        if found is not None and how in ("whole", "well"):
            assert world.rows == world.truth()
    records = world.records
    for _ in range(3):
        world.make_pass()
    assert world.records == records, "nothing changed, and nothing is recorded"


def test_a_log_in_which_nothing_happens_records_nothing_after_the_first_pass() -> None:
    world = Journal()
    for _ in range(20):
        world.make_pass()
        world.now += 300
    assert world.records == 1
    world.send("a", world.now)
    world.take("a")
    for _ in range(20):
        world.make_pass()
        world.now += 300
    assert world.records == 3, "one that it came, and one that it counts"


def test_what_github_forgets_before_it_is_fetched_stays_in_its_hour() -> None:
    world = Journal(away={"a", "b"})
    for guid, at in (("a", 100), ("b", 200), ("c", 300)):
        world.send(guid, START + at)
    world.now = START + 2 * HOUR
    world.make_pass()
    assert world.rows == {500_000: {"open": 2, "fetched": 1}}
    world.away = {"a"}
    world.now += 3 * DAY
    world.send("d", world.now - HOUR)
    world.make_pass()
    assert world.rows[500_000] == {"unrecoverable": 2, "fetched": 1}
    assert world.ledger is not None and world.ledger.settled[500_000]["unrecoverable", FORGOTTEN] == 2


def test_what_stays_open_is_counted_once_while_others_come_and_is_forgotten_in_its_hour() -> None:
    world = Journal(away={"a"})
    world.send("a", START + 100)
    for n in range(40):
        world.send(f"g{n}", START + 600 * n)
        world.take(f"g{n}")
    for hours in (1, 3, 7, 7):
        world.now = START + hours * HOUR
        world.make_pass()
        assert world.rows == world.truth()
    assert world.ledger is not None and [one.guid for one in world.ledger.tracked] == ["a"]
    assert world.ledger.boundary > START + 6 * HOUR, "it doesn't hold up what is settled"
    world.now += 3 * DAY
    world.make_pass()
    assert world.rows[500_000] == {"held": 6, "unrecoverable": 1}
    assert world.ledger.tracked == () and sum(sum(row.values()) for row in world.rows.values()) == 41


def test_a_shorter_overlap_loses_nothing_that_was_not_settled_yet() -> None:
    world = Journal()
    for n in range(20):
        world.send(f"g{n}", START + 100 * n)
        world.take(f"g{n}")
    world.now = START + HOUR
    world.make_pass()
    world.send("late", START + 1200)
    world.take("late")
    world.settings = PassSettings(60.0, 300.0, lambda one: True)
    world.make_pass()
    assert world.rows == world.truth()
    world.make_pass()
    assert world.rows == world.truth()


def test_a_daemon_that_was_away_for_longer_than_github_keeps_its_log_keeps_what_was_counted() -> None:
    world = Journal()
    for n in range(5):
        world.send(f"g{n}", START + 60 * n)
        world.take(f"g{n}")
    world.send("late", START + 290)
    world.now = START + 500
    world.make_pass()
    assert world.rows == {500_000: {"held": 5, "on_its_way": 1}}
    world.now += 10 * DAY
    world.send("new", world.now - 400)
    world.make_pass()
    assert world.rows[500_000] == {"held": 5, "unrecoverable": 1}
    assert sum(sum(row.values()) for row in world.rows.values()) == 7


def test_more_open_deliveries_than_are_kept_one_by_one_are_counted_all_the_same() -> None:
    world = Journal(limited=True)
    for n in range(TRACKED_MAX * 3):
        world.send(f"g{n}", START + 10 * n)
    world.now = START + 6 * HOUR
    for _ in range(3):
        world.make_pass()
        assert world.rows == world.truth()
        world.now += HOUR
    assert world.ledger is not None and len(world.ledger.tracked) <= TRACKED_MAX >= len(world.ledger.absent)
    world.limited = False
    world.make_pass()
    assert world.rows == world.truth() and {state for row in world.rows.values() for state in row} == {"fetched"}


def test_what_could_not_be_recovered_and_came_after_all_was_redelivered() -> None:
    world = Journal(gone={"a"})
    world.send("a", START + 10)
    world.send("b", START + 2 * HOUR)
    world.now = START + 3 * HOUR
    world.make_pass()
    assert world.rows[500_000] == {"unrecoverable": 1}
    world.ours["a"] = Came("http", world.now)
    world.now += 5 * HOUR
    world.make_pass()
    assert world.rows[500_000] == {"redelivered": 1}


def test_a_walk_that_does_not_reach_its_end_changes_no_row() -> None:
    world = Journal()
    world.send("a", START + 10)
    world.now = START + HOUR
    found = make_pass(_Away(world), world.state, lambda: world, world, SETTINGS, world.now, lambda: None)  # type: ignore[arg-type]
    assert found.summary.error == "away" and found.ledger.rows() == {}


class _Away:
    name, hook, requests = "app x", "9", 1

    def __init__(self, world: Journal) -> None:
        self.world = world

    def page(self, cursor: str | None) -> LogPage:
        raise _away()


def _away() -> CovenqError:
    return OutgoingFailed("away")


def test_the_reasons_of_an_hour_are_bounded() -> None:
    singles = tuple(NotHeld(f"g{n}", "push", START + n, "refused", f"reason {n}") for n in range(30))
    (tally,) = Ledger(START + HOUR, tracked=singles).rows().values()
    assert tally["refused", OTHER_REASONS] == 22 and tally.total() == 30


ODD = NotHeld("g", "push", float(START), "open")


@pytest.mark.parametrize("data", [{}, {"boundary": 5}, {"boundary": "soon"}])
def test_a_record_that_has_none_is_none(data: dict[str, object]) -> None:
    assert ledger_of(data) is None


@pytest.mark.parametrize(
    "single",
    [
        {},
        5,
        {"guid": "a b", "event": "push", "first_at": at_text(START), "state": "open"},
        {"guid": "g", "event": "push", "first_at": at_text(START), "state": "lost"},
        {"guid": "g", "event": "push", "first_at": "x", "state": "open"},
    ],
)
def test_what_is_odd_in_a_record_is_left_out(single: object) -> None:
    good = data_of(Ledger(float(START), tracked=(ODD,)))
    odd = {
        **good,
        "hook": "a b",
        "tracked": [single, *good["tracked"]],
        "absent": 7,
        "window": [{"hour": "x"}, {"hour": at_text(START), "counts": [["open", None, -5], ["x", None, 1], 4]}],
    }
    found = ledger_of(odd)
    assert found is not None and found.rows() == Ledger(float(START), tracked=(ODD,)).rows()
    assert replace(found, window={}) == Ledger(float(START), tracked=(ODD,))
