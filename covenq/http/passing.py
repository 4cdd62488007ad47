"""Passing: what a node that stands by does with a delivery, so that it meets no closed door.

GitHub sends a delivery once, and a balancer repeats no POST: so a delivery that comes to a node which doesn't lead is sent on to
the one that does, as it came, and its answer is given as it is. Where nobody leads, or the leader doesn't answer, it waits here
until somebody does, and is taken in by this node if that is itself. All of it lasts HELD_S from the arrival of its first byte at
most; GitHub gives up 2 s later. Then it is refused with 503, as by any daemon that can't make it durable.

The leader is waited for ASK_S at a time: one that is frozen, or cut off, takes the connection and says nothing, and is
succeeded meanwhile. Sent on twice a delivery is recorded once: the node that leads knows it by its id, and answers the second as
a duplicate.

A delivery that was passed says so, and how long it may take still (PASSED). It is not passed a second time, or two nodes that
both take the other for the leader would send it to and fro: a node that doesn't lead gives it back at once, to the one that holds
it, which may lead itself by now. Anybody can say that, and shortens by it the time that their own request is held; nothing else
rests on it.

How many wait is bounded by the listener's threads and connections, and their bytes by what it buffers.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from covenq.http.server.held import HELD_S
from covenq.intake.admission import STANDBY
from covenq.intake.answer import Answer, refuse
from covenq.net.outgoing import OutgoingConnection, Route
from covenq.net.transport import NO_ANSWER, read_up_to
from journal.interface import Succeeding
from journal.records import Leader

PASSED = "Covenq-Passed"
"""The header of a request that was passed: how many milliseconds it may be held still."""
WAIT_S = 0.1
"""Seconds after which it is looked again for who leads."""
ASK_S = 2.0
"""Seconds that a leader has for its answer before it is looked who leads now."""
MARGIN_S = 0.3
"""Seconds of what is left that a passed request may not use: its answer has to come back."""
ANSWER_MAX = 1 << 20
"""Bytes of an answer."""

log = logging.getLogger("covenq.http")

_NOT_PASSED = frozenset(
    ("CONNECTION", "CONTENT_LENGTH", "EXPECT", "HOST", "KEEP_ALIVE", "TE", "TRAILER", "TRANSFER_ENCODING", "UPGRADE")
)
"""Headers of the connection that it came by."""


class Passing:
    """What passes deliveries, or holds them. From any thread."""

    def __init__(
        self,
        succession: Succeeding,
        accepts: Callable[[], bool],
        *,
        own: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`accepts` is whether this node leads, and takes deliveries in; `own` is its address."""
        self._succession = succession
        self._own = own
        self._warned = False
        self.accepts = accepts
        self._monotonic = monotonic
        self._sleep = sleep

    def answer(
        self, path: str, headers: Mapping[str, str], spell: Callable[[str], str], body: bytes, began: float
    ) -> Answer | None:
        """The leader's answer to a delivery that came at `began`, by the monotonic clock, or a 503 in time.

        None once this node leads: it answers then. `headers` are by their WSGI names without HTTP_, and `spell` gives back how
        each is written.
        """
        was_passed = held_ms(headers.get(PASSED.upper().replace("-", "_")))
        deadline = began + (HELD_S if was_passed is None else min(HELD_S, was_passed / 1000))
        given = {spell(name): value for name, value in headers.items() if name not in _NOT_PASSED}
        asked = False
        while not self.accepts():
            left = deadline - self._monotonic()
            leads, leader = self._succession.leads, self._succession.leader()
            if leader is not None and leader.address == self._own and not leads:
                self._warn(leader)
            elif leader is not None and leader.address and not leads and was_passed is None and left > MARGIN_S:
                answer = _send(leader, path, given, body, left)
                if answer is not None:
                    return answer
                asked = True
            left = deadline - self._monotonic()
            if was_passed is not None and not leads:
                # Whoever passed it holds it still: nobody is refused by that, and it isn't counted.
                return replace(refuse(503, STANDBY, _refusal(leader)), refusal=None)
            if left <= 0:
                return refuse(503, STANDBY, _refusal(leader, asked=asked))
            self._sleep(min(left, WAIT_S))
        return None

    def _warn(self, leader: Leader) -> None:
        if leader.address and not self._warned:
            self._warned = True
            log.warning(
                "%s, which leads, says that it is reached at %s, as this node does: deliveries that come here can't be passed on "
                "to it. Have [node] address name, on each machine, where the others reach it",
                leader.node or "another node",
                leader.address,
            )


def held_ms(value: str | None) -> int | None:
    """What PASSED says; None if it isn't there, and 0 for what makes no sense."""
    if value is None:
        return None
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 6 else 0


def _send(leader: Leader, path: str, headers: Mapping[str, str], body: bytes, left: float) -> Answer | None:
    """The leader's answer; None if there is none, or it doesn't lead either."""
    address = leader.address if "://" in leader.address else f"http://{leader.address}"
    try:
        parts = urlsplit(address)
    except ValueError:
        return None  # no address: what another node says of itself
    target = parts.path.rstrip("/") + path
    wait_s = min(left - MARGIN_S, ASK_S)
    given = {
        **headers,
        "Content-Length": str(len(body)),
        PASSED: str(int((left - MARGIN_S) * 1000)),
        "Connection": "close",
    }
    try:
        connection = OutgoingConnection(Route(parts, {}))
        try:
            response = connection.ask("POST", target, given, body, wait_s=wait_s, whole_s=wait_s)
            said = json.loads(read_up_to(response, ANSWER_MAX))
        finally:
            connection.close()
    except (*NO_ANSWER, ValueError):
        return None
    if not isinstance(said, dict) or (response.status == 503 and said.get("error") in (STANDBY, "starting")):
        return None
    kept = {"Retry-After": after} if (after := response.header("Retry-After")) else {}
    word = said.get("error")
    return Answer(response.status, said, kept, word if isinstance(word, str) else None)


def _refusal(leader: Leader | None, *, asked: bool = False) -> str:
    told = " Whether it was recorded all the same isn't known: sent again it is recorded once." if asked else ""
    if leader is None:
        return f"This node stands by, and no node leads.{told}"
    return f"This node stands by, and {leader.node or 'the one that leads'} did not answer in time.{told}"
