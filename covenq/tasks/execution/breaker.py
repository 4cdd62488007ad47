"""Circuit breakers: no requests for a while to a receiver that failed several times in a row, then one probe.

Meanwhile its tasks wait queued, and use up no retry. Breakers are not durable: a new daemon sends requests again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from covenq.config.limits import BackingOff
from covenq.model import at_text

FAILURES_TO_OPEN = 5
"""Failures in a row that open a circuit."""
OPEN_FIRST_S = 10.0
OPEN_MAX_S = 300.0
"""Seconds that a circuit stays open: twice as long each time that the probe fails, up to this."""


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_s: float = 0.0
    """Seconds for which it is open this time; 0 while it is closed."""
    until: float = 0.0
    probing: bool = False
    answer: str = ""
    """How the newest request failed, in a few words."""
    routes: set[str] = field(default_factory=set)
    answered: bool = False
    """Whether it has answered at all."""


class Breakers:
    """One circuit per target. Methods may be called from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, clock: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._clock = clock
        self._lock = threading.Lock()
        self._circuits: dict[str, _Circuit] = {}

    def admit(self, target: str, route: str) -> bool:
        """Whether a request may be made now. `report` or `cancel` must follow.

        When the time of an open circuit is over, one is admitted, the probe.
        """
        with self._lock:
            circuit = self._circuits.setdefault(target, _Circuit())
            circuit.routes.add(route)
            if not circuit.open_s:
                return True
            if circuit.probing or self._monotonic() < circuit.until:
                return False
            circuit.probing = True
            return True

    def report(self, target: str, *, ok: bool, answer: str = "") -> bool:
        """Report how a request went; `answer` is how it failed, in a few words. True if that opened the circuit."""
        with self._lock:
            circuit = self._circuits.setdefault(target, _Circuit())
            if ok:
                self._circuits[target] = _Circuit(routes=circuit.routes, answered=True)
                return False
            circuit.failures += 1
            circuit.answer = answer
            if not circuit.probing and (circuit.open_s or circuit.failures < FAILURES_TO_OPEN):
                return False
            circuit.open_s = min(circuit.open_s * 2, OPEN_MAX_S) if circuit.open_s else OPEN_FIRST_S
            circuit.until = self._monotonic() + circuit.open_s
            circuit.probing = False
            return True

    def cancel(self, target: str) -> None:
        """Report that an admitted request was not made after all."""
        with self._lock:
            if target in self._circuits:
                self._circuits[target].probing = False

    def blocked_routes(self) -> dict[str, BackingOff]:
        """Route → why its tasks wait, for the routes of every circuit that admits no request now."""
        with self._lock:
            now, clock = self._monotonic(), self._clock()
            return {
                route: BackingOff(_why(target, circuit), at_text(clock + max(0.0, circuit.until - now)))
                for target, circuit in self._circuits.items()
                if circuit.open_s and (circuit.probing or now < circuit.until)
                for route in circuit.routes
            }

    def left_alone(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Target → why it is left alone, and the routes to it, of every circuit that is open until the target answers.

        Also of one that admits its probe by now: while no task is there to be one, nothing is known to be better.
        """
        with self._lock:
            return {
                target: (_why(target, circuit, probing=False), tuple(sorted(circuit.routes)))
                for target, circuit in self._circuits.items()
                if circuit.open_s
            }

    def answering(self) -> set[str]:
        """The targets that have answered, and are not left alone."""
        with self._lock:
            return {target for target, circuit in self._circuits.items() if circuit.answered and not circuit.open_s}

    def next_probe_s(self) -> float | None:
        """Seconds until the first open circuit admits its probe, None if none will."""
        with self._lock:
            now = self._monotonic()
            return min(
                (max(one.until - now, 0.0) for one in self._circuits.values() if one.open_s and not one.probing),
                default=None,
            )


def _why(target: str, circuit: _Circuit, *, probing: bool = True) -> str:
    answer = f" ({circuit.answer})" if circuit.answer else ""
    asked = "; it is being asked again" if probing and circuit.probing else ""
    return f"{target} failed {circuit.failures} times in a row{answer}{asked}"
