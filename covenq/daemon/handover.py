"""Handover: an operator asks the node that leads to let another one lead, before its machine is maintained.

It is asked on a thread of the API, and carried out by the main one: the daemon stops as at SIGTERM, so another node leads
before its door closes (`covenq.daemon.stop`), and then starts again in the same process and stands by (`covenq.daemon.restart`).
Whatever would keep it from that is a refusal, before anything is changed: a node that doesn't lead, no other that stands by, and
a configuration that it could not start with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from covenq.config.live import Live
from covenq.daemon.restart import Restart
from covenq.daemon.succession import Succession
from covenq.errors import CovenqError, Refused
from covenq.operate.answers import HandedOver

ANSWER_S = 120.0
"""Seconds that who asked waits; each step of a stop has less."""

log = logging.getLogger("covenq.daemon")


class Handover:
    """`ask` is for any thread, the rest for the main one."""

    def __init__(
        self,
        succession: Succession,
        live: Live,
        stop: Callable[[], None],
        restart: Callable[[], Restart],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stop` has this process stop; `restart` prepares the start that follows."""
        self._succession = succession
        self._live = live
        self._stop = stop
        self._make_restart = restart
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._closed = False
        self._ended = threading.Event()
        self._answer: HandedOver | None = None
        self.restart: Restart | None = None
        """The start that follows; None unless somebody has asked."""

    def ask(self, by: str | None) -> HandedOver:
        """Let another node lead, and wait until it does. Raises Refused, JournalUnavailable, CovenqError."""
        self._succession.require_successor()
        last = self._live.last
        if not last.ok:
            raise Refused(
                f"this node could not start again, and stand by: {last.error}", hint=last.hint or "Mend that first."
            )
        with self._lock:
            if self._closed or self.restart is not None:
                raise Refused("this node stops, or hands over, already", hint="`covenq nodes` says which one leads.")
            self.restart = self._make_restart()
        log.info("%s asks this node to hand over", by or "an operator")
        self._stop()
        if not self._ended.wait(ANSWER_S):
            raise CovenqError(f"this node has not handed over in {ANSWER_S:g} s", hint="Look at its log.")
        if self._answer is None:
            raise CovenqError(
                "no other node has taken the lead: this one starts again", hint="`covenq nodes` says who leads then."
            )
        return self._answer

    def close(self) -> bool:
        """The daemon stops, and nobody asks any more; whether it is for a handover. Repeatable."""
        with self._lock:
            self._closed = True
            return self.restart is not None

    def carry_out(self) -> None:
        """Let another node lead. When nothing but deliveries is appended any more."""
        began = self._monotonic()
        leader = self._succession.hand_over()
        if leader is not None:
            waited_s = self._monotonic() - began
            self._answer = HandedOver(leader.node, leader.address or None, round(waited_s * 1000))

    def end(self) -> None:
        """Answer who asked, if anybody did."""
        self._ended.set()
