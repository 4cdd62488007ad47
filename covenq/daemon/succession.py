"""Succession: how a node that stands by becomes the one that leads, while it serves.

Where several nodes have the journal (`journal.interface.Succeeding`), each runs a whole daemon: it folds, answers what is asked,
and takes requests. What only one may do is started when it leads: running and handing out tasks, retention, routing what was
left, the passes over GitHub's logs, notices; and a delivery is taken in only when what works on it runs (`covenq.daemon.start`).
A node that is alone, or has its journal in files, leads from the beginning.

A node that stops lets another lead before it closes its door, if there is one: its own work has ended by then, and what is sent
to it meanwhile waits, and is passed on (`covenq.http.passing`). It doesn't step back otherwise: one that has lost the lead is
poisoned, and ends as after a failed sync. What it was about to append is refused by the journal itself, so it needn't know in
time.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

from covenq import __version__
from covenq.intake.admission import STANDBY, Reason
from journal.errors import JournalStandby, JournalUnavailable
from journal.interface import Succeeding

SILENT_S = 3.0
"""Seconds after which a node that doesn't say that it is there is not counted on."""
HAND_OVER_S = 6.0
POLL_S = 0.05

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
        self.works = journal is None or journal.leads
        """Whether this node leads, and what it does then has begun."""

    @property
    def lost(self) -> bool:
        """Whether another node has taken the lead from this one."""
        return self._journal is not None and self._journal.lost

    def wait(self, take_up: Callable[[], None], go_on: Callable[[], None]) -> None:
        """Have `take_up` called once this node leads, and `go_on` when deliveries are taken in."""
        self._take_up, self._go_on = take_up, go_on
        log.info("this node stands by: %s", self._who())

    def check(self) -> None:
        """Take the lead if nobody has it. Some times a second. Raises JournalError for what makes that impossible."""
        if self.works or self._journal is None or self._journal.leader() is not None:
            return
        try:
            if not self._journal.lead():
                return
        except JournalUnavailable:
            return  # it is away: the journal's health says so, and since when
        log.warning("this node leads now")
        self._take_up()
        self.works = True
        self._go_on()

    def retire(self) -> bool:
        """Take no delivery in any more, if another node stands by: what comes from now on waits for it. Whether one does."""
        if self._journal is None or not self.works or not self._is_succeeded(self._journal):
            return False
        self.works = False
        log.info("another node stands by: it is to lead")
        return True

    def tell(self, folded: int, erased: int, config: str, ahead_s: float | None) -> None:
        """Have other nodes shown how far this one has folded and carried out erasures, the hash of its configuration, and how far
        its clock is behind.
        """
        if self._journal is not None:
            ahead = None if ahead_s is None else round(ahead_s, 3)
            about = {"folded": folded, "erased": erased, "config": config, "clock_ahead": ahead, "api": self._api}
            self._journal.tell(json.dumps({"version": __version__, **about}))

    def _is_succeeded(self, journal: Succeeding) -> bool:
        try:
            others = [one for one in journal.nodes(ask=True) if not one.leads and not one.stopped]
        except JournalUnavailable:
            return False  # it is away: nobody can take the lead now
        return any(one.silent_s < SILENT_S for one in others)

    def hand_over(self) -> None:
        """Let another node lead, and wait until it does, for HAND_OVER_S at most. When nothing is appended here any more."""
        journal = self._journal
        if journal is None:
            return
        journal.step_down()
        deadline = self._monotonic() + HAND_OVER_S
        while journal.leader() is None:
            if self._monotonic() > deadline:
                log.error("no other node has taken the lead in %g s", HAND_OVER_S)
                return
            self._sleep(POLL_S)
        log.info("this node has handed over: %s", self._who())

    def require_lead(self) -> None:
        """Raises JournalStandby where another node does what only one may."""
        reason = self.standby()
        if reason is not None:
            raise JournalStandby(reason.sentence.removesuffix("."))

    def standby(self) -> Reason | None:
        """Why deliveries are not taken in here; None if they are, or if nothing but this node's own state keeps them out."""
        return None if self.works else Reason(STANDBY, f"This node stands by: {self._who()}.")

    def _who(self) -> str:
        leader = None if self._journal is None else self._journal.leader()
        if leader is None:
            return "no node leads yet"
        return f"{leader.node or 'another node'} leads" + (f", at {leader.address}" if leader.address else "")
