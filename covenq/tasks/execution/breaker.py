"""Circuit breakers: a receiver that fails again and again is left alone for a while, and then asked once.

Tasks for it wait queued meanwhile, and burn no retry. A breaker is nothing durable: a new daemon asks the receiver again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

OPENS_AFTER = 5
"""Failures in a row."""
FIRST_S = 10.0
LONGEST_S = 300.0
"""How long it stays open: twice as long each time the probe fails, up to this."""


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_s: float = 0.0
    """How long it is open this time; 0 while it is closed."""
    until: float = 0.0
    probing: bool = False
    routes: set[str] = field(default_factory=set)


class Breakers:
    """One circuit a target. Methods may be called from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._circuits: dict[str, _Circuit] = {}

    def admit(self, target: str, route: str) -> bool:
        """Whether a request may go there now. Of a circuit whose time is over, one is: `told` or `undone` must follow."""
        with self._lock:
            circuit = self._circuits.setdefault(target, _Circuit())
            circuit.routes.add(route)
            if not circuit.open_s:
                return True
            if circuit.probing or self._monotonic() < circuit.until:
                return False
            circuit.probing = True
            return True

    def told(self, target: str, *, well: bool) -> bool:
        """How a request went. True if that opened the circuit."""
        with self._lock:
            circuit = self._circuits.setdefault(target, _Circuit())
            if well:
                self._circuits[target] = _Circuit(routes=circuit.routes)
                return False
            circuit.failures += 1
            if not circuit.probing and (circuit.open_s or circuit.failures < OPENS_AFTER):
                return False
            circuit.open_s = min(circuit.open_s * 2, LONGEST_S) if circuit.open_s else FIRST_S
            circuit.until = self._monotonic() + circuit.open_s
            circuit.probing = False
            return True

    def undone(self, target: str) -> None:
        """An admitted request was not made after all."""
        with self._lock:
            if target in self._circuits:
                self._circuits[target].probing = False

    def waiting(self) -> dict[str, str]:
        """Route → why its tasks wait, for the routes of every circuit that admits nothing now."""
        with self._lock:
            now = self._monotonic()
            return {
                route: _why(target, circuit, now)
                for target, circuit in self._circuits.items()
                if circuit.open_s and (circuit.probing or now < circuit.until)
                for route in circuit.routes
            }

    def next_s(self) -> float | None:
        """Seconds until some circuit admits its probe, if one is open."""
        with self._lock:
            now = self._monotonic()
            return min(
                (max(one.until - now, 0.0) for one in self._circuits.values() if one.open_s and not one.probing),
                default=None,
            )


def _why(target: str, circuit: _Circuit, now: float) -> str:
    failed = f"{target} failed {circuit.failures} times in a row"
    if circuit.probing:
        return f"{failed}; it is being asked again"
    return f"{failed}; it is asked again in {circuit.until - now:.0f} s"
