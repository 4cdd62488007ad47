"""Tasks in flight: picked, but possibly still queued in state.db.

A pick has to know what was picked a moment ago, since the fold follows the journal by milliseconds. The pool and the claims of
pull workers share one of these, and its lock: a pick and its note are one step, so that no key, nor any other limit, is exceeded
by two picks at the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from covenq.tasks.scheduling.outcome import Task


@dataclass
class InFlight:
    """`folded` returns the newest seq that the state has folded."""

    folded: Callable[[], int]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _picked: dict[str, Task] = field(default_factory=dict)
    _unfolded: dict[str, tuple[int, Task]] = field(default_factory=dict)
    """Task id → the seq that the fold must reach before the task's row is up to date, and the task as it was picked."""

    @contextmanager
    def picking(self) -> Iterator[Collection[Task]]:
        """Hold the lock; the tasks in flight. Call `add` for each task that is picked, before the `with` ends."""
        with self._lock:
            folded = self.folded()
            self._unfolded = {id: (seq, task) for id, (seq, task) in self._unfolded.items() if seq > folded}
            in_flight = {id: task for id, (_, task) in self._unfolded.items()} | self._picked
            yield in_flight.values()

    def ids(self) -> set[str]:
        """The tasks in flight, without the lock: a pick that hangs may not hang who asks for it. A list of a dict is one step."""
        return {*list(self._picked), *list(self._unfolded)}

    def add(self, task: Task) -> None:
        """The task is picked. Only within `picking`."""
        self._picked[task.id] = task

    def release(self, task: Task, last: int) -> None:
        """The task is no longer worked on, and its newest known record is `last`: from that seq on its row is up to date."""
        with self._lock:
            self._picked.pop(task.id, None)
            if last > self.folded():
                self._unfolded[task.id] = (last, task)
