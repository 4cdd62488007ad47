"""Who may lead next: a node hands over only to one that stands by, and keeps its door open where there is none."""

from __future__ import annotations

from typing import cast

import pytest

from covenq.daemon.succession import AGAIN_S, HAND_OVER_S, SILENT_S, Succession
from covenq.errors import Refused
from covenq.intake.admission import Reason
from journal.errors import JournalUnavailable
from journal.interface import Succeeding
from journal.records import Leader, NodeSeen

BETA = Leader("beta", "10.0.0.2:8787", "")


def seen(
    name: str, *, leads: bool = False, silent_s: float = 0.5, stopped: bool = False, about: str = "{}"
) -> NodeSeen:
    return NodeSeen(name, name, "10.0.0.2:8787", "", "", silent_s, stopped, about, leads)


class Shared:
    """A journal that this node leads, and others have too."""

    def __init__(self, *others: NodeSeen, next: Leader | None = BETA) -> None:
        self.leads = True
        self.lost = False
        self.away = False
        self._nodes = [seen("alpha", leads=True), *others]
        self._next = next
        self._leader: Leader | None = Leader("alpha", "10.0.0.1:8787", "")

    def leader(self) -> Leader | None:
        return self._leader

    def lead(self) -> bool:
        self.leads, self._leader = True, Leader("alpha", "10.0.0.1:8787", "")
        return True

    def nodes(self, *, ask: bool = False) -> list[NodeSeen]:
        if self.away:
            raise JournalUnavailable("it is away")
        return self._nodes

    def step_down(self) -> None:
        self.leads, self._leader = False, self._next


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def of(shared: Shared | None, clock: Clock | None = None) -> Succession:
    clock = clock or Clock()
    return Succession(cast("Succeeding | None", shared), monotonic=clock, sleep=clock.sleep)


def test_a_node_that_hands_over_takes_deliveries_in_until_it_steps_down() -> None:
    shared = Shared(seen("beta"))
    succession = of(shared)
    assert succession.is_succeeded and succession.standby() is None and shared.leads
    assert succession.hand_over() == BETA
    assert succession.standby() == Reason("standby", "This node stands by: beta leads.")


@pytest.mark.parametrize(
    "other",
    [
        seen("beta", stopped=True),
        seen("beta", silent_s=SILENT_S + 1),
        pytest.param(seen("beta", about=""), id="one that still starts"),
    ],
)
def test_a_door_stays_open_where_no_other_node_would_open_its_own(other: NodeSeen) -> None:
    shared = Shared(other)
    succession = of(shared)
    assert not succession.is_succeeded
    with pytest.raises(Refused, match="no other node stands by"):
        succession.require_successor()
    assert succession.hand_over() is None
    assert shared.leads and succession.works


@pytest.mark.parametrize("about", ["", "[]", '{"api": 1}', "[" * 100_000])
def test_whatever_the_row_of_the_leader_says_its_api_is_text_or_not_known(about: str) -> None:
    shared = Shared()
    shared.nodes = lambda *, ask=False: [seen("beta", leads=True, about=about)]  # type: ignore[method-assign]
    assert of(shared).leader_api() is None


def test_a_database_that_is_away_lets_no_other_node_lead() -> None:
    shared = Shared(seen("beta"))
    shared.away = True
    succession = of(shared)
    assert not succession.is_succeeded
    with pytest.raises(JournalUnavailable):
        succession.require_successor()


def test_a_lead_that_nobody_takes_is_waited_for_no_longer_than_said() -> None:
    clock = Clock()
    assert of(Shared(seen("beta"), next=None), clock).hand_over() is None
    assert HAND_OVER_S <= clock.now < HAND_OVER_S + 1


def test_what_the_last_leader_left_is_taken_up_when_the_journal_is_back() -> None:
    """A node that has the lead, and loses the database before it has begun to work, neither ends nor stands by for ever."""
    clock, shared, begun = Clock(), Shared(), list[str]()
    shared.leads, shared._leader = False, None
    succession = of(shared, clock)

    def take_up() -> None:
        begun.append("again")
        if len(begun) < 3:
            raise JournalUnavailable("it is away")

    succession.wait(take_up, lambda: begun.append("on"))
    for _ in range(5):
        succession.check()
        assert succession.works == (begun[-1] == "on")
        clock.now += AGAIN_S
    assert begun == ["again", "again", "again", "on"]


def test_a_node_that_lost_the_lead_leaves_deliveries_to_the_one_that_took_it() -> None:
    """Which is the only other: it doesn't stand by."""
    shared = Shared(seen("beta", leads=True))
    succession = of(shared)
    assert succession.accepts and not succession.is_succeeded
    shared.lost = True
    assert succession.is_succeeded and not succession.accepts
    succession.retire()
    assert succession.hand_over() == BETA


def test_who_may_not_hand_over_is_told_who_can() -> None:
    with pytest.raises(Refused, match="the journal is in files"):
        of(None).require_successor()
    shared = Shared(seen("beta"))
    succession = of(shared)
    succession.require_successor()
    succession.hand_over()
    with pytest.raises(Refused, match=r"this node stands by: beta leads, at 10\.0\.0\.2:8787") as refused:
        succession.require_successor()
    assert "`covenq handover`" in refused.value.hint and "--url" in refused.value.hint
