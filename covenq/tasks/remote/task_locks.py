"""One report of a task at a time: the locks that the reports of pull workers take, each for its own tasks.

Two reports with the same fencing token would else write the same files, and those of the later writer would stay, whichever of
the two is recorded. Cancellations and ends of leases take no lock: the journal refuses a report that comes after one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from covenq.errors import NotDurable

WAIT_S = 10.0
"""Seconds for which a report waits for others of its tasks, all in all."""


@dataclass(slots=True)
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0
    """By how many threads it is held or waited for: with none, it is forgotten."""


class TaskLocks:
    """Locks by the ids of tasks. There are no more of them than tasks that are reported on at this moment."""

    def __init__(self, *, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._locks: dict[str, _Held] = {}
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._locks)

    def deadline(self) -> float:
        """Until when a report that begins now waits for others."""
        return time.monotonic() + self._wait_s

    @contextmanager
    def held(self, task: str, until: float | None = None) -> Iterator[None]:
        """Hold the lock of a task. Raises NotDurable where another report has it until then: the `deadline` of now if None.

        No thread waits while it holds another, so no two wait for each other.
        """
        with self._wanted(task) as lock:
            seconds = (self.deadline() if until is None else until) - time.monotonic()
            if not lock.acquire(timeout=max(0.0, seconds)):
                raise NotDurable(f"another report of task {task[:80]} takes too long", hint="Say it again in a moment.")
            try:
                yield
            finally:
                lock.release()

    @contextmanager
    def free(self, tasks: Iterable[str]) -> Iterator[frozenset[str]]:
        """Hold the locks of those of the tasks that no report is on, without waiting for any: of these."""
        found = []
        with ExitStack() as stack:
            for task in set(tasks):
                lock = stack.enter_context(self._wanted(task))
                if lock.acquire(blocking=False):
                    stack.callback(lock.release)
                    found.append(task)
            yield frozenset(found)

    @contextmanager
    def _wanted(self, task: str) -> Iterator[threading.Lock]:
        with self._changing:
            held = self._locks.setdefault(task, _Held())
            held.wanted += 1
        try:
            yield held.lock
        finally:
            with self._changing:
                held.wanted -= 1
                if not held.wanted:
                    del self._locks[task]
