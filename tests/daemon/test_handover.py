"""A handover is refused before anything is changed, and otherwise waits for what becomes of it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import cast

import pytest

from covenq.config.live import Live
from covenq.daemon.handover import Handover
from covenq.daemon.restart import Restart
from covenq.daemon.succession import Succession
from covenq.errors import CovenqError, Refused
from covenq.operate.answers import HandedOver
from journal.records import Leader

BETA = Leader("beta", "10.0.0.2:8787", "")


class Led:
    """A succession in which another node stands by; `next` leads after a handover."""

    def __init__(self, next: Leader | None = BETA) -> None:
        self._next = next

    def require_successor(self) -> None: ...

    def hand_over(self) -> Leader | None:
        return self._next


class Asked:
    """A handover, and who has asked for it."""

    def __init__(self, led: Led, live: Live) -> None:
        self.stops = threading.Event()
        self.handover = Handover(
            cast("Succession", led), live, self.stops.set, lambda: Restart([]), monotonic=lambda: 1.0
        )
        self.answers: list[HandedOver | CovenqError] = []
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        try:
            self.answers.append(self.handover.ask("cli:mona"))
        except CovenqError as error:
            self.answers.append(error)

    def begin(self) -> None:
        self._thread.start()
        assert self.stops.wait(30)

    def end(self) -> HandedOver | CovenqError:
        self.handover.end()
        self._thread.join(30)
        return self.answers[0]


@pytest.fixture
def live() -> Live:
    from covenq.config import load

    return Live(load.build({}, None, {}), ())


def test_who_asks_is_told_who_leads_once_another_node_does(live: Live) -> None:
    asked = Asked(Led(), live)
    asked.begin()
    assert asked.handover.close() and asked.handover.restart is not None
    asked.handover.carry_out()
    assert asked.end() == HandedOver("beta", "10.0.0.2:8787", 0)


def test_who_asks_is_told_where_no_other_node_has_taken_the_lead(live: Live) -> None:
    asked = Asked(Led(None), live)
    asked.begin()
    asked.handover.carry_out()
    assert "no other node has taken the lead" in str(asked.end())


def test_a_second_one_and_one_of_a_node_that_stops_are_refused(live: Live) -> None:
    asked = Asked(Led(), live)
    asked.begin()
    with pytest.raises(Refused, match="already"):
        asked.handover.ask(None)
    asked.end()
    stopping = Asked(Led(), live)
    assert not stopping.handover.close()
    with pytest.raises(Refused, match="this node stops"):
        stopping.handover.ask(None)
    assert not stopping.stops.is_set() and stopping.handover.restart is None


def test_a_configuration_that_could_not_be_started_with_is_a_refusal(live: Live) -> None:
    live._last = replace(live.last, ok=False, error="covenq.toml: no such key", hint="Mend it.")
    asked = Asked(Led(), live)
    with pytest.raises(Refused, match=r"could not start again.*no such key") as refused:
        asked.handover.ask(None)
    assert refused.value.hint == "Mend it." and not asked.stops.is_set()
