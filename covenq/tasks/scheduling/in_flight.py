"""The tasks that are in hand: picked, and perhaps not yet known to the state as running.

Who picks must know what was picked a moment ago, since the fold follows the journal by milliseconds. The pool and the
claims of workers elsewhere share one of these, and its lock: a pick and its note are one step, so that no key, nor any
other cap, is passed by two who look at the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from covenq.tasks.scheduling.outcome import Task


@dataclass
class InFlight:
    """`folded` tells the newest seq that the state has folded."""

    folded: Callable[[], int]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _busy: dict[str, Task] = field(default_factory=dict)
    _until: dict[str, tuple[int, Task]] = field(default_factory=dict)
    """Task id → the seq that the fold must reach before the task's row can be believed, and the task as it was picked."""

    @contextmanager
    def picking(self) -> Iterator[Collection[Task]]:
        """Hold the lock; what is in hand. Call `take` for each task that is picked, before the `with` ends."""
        with self._lock:
            folded = self.folded()
            self._until = {id: (seq, task) for id, (seq, task) in self._until.items() if seq > folded}
            held = {id: task for id, (_, task) in self._until.items()} | self._busy
            yield held.values()

    def take(self, task: Task) -> None:
        """It is picked. Only within `picking`."""
        self._busy[task.id] = task

    def release(self, task: Task, last: int) -> None:
        """It is out of hand, and its newest known record has the seq `last`; from there on its row says what it is."""
        with self._lock:
            self._busy.pop(task.id, None)
            if last > self.folded():
                self._until[task.id] = (last, task)
