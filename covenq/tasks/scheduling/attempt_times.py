"""How long tasks waited and attempts ran, by route: counted in the daemon as it happens, for the metrics.

What is counted here is what this process saw begin. A label is a route of the configuration, or OTHER, so that there are never
more than the configuration has: not what an older one, a replay to an address or a forged record calls its route.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

from covenq.model import Kind
from covenq.tasks.scheduling.outcome import Task
from covenq.text import instant
from journal.histogram import Counts, Histogram

OTHER = "other"
BOUNDS = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds, from what a person doesn't notice to a day."""
OPEN_MAX = 10_000
"""Attempts that are known to run; of more, the end of the oldest is not counted."""

Ending = Literal["completed", "failed"]


class _Running(NamedTuple):
    label: str
    since: float


class AttemptTimes:
    """Histograms of seconds. `routes` are the names of the configuration's. Methods may be called from any thread."""

    def __init__(self, routes: Callable[[], Collection[str]] = frozenset) -> None:
        self._routes = routes
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        """Seq of the claim → what is known of it."""
        self._waited: dict[str, Histogram] = {}
        self._ran: dict[tuple[str, Ending], Histogram] = {}

    def began(self, task: Task, claim: int, now: float) -> None:
        """The task, as it was when it was picked, is claimed by the record `claim`."""
        routes, queued_at = self._routes(), instant(task.created_at)
        label = task.route if task.route in routes else OTHER
        with self._lock:
            self._running[claim] = _Running(label, now)
            if len(self._running) > OPEN_MAX:
                del self._running[next(iter(self._running))]
            if task.attempts == 0 and queued_at is not None:
                self._waited.setdefault(label, Histogram(BOUNDS)).add(max(0.0, now - queued_at))

    def ended(self, claim: int, kind: Kind, now: float) -> None:
        """The attempt's end is recorded, by a record of that kind."""
        with self._lock:
            one = self._running.pop(claim, None)
            if one is not None:
                key: tuple[str, Ending] = (one.label, "completed" if kind is Kind.COMPLETED else "failed")
                self._ran.setdefault(key, Histogram(BOUNDS)).add(max(0.0, now - one.since))

    def forget(self, claim: int) -> None:
        """The attempt ended by what somebody else did to the task, or without a record."""
        with self._lock:
            self._running.pop(claim, None)

    def waited(self) -> dict[str, Counts]:
        """From a task's queuing to the start of its first attempt, by route."""
        kept = {*self._routes(), OTHER}
        with self._lock:
            self._waited = {label: counts for label, counts in self._waited.items() if label in kept}
            return {label: counts.read() for label, counts in self._waited.items()}

    def ran(self) -> dict[tuple[str, Ending], Counts]:
        """From an attempt's start to its end, by route and how it ended."""
        kept = {*self._routes(), OTHER}
        with self._lock:
            self._ran = {key: counts for key, counts in self._ran.items() if key[0] in kept}
            return {key: counts.read() for key, counts in self._ran.items()}
