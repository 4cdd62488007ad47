"""Redeliveries by values: what is asked for, when it isn't, and that nothing is asked for twice wherever a pass ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.errors import CovenqError, GithubLimited, GithubRefused, OutgoingFailed
from covenq.github.delivery_log import Attempt, LogPage
from covenq.model import DeliveryId
from covenq.reconcile.compare import Absent, Came
from covenq.reconcile.fetch import Detail, Outcome
from covenq.reconcile.log_pass import PassResult, PassSettings, make_pass
from covenq.reconcile.log_state import AskedFor, LogState, data_of, state_of
from covenq.reconcile.logs import Target
from covenq.reconcile.redeliver import FRESH_S, LATER, OPEN_MAX, PER_PASS, Redelivery

NOW = 1_800_000_000.0
PATIENCE_S = 600.0
DOOR = "https://covenq.example.org/webhook"
FIRST = LogState(epoch="e", baseline=NOW - 500_000, hook="9")


@dataclass
class World:
    """GitHub's log, the journal and its records: the log, the holdings and the recorder of passes."""

    attempts: list[Attempt] = field(default_factory=list)
    ours: dict[str, Came] = field(default_factory=dict)
    now: float = NOW
    state: LogState = FIRST
    url: str | None = DOOR
    active: bool = True
    address: str | None = DOOR
    answers: dict[str, CovenqError | str] = field(default_factory=dict)
    """By the GUID, what is answered to a wish for its redelivery; else it is taken."""
    supersedes: Callable[[Absent], bool] = lambda one: False
    too_old: Callable[[Absent], bool] = lambda one: False
    end_at_post: int = 1 << 62
    meanwhile: list[LogState] = field(default_factory=list)
    """States that another process records just before this one does."""
    posts: list[str] = field(default_factory=list)
    recorded_at_post: list[bool] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    away: bool = False
    """No detail can be had."""
    grace_s: float = 0.0
    redelivers: bool = True
    targets: int = 0
    answered_seq: int | None = None
    """What a covenq answered to the newest that was accepted, as far as GitHub shows it."""
    name: str = "app x"
    hook: str | None = "9"
    app_id: int | None = None
    requests: int = 0

    def send(self, guid: str, age: float, status: int = 500, *, again: bool = False) -> None:
        at = self.now - age
        self.attempts.append(Attempt(str(len(self.attempts) + 1), guid, at, again, status, "push"))
        if status == 202:
            self.ours.setdefault(guid, Came("http", at))

    def page(self, cursor: str | None) -> LogPage:
        return LogPage(tuple(sorted(self.attempts, key=lambda one: one.order, reverse=True)))

    def detail(self, attempt: str) -> bytes | None:
        if self.away:
            raise OutgoingFailed("away")
        return b"{}"

    def headers(self, attempt: object) -> list[list[str]]:
        raise AssertionError("the hook is known")

    def held(self, guids: Sequence[str]) -> dict[DeliveryId, Came]:
        return {DeliveryId("9", one): self.ours[one] for one in guids if one in self.ours}

    def is_erased(self, repo_id: int | None, installation: int | None, at: float) -> bool:
        return False

    def record(self, details: Sequence[Detail]) -> list[Outcome]:
        for one in details:
            assert one.guid not in self.ours
            self.ours[one.guid] = Came("import", self.now)
            self.fetched.append(one.guid)
        return [Outcome("fetched" if one.hold is None else "waiting", hook="9") for one in details]

    def target(self) -> Target:
        self.targets += 1
        return Target(self.url, self.active)

    def answered(self, attempt: str) -> int | None:
        return self.answered_seq

    def ask_again(self, attempt: str) -> str | None:
        (guid,) = {one.guid for one in self.attempts if one.id == attempt}
        if len(self.posts) >= self.end_at_post:
            raise KeyboardInterrupt
        self.posts.append(guid)
        self.recorded_at_post.append(guid in {one.guid for one in self.state.asked})
        answer = self.answers.get(guid)
        if isinstance(answer, CovenqError):
            raise answer
        return answer

    def write(self, before: LogState, after: LogState) -> LogState:
        if self.meanwhile:
            self.state = self.meanwhile.pop(0)
        if data_of(self.state) == data_of(before):
            stored = state_of(data_of(after))
            assert stored is not None
            self.state = stored
        return self.state

    def passed(self) -> PassResult:
        redelivery = Redelivery(self.address, PATIENCE_S, self.supersedes, self.too_old, self.write, lambda: self.now)
        settings = PassSettings(900.0, self.grace_s, lambda one: True, redelivery if self.redelivers else None)
        found = make_pass(self, self.state, lambda: self, self, settings, self.now, lambda: None)  # type: ignore[arg-type]
        self.write(found.asked.recorded, found.state)
        return found

    def states(self) -> dict[str, str]:
        return {row.guid: row.state for row in self.passed().rows}


@pytest.fixture
def world() -> World:
    """One that took the newest that GitHub lists as accepted, and missed two."""
    made = World()
    made.send("ours", 300, 202)
    made.send("a", 200)
    made.send("b", 100, 0)
    return made


# ---- asked for, waited for, fetched


def test_what_is_missing_is_asked_for_once_and_held_when_it_comes(world: World) -> None:
    found = world.passed()
    assert {row.guid: row.state for row in found.rows} == {"a": "open", "b": "open"}
    assert all("redelivery asked for at 2027-" in str(row.reason) for row in found.rows)
    assert (world.posts, world.recorded_at_post, world.fetched) == (["a", "b"], [True, True], [])
    assert found.asked.next_at == NOW + PATIENCE_S and (
        found.asked.posted,
        found.asked.waiting,
        found.asked.why_not,
    ) == (2, 2, None)
    assert found.state.mark is not None and found.state.mark.at <= NOW - 200, "it doesn't pass what is waited for"
    world.send("a", -1, 202, again=True)
    world.now += 60
    assert world.states() == {"b": "open"} and [one.guid for one in world.state.asked] == ["b"]
    world.send("b", 0, 202, again=True)
    assert world.states() == {} and world.state.asked == () and world.posts == ["a", "b"] and world.fetched == []


def test_what_does_not_come_is_fetched_when_the_patience_ends(world: World) -> None:
    world.passed()
    world.now += PATIENCE_S - 1
    assert world.states() == {"a": "open", "b": "open"}
    world.now += 1
    assert world.states() == {"a": "fetched", "b": "fetched"} and world.state.asked == ()
    assert world.passed().asked.next_at is None and world.posts == ["a", "b"]


def test_with_the_mode_turned_off_all_is_fetched_and_nothing_remembered(world: World) -> None:
    world.passed()
    world.redelivers = False
    world.send("a", 0, 202, again=True)
    assert world.states() == {"b": "fetched"} and world.state.asked == ()


@pytest.mark.parametrize("grace_s", [0.0, 45.0])
def test_what_failed_again_is_fetched_without_waiting_any_longer(world: World, grace_s: float) -> None:
    """It is not on its way for having been tried again."""
    world.grace_s = grace_s
    world.passed()
    world.now += 60
    world.send("a", 30, 502, again=True)
    assert world.states() == {"a": "fetched", "b": "open"} and world.posts == ["a", "b"]


def test_what_waits_could_not_fail_to_be_fetched(world: World) -> None:
    assert world.passed().failed == {}
    world.now, world.away = world.now + PATIENCE_S, True
    assert {row.guid for row in world.passed().failed.values()} == {"a", "b"}


@given(st.integers(0, 5), st.integers(0, 1000))
def test_wherever_a_pass_ends_each_is_asked_for_at_most_once_and_ends_held(end_at: int, wait: int) -> None:
    world = World()
    world.send("ours", 300, 202)
    for n in range(5):
        world.send(f"g{n}", 200 - n)
    world.end_at_post = end_at
    try:
        world.passed()
    except KeyboardInterrupt:
        pass
    world.end_at_post = 1 << 62
    assert all(world.recorded_at_post)
    world.now += wait
    world.passed()
    world.now += PATIENCE_S
    world.passed()
    assert len(world.posts) == len(set(world.posts)) == min(end_at, 5)
    assert sorted(world.fetched) == [f"g{n}" for n in range(5)]


def test_a_pass_asks_for_few_and_the_next_one_for_more_at_once() -> None:
    world = World()
    world.send("ours", 5000, 202)
    for n in range(OPEN_MAX + 10):
        world.send(f"g{n}", 4000 - n)
    found = world.passed()
    assert len(world.posts) == PER_PASS and found.asked.next_at == NOW
    assert sum(row.reason == LATER for row in found.rows) == OPEN_MAX + 10 - PER_PASS
    for _ in range(10):
        found = world.passed()
    assert len(world.posts) == len(set(world.posts)) == OPEN_MAX == len(world.state.asked) and world.fetched == []
    assert found.asked.next_at == NOW + PATIENCE_S
    world.now += PATIENCE_S
    world.passed()
    assert len(world.fetched) == OPEN_MAX
    assert len(data_of(world.state)["asked"]) <= OPEN_MAX  # type: ignore[arg-type]


# ---- never asked for


def elsewhere(world: World) -> None:
    world.url = "https://other.example.org/webhook"


def nowhere(world: World) -> None:
    world.url = None


def unset(world: World) -> None:
    world.address = None


def inactive(world: World) -> None:
    world.active = False


def taken_by_another(world: World) -> None:
    """A staging copy with the production key and address, or one restored from its copy."""
    world.send("theirs", 50, 202)
    del world.ours["theirs"]


def taken_by_another_and_fetched(world: World) -> None:
    world.send("theirs", 50, 202)
    world.ours["theirs"] = Came("import", NOW)


def sent_again_by_hand(world: World) -> None:
    """To another, which had it before a copy was made: the newest accepted attempt is of one that the copy holds."""
    taken_by_another(world)
    world.send("ours", 10, 202, again=True)


def sent_by_send(world: World) -> None:
    """By an operator of this one, who has the secret, and not by GitHub."""
    world.ours["ours"] = Came("send", NOW - 300)


def forwarded(world: World) -> None:
    """By another covenq, to which GitHub sends it."""
    world.answered_seq = 77


def only_sent_again_to_another(world: World) -> None:
    """It takes nothing else for now."""
    world.send("theirs", 240)
    world.send("theirs", 10, 202, again=True)
    del world.ours["theirs"]


def restored_since(world: World) -> None:
    """Nobody takes anything: the newest that was accepted is in the copy, too."""
    world.state = replace(world.state, held_before=NOW - 250)


def none_accepted(world: World) -> None:
    world.attempts = [one for one in world.attempts if one.guid != "ours"]


def only_redeliveries_accepted(world: World) -> None:
    none_accepted(world)
    world.send("ours", 10, 202, again=True)


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (elsewhere, "delivers to https://other.example.org/webhook"),
        (nowhere, "delivers nowhere"),
        (unset, "public_url isn't set"),
        (inactive, "not active"),
        (taken_by_another, "something else takes what is sent"),
        (taken_by_another_and_fetched, "didn't come by webhook"),
        (sent_by_send, "didn't come by webhook"),
        (forwarded, "another covenq answered"),
        (sent_again_by_hand, "something else takes what is sent"),
        (only_sent_again_to_another, "something else takes what is sent"),
        (restored_since, "since this journal was restored"),
        (none_accepted, "lists none as accepted"),
        (only_redeliveries_accepted, "lists none as accepted"),
    ],
)
def test_where_a_redelivery_may_go_elsewhere_none_is_asked_for_and_all_is_fetched(
    world: World, why: Callable[[World], None], words: str
) -> None:
    why(world)
    found = world.passed()
    assert world.posts == [] and world.state.asked == () and {"a", "b"} <= set(world.fetched)
    assert words in str(found.asked.why_not)


def test_the_addresses_are_compared_but_for_case_and_port(world: World) -> None:
    world.url = "HTTPS://Covenq.Example.org:443/webhook"
    world.passed()
    assert world.posts == ["a", "b"]
    for url in (
        f"{DOOR}/",
        f"{DOOR}?x=1",
        "https://covenq.example.org/Webhook",
        "https://covenq.example.org:8443/webhook",
    ):
        other = World([*world.attempts], {"ours": world.ours["ours"]}, url=url)
        other.passed()
        assert other.posts == [], url


def accepted_before(world: World) -> None:
    """Somebody took it, whoever that was."""
    world.attempts = [replace(one, status_code=200) if one.guid == "a" else one for one in world.attempts]
    world.send("a", 150, 500, again=True)
    world.send("late", 120, 202)


def not_seen_from_its_first(world: World) -> None:
    """It may have been accepted before what a pass looks at."""
    world.attempts = [replace(one, redelivery=True) if one.guid == "a" else one for one in world.attempts]


def superseding(world: World) -> None:
    world.supersedes = lambda one: one.guid == "a"


def too_old(world: World) -> None:
    world.too_old = lambda one: one.guid == "a"


def sent_before_the_restore(world: World) -> None:
    world.state = replace(world.state, held_before=NOW - 150)
    world.send("since", 140, 202)


def older_than_a_day(world: World) -> None:
    world.attempts = [replace(one, at=one.at - FRESH_S) if one.guid == "a" else one for one in world.attempts]


@pytest.mark.parametrize(
    "why",
    [accepted_before, not_seen_from_its_first, superseding, too_old, sent_before_the_restore, older_than_a_day],
    ids=lambda one: one.__name__,
)
def test_one_that_must_not_be_asked_for_is_fetched_and_the_other_asked_for(
    world: World, why: Callable[[World], None]
) -> None:
    why(world)
    world.passed()
    assert (world.posts, world.fetched) == (["b"], ["a"])


def test_nothing_is_asked_of_github_where_nothing_may_be_asked_for(world: World) -> None:
    world.supersedes = lambda one: True
    world.passed()
    assert world.targets == 0 and world.fetched == ["a", "b"]


# ---- GitHub says no, or nothing


def test_a_wish_that_github_does_not_take_is_told_and_that_one_fetched(world: World) -> None:
    world.answers["a"] = "GitHub makes no redelivery of it (422)"
    found = world.passed()
    assert {row.guid: row.state for row in found.rows} == {"a": "fetched", "b": "open"}
    assert found.asked.refused == ["GitHub makes no redelivery of it (422)"] and found.asked.why_not is None


@pytest.mark.parametrize(
    "error", [GithubLimited("no more"), GithubRefused("not allowed"), OutgoingFailed("x", sent=False)]
)
def test_a_limit_ends_the_asking_and_all_is_fetched(world: World, error: CovenqError) -> None:
    world.answers["a"] = error
    found = world.passed()
    assert world.posts == ["a"] and world.fetched == ["a", "b"] and found.asked.why_not == str(error)
    assert world.state.asked == ()


def test_one_that_was_not_taken_and_could_not_be_fetched_is_fetched_by_the_next_pass(world: World) -> None:
    world.answers["a"], world.away = GithubLimited("no more"), True
    assert world.states() == {"a": "open", "b": "open"}
    world.away = False
    assert world.states() == {"a": "fetched", "b": "fetched"} and world.posts == ["a"]


def test_where_nothing_may_be_asked_for_nothing_waits_for_its_turn(world: World) -> None:
    for n in range(PER_PASS):
        world.send(f"g{n}", 90 - n / 10)
    world.active = False
    world.passed()
    assert len(world.fetched) == PER_PASS + 2


def test_what_is_recorded_by_others_again_and_again_ends_the_asking(world: World) -> None:
    theirs = [AskedFor(f"x{n}", "2", NOW - 200, NOW) for n in range(9)]
    world.meanwhile = [replace(world.state, asked=(one,)) for one in theirs]
    assert "another process" in str(world.passed().asked.why_not)
    assert world.posts == [] and world.fetched == ["a", "b"]


def test_a_wish_that_may_have_been_taken_is_waited_for(world: World) -> None:
    world.answers["a"] = OutgoingFailed("broken off")
    assert world.states() == {"a": "open", "b": "open"}
    world.passed()
    assert world.posts == ["a", "b"] and world.fetched == []


def test_what_another_process_asks_for_meanwhile_is_not_asked_for_again(world: World) -> None:
    theirs = AskedFor("a", "2", NOW - 200, NOW)
    world.meanwhile = [replace(world.state, asked=(theirs,))]
    assert world.states() == {"a": "open", "b": "open"}
    assert world.posts == ["b"] and {one.guid for one in world.state.asked} == {"a", "b"}


# ---- the record


def test_what_a_command_asked_for_outside_of_a_pass_is_remembered_while_github_may_list_it(world: World) -> None:
    theirs = AskedFor("old", "1", FIRST.baseline - 50_000, NOW)
    world.state = replace(world.state, asked=(theirs,))
    world.passed()
    assert theirs in world.state.asked
    world.now += 7 * 86_400 - 550_000 + 1
    world.passed()
    assert theirs not in world.state.asked


def test_a_state_is_what_its_record_says_and_an_older_record_has_none_asked_for() -> None:
    state = replace(FIRST, asked=(AskedFor("a", "1", NOW - 5, NOW), AskedFor("b", "2", NOW - 4, NOW, True)))
    assert state_of(data_of(state)) == state
    older = {name: value for name, value in data_of(state).items() if name != "asked"}
    assert state_of(older) == replace(state, asked=())
    odd = {
        **older,
        "asked": [5, {}, {"guid": "a b"}, {**data_of(state)["asked"][0], "at": "soon"}, data_of(state)["asked"][1]],
    }  # type: ignore[index]
    assert state_of(odd) == replace(state, asked=state.asked[1:])
    assert state_of({**older, "asked": "all"}) == replace(state, asked=())
