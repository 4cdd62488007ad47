"""The dispatcher: the one place of a daemon that hands out queued tasks, to the pool and to the claims of pull workers.

A pick and adding its tasks to those in flight are one step under one lock (`covenq.tasks.scheduling.in_flight`), and tasks in
flight count as running. So no limit is exceeded by two picks at the same moment, nor by a second pick before the fold has
caught up.

Nothing is claimed here: the caller appends `task.claimed` against the task's newest record, and may find that it has moved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection

from covenq.config.limits import NO_CAPS, Caps
from covenq.model.token_scope import Scope
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from covenq.tasks.scheduling.clock_skew import ClockSkew
from covenq.tasks.scheduling.fairness import OWN_KINDS, Picker
from covenq.tasks.scheduling.in_flight import InFlight
from covenq.tasks.scheduling.outcome import Task
from journal.append import append_known
from journal.interface import Journal
from journal.records import Appended


class Dispatcher:
    """Methods may be called from any thread. `folded` returns the newest folded seq, `caps` the limits as configured now.

    `times` is where those who claim what is picked count how long it waited and ran.
    """

    def __init__(
        self,
        journal: Journal,
        folded: Callable[[], int],
        caps: Callable[[], Caps] = lambda: NO_CAPS,
        times: AttemptTimes | None = None,
        node: str | None = None,
    ) -> None:
        """`node` is the name of the node that hands out, which the claims have."""
        self.node = node
        self.times = times or AttemptTimes()
        self._journal = journal
        self._folded = folded
        self._in_flight = InFlight(folded)
        self._clock_skew = ClockSkew()
        self._picker = Picker(caps)

    def pick(
        self,
        conn: sqlite3.Connection,
        now: float,
        limit: int,
        *,
        kinds: Collection[str] = OWN_KINDS,
        routes: Collection[str] | None = None,
        without: Collection[str] = (),
        scope: Scope | None = None,
    ) -> list[Task]:
        """Up to `limit` tasks that may start at `now`, in flight until `release`. See `Picker.next`."""
        with self._in_flight.picking() as in_flight:
            tasks = self._picker.next(
                conn, now, limit, in_flight=in_flight, kinds=kinds, routes=routes, without=without, scope=scope
            )
            for task in tasks:
                self._in_flight.add(task)
        return tasks

    def release(self, task: Task, last: int) -> None:
        """The task is no longer in flight; `last` is the seq of its newest known record, 0 if nothing was recorded."""
        self._in_flight.release(task, last)

    def in_flight(self) -> set[str]:
        """The ids of the tasks in flight, at about this moment. Waits for nobody."""
        return self._in_flight.ids()

    def next_due(self, conn: sqlite3.Connection, now: float, kinds: Collection[str] = OWN_KINDS) -> str | None:
        """The not-before time of the next postponed task, if there is one."""
        return self._picker.next_due(conn, now, kinds)

    def record_queue_changes(self, conn: sqlite3.Connection, now: float) -> int:
        """Record the tasks that newer ones supersede, and new times for those postponed by a clock that was set back since.

        Returns the seq of the last record, 0 if there was nothing to record. A task that moved in the meantime is left as it is,
        and checked again with the next call. Where there was something, there may be more: call again when the fold has reached
        that seq. Raises what append raises.
        """
        folded, head = self._folded(), self._journal.head().seq
        with self._in_flight.picking():  # both remember how far they have scanned, and serve one thread at a time
            moves = self._clock_skew.corrections(conn, now, folded=folded, head=head) or self._picker.superseded(conn)
        if not moves:
            return 0
        together = append_known(self._journal, [entry for entries in moves for entry in entries])
        if isinstance(together, Appended):
            return together.seqs[-1]
        last = 0
        for entries in moves:
            answer = append_known(self._journal, entries)
            if isinstance(answer, Appended):
                last = answer.seqs[-1]
        return last

    def reset(self) -> None:
        """Forget how far the queue was checked for superseding: something went wrong in between."""
        with self._in_flight.picking():
            self._picker.reset()
