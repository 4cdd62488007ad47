"""Who hands tasks out: one a daemon, shared by the pool and by the claims of workers elsewhere.

A pick and the note of what was picked are one step under one lock (`covenq.tasks.scheduling.in_flight`), and what is in
hand counts as running. So no cap and no quota is passed by two who look at the same moment, nor by one who looks again
before the fold has caught up.

Nothing is claimed here: whoever picked appends `task.claimed` against the task's newest record, and may find that it moved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection

from covenq.config.limits import NO_CAPS, Caps
from covenq.tasks.scheduling.clock_skew import ClockSkew
from covenq.tasks.scheduling.fairness import OWN, Picker
from covenq.tasks.scheduling.in_flight import InFlight
from covenq.tasks.scheduling.outcome import Task
from journal.interface import Journal
from journal.records import Appended


class Dispatcher:
    """Methods may be called from any thread. `caps` gives the limits as they are configured now."""

    def __init__(self, journal: Journal, folded: Callable[[], int], caps: Callable[[], Caps] = lambda: NO_CAPS) -> None:
        self._journal = journal
        self._folded = folded
        self._in_flight = InFlight(folded)
        self._setback = ClockSkew()
        self._picker = Picker(caps)

    def pick(
        self,
        conn: sqlite3.Connection,
        now: float,
        limit: int,
        *,
        kinds: Collection[str] = OWN,
        routes: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> list[Task]:
        """Up to `limit` tasks that may start at `now`, in hand until `release`. See `Picker.next`."""
        with self._in_flight.picking() as held:
            tasks = self._picker.next(conn, now, limit, held=held, kinds=kinds, routes=routes, without=without)
            for task in tasks:
                self._in_flight.take(task)
        return tasks

    def release(self, task: Task, last: int) -> None:
        """It is out of hand; `last` is the seq of its newest known record, 0 if nothing was recorded."""
        self._in_flight.release(task, last)

    def next_due(self, conn: sqlite3.Connection, now: float, kinds: Collection[str] = OWN) -> str | None:
        """When the next task that waits for its not-before time is ready, if any does."""
        return self._picker.next_due(conn, now, kinds)

    def outdate(self, conn: sqlite3.Connection, now: float) -> int:
        """Record what newer tasks have outdated, and what waits for the future of a clock that was set back.

        Returns the seq of the last record, 0 if there was nothing to record. What moved in the meantime is left as it is, and
        looked at again with the next call. Where there was something, there may be more: call again when the fold has reached
        that seq. Raises what append raises.
        """
        folded, head = self._folded(), self._journal.head().seq
        with self._in_flight.picking():  # what is remembered of the last look has one user at a time
            moves = self._setback.moves(conn, now, folded=folded, head=head) or self._picker.outdated(conn)
        if not moves:
            return 0
        together = self._journal.append([entry for entries in moves for entry in entries])
        if isinstance(together, Appended):
            return together.seqs[-1]
        last = 0
        for entries in moves:
            answer = self._journal.append(entries)
            if isinstance(answer, Appended):
                last = answer.seqs[-1]
        return last

    def look_again(self) -> None:
        """Forget what was looked at: something went wrong in between."""
        with self._in_flight.picking():
            self._picker.reset()
