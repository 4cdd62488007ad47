"""Succession: how a node that stands by becomes the one that leads, while it serves.

Where several nodes have the journal (`journal.interface.Succeeding`), each runs a whole daemon: it folds, answers what is asked,
and takes requests. What only one may do is started when it leads: running and handing out tasks, retention, routing what was
left, the passes over GitHub's logs, notices; and a delivery is taken in only when what works on it runs (`covenq.daemon.start`).
A node that is alone, or has its journal in files, leads from the beginning.

A node that stops, or is asked to hand over, lets another lead before it closes its door, if there is one. It takes deliveries in
until its own work has ended and nothing else is appended; only then it steps down, and what is sent to it until the other leads
waits, and is passed on (`covenq.http.passing`). It doesn't step back otherwise: one that has lost the lead is poisoned, and ends
as after a failed sync. What it was about to append is refused by the journal itself, so it needn't know in time.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable

from covenq import __version__
from covenq.errors import Refused
from covenq.intake.admission import STANDBY, Reason
from journal.errors import JournalStandby, JournalUnavailable
from journal.interface import Succeeding
from journal.records import Leader

SILENT_S = 3.0
"""Seconds after which a node that doesn't say that it is there is not counted on."""
HAND_OVER_S = 6.0
POLL_S = 0.05
AGAIN_S = 0.2
"""Seconds between two tries to take the lead, each of which asks the journal."""

log = logging.getLogger("covenq.daemon")


class Succession:
    """Takes the lead when nobody has it. `wait` and `check` are for the main thread, the rest for any."""

    def __init__(
        self,
        journal: Succeeding | None,
        api: str = "",
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """None: there is nobody else. `api` is where others ask this node's API, empty if nowhere."""
        self._monotonic, self._sleep = monotonic, sleep
        self._journal = journal
        self._api = api
        self._take_up: Callable[[], None] = lambda: None
        self._go_on: Callable[[], None] = lambda: None
        self._again_at = -math.inf
        self.works = journal is None or journal.leads
        """Whether this node leads, and what it does then has begun."""

    @property
    def lost(self) -> bool:
        """Whether another node has taken the lead from this one."""
        return self._journal is not None and self._journal.lost

    def wait(self, take_up: Callable[[], None], go_on: Callable[[], None]) -> None:
        """Have `take_up` called once this node leads, and `go_on` when deliveries are taken in.

        `take_up` is called again where it raises JournalUnavailable.
        """
        self._take_up, self._go_on = take_up, go_on
        log.info("this node stands by: %s", self._who())

    def check(self) -> None:
        """Take the lead if nobody has it. Some times a second. Raises JournalError for what makes that impossible."""
        now, journal = self._monotonic(), self._journal
        if self.works or journal is None or now < self._again_at:
            return
        if not journal.leads and journal.leader() is not None:
            return
        self._again_at = now + AGAIN_S
        try:
            if not journal.leads:
                if not journal.lead():
                    return
                log.warning("this node leads now")
            self._take_up()
        except JournalUnavailable:
            return  # it is away: the journal's health says so, and since when; what is taken up is taken up then
        self.works = True
        self._go_on()

    @property
    def is_succeeded(self) -> bool:
        """Whether this node leads, and another one stands by that would lead in its place, or has taken the lead from it.

        The journal is asked, unless it is lost.
        """
        try:
            return self.works and self._journal is not None and (self._journal.lost or _stands_by(self._journal))
        except JournalUnavailable:
            return False  # it is away: nobody can take the lead now

    def require_successor(self) -> None:
        """Raises Refused where this node doesn't lead, or no other one stands by; JournalUnavailable."""
        if self._journal is None:
            raise Refused("the journal is in files: no other node can lead", hint=_IN_A_DATABASE)
        if not self.works:
            raise Refused(f"this node stands by: {self._who()}", hint=_ASK_THE_LEADER)
        if not _stands_by(self._journal):
            raise Refused("no other node stands by", hint=_START_ANOTHER)

    @property
    def accepts(self) -> bool:
        """Whether deliveries are taken in here: what another node that leads could take in is its own."""
        return self.works and not self.lost

    def retire(self) -> None:
        """Take no delivery in any more: what comes from now on waits for another node to lead."""
        self.works = False

    def tell(self, folded: int, erased: int, config: str, secrets: str | None, ahead_s: float | None) -> None:
        """Have other nodes shown how far this one has folded and carried out erasures, the hash of its configuration, the
        fingerprint of its webhook secrets where there is one, and how far its clock is behind.
        """
        if self._journal is not None:
            ahead = None if ahead_s is None else round(ahead_s, 3)
            about = {"folded": folded, "erased": erased, "config": config, "clock_ahead": ahead, "api": self._api}
            self._journal.tell(json.dumps({"version": __version__, **about, "secrets": secrets}))

    def hand_over(self) -> Leader | None:
        """Retire, let another node lead, and wait until it does, for HAND_OVER_S at most: which does.

        When nothing but deliveries is appended here any more. None where no other takes it, at once if none stands by any more.
        """
        journal = self._journal
        if journal is None or (self.works and not self.is_succeeded):
            return None
        self.retire()
        lost = journal.lost
        journal.step_down()
        deadline = self._monotonic() + HAND_OVER_S
        while (leader := journal.leader()) is None:
            if self._monotonic() > deadline:
                log.error("no other node has taken the lead in %g s", HAND_OVER_S)
                return None
            self._sleep(POLL_S)
        log.info("%s: %s", "another node has taken the lead" if lost else "this node has handed over", self._who())
        return leader

    def require_lead(self) -> None:
        """Raises JournalStandby where another node does what only one may."""
        if not self.works:
            raise JournalStandby(f"This node stands by: {self._who()}")

    @property
    def leads(self) -> bool:
        """Whether this node appends: before what it does then has begun, and while it retires, too."""
        return self._journal is None or self._journal.leads

    def leader_api(self) -> str | None:
        """Where the node that leads is asked by its API, as it was seen last; None where that isn't known."""
        leader = next((one for one in self._journal.nodes() if one.leads), None) if self._journal is not None else None
        if leader is None:
            return None
        try:
            said = json.loads(leader.about).get("api")
        except (ValueError, AttributeError, RecursionError):
            return None
        return said if isinstance(said, str) and said else None

    def require_appends(self) -> None:
        """Raises JournalStandby where another node appends."""
        if not self.leads:
            raise JournalStandby(f"This node stands by: {self._who()}")

    def standby(self) -> Reason | None:
        """Why deliveries are not taken in here; None if they are, or if nothing but this node's own state keeps them out."""
        return None if self.works else Reason(STANDBY, f"This node stands by: {self._who(address=False)}.")

    def _who(self, *, address: bool = True) -> str:
        """Who leads; without the address for what anybody may ask: it is of a network that not everybody sees."""
        leader = None if self._journal is None else self._journal.leader()
        if leader is None:
            return "no node leads yet"
        where = f", at {leader.address}" if address and leader.address else ""
        return f"{leader.node or 'another node'} leads{where}"


_IN_A_DATABASE = "Several nodes share one in PostgreSQL: covenq-postgres(7)."
_ASK_THE_LEADER = (
    "Ask that node: `covenq handover` on its machine, or from here with --url and the address of its [api]."
)
_START_ANOTHER = "Start `covenq serve` with this journal on another machine first: `covenq nodes` shows who is there."


def _stands_by(journal: Succeeding) -> bool:
    """Whether another node is there, and serves: one that still starts says nothing of itself. Raises JournalUnavailable."""
    others = [one for one in journal.nodes(ask=True) if not one.leads and not one.stopped]
    return any(one.about and one.silent_s < SILENT_S for one in others)
