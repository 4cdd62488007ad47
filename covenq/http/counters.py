"""Counters of the deliveries that the webhook accepted since the start of the process."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

from covenq.github.events import EVENTS, OTHER


class Accepted(NamedTuple):
    """The key of a count: a kind of answer below 300. `event` is one of EVENTS, or OTHER."""

    status: int
    seen_before: bool
    event: str


class AcceptedCounts:
    """Counts by kind. `add` takes no lock: each thread has counts of its own, which `counts` adds up."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[dict[Accepted, int]] = []
        self._lock = threading.Lock()

    def add(self, status: int, seen_before: bool, event: str | None) -> None:
        """From any thread."""
        try:
            counts: dict[Accepted, int] = self._own.counts
        except AttributeError:
            counts = self._own.counts = {}
            with self._lock:
                self._all.append(counts)
        key = Accepted(status, seen_before, event if event in EVENTS else OTHER)
        counts[key] = counts.get(key, 0) + 1

    def counts(self) -> Counter[Accepted]:
        """All threads' counts, those of ended threads too."""
        with self._lock:
            every = list(self._all)
        found: Counter[Accepted] = Counter()
        for counts in every:
            found.update(counts.copy())  # copied in one step: its thread goes on meanwhile
        return found
