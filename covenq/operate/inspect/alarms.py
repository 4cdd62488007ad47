"""Alarms: what of the daemon's own work has come to a stop, and would be seen by nobody.

Loops that don't come round (`covenq.rounds`), and running tasks that nobody ends. The status, `covenq doctor`, /readyz, the
metrics and the dashboard all have it from here. Nothing of it makes the daemon unready: a delivery posted now is accepted and
durable all the same, and GitHub would not send again what was refused.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from covenq.model.status import Overdue, Stuck
from covenq.operate.inspect import stuck
from covenq.operate.maintain.upkeep import Upkeep
from covenq.rounds import Loop
from covenq.state.readers import Readers
from covenq.tasks.execution.pool import Pool
from covenq.text import counted
from journal.interface import Engine

BEAT_OVERDUE_S = 60.0
"""Seconds without a round of the journal's thread, which comes round every second: a sync that hangs."""
LAG_MAX = 10_000
"""Records that the state may be behind for its tasks to be judged: in one that is being made anew all that ran once runs."""
FRESH_S = 1.0
"""Seconds that the tasks are not looked at again: whoever reaches /readyz must not make the daemon search all the time."""

_OF_TASKS = {
    stuck.UNHELD: ("runs by the records, and nobody holds it", "run by the records, and nobody holds them"),
    stuck.OVERTIME: ("runs past its timeout", "run past their timeout"),
    stuck.LEASE_OVER: ("has a lease that is over, and isn't ended", "have a lease that is over, and aren't ended"),
}


class Alarms:
    """What is wrong now. Methods may be called from any thread, and wait for none of the loops."""

    def __init__(
        self,
        journal: Engine,
        readers: Readers,
        pool: Pool,
        upkeep: Upkeep,
        loops: Sequence[Loop],
        *,
        lag: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`loops` are all that the daemon has; it ends leases from now on. `lag` is how many records the state is behind."""
        self._journal = journal
        self._readers = readers
        self._pool = pool
        self._upkeep = upkeep
        self._loops = loops
        self._lag = lag
        self._clock = clock
        self._monotonic = monotonic
        self._since = clock()
        self._lock = threading.Lock()
        self._seen: tuple[float, list[Stuck]] | None = None

    def overdue(self) -> list[Overdue]:
        """The loops that don't come round, and why: the journal's thread and the pool's threads among them."""
        found = [Overdue(loop.name, why) for loop in self._loops if (why := loop.overdue) is not None]
        age = self._monotonic() - self._journal.beat
        if age > BEAT_OVERDUE_S:
            found.append(
                Overdue("journal", f"the journal's thread last came round {age:.0f} s ago: nothing is recorded")
            )
        if ended := self._pool.ended_threads():
            found.append(Overdue("worker", f"{ended} of the pool's threads have ended: fewer tasks run, or none"))
        return found

    def by_loop(self) -> Mapping[str, bool]:
        """Name → whether it is overdue, or has given up, for every loop there is."""
        bad = {one.loop for one in self.overdue()} | ({"worker"} if self._pool.error else set())
        return {name: name in bad for name in (*(loop.name for loop in self._loops), "journal", "worker")}

    @property
    def is_far_behind(self) -> bool:
        """Whether the state is too old to tell of its tasks that they are stuck."""
        return self._lag() > LAG_MAX

    def tasks(self) -> list[Stuck]:
        """The running tasks that nobody ends (`stuck_running`), as they were FRESH_S ago at most. Raises sqlite3.Error."""
        if self.is_far_behind:
            return []
        with self._lock:
            now = self._monotonic()
            if self._seen is None or now - self._seen[0] > FRESH_S:
                held = self._pool.held() if self._pool.recovered else None
                conn = self._readers.reader()
                self._seen = now, stuck.stuck_running(conn, self._clock(), held, self._since)
            return list(self._seen[1])

    def by_word(self) -> Mapping[str, int]:
        """Why running tasks are stuck → how many. Raises sqlite3.Error."""
        counts = Counter(one.word for one in self.tasks())
        return {word: counts[word] for word in stuck.RUNNING_WORDS}

    def sentences(self) -> list[str]:
        """All of it, in words that name no task and no repository: anybody may be told."""
        found = [one.why for one in self.overdue()]
        if self._pool.error is not None:
            found.append("the worker runs no more tasks, since nothing can be recorded")
        if self._upkeep.error is not None:
            found.append("upkeep failed, and is tried again")
        try:
            counts = self.by_word()
        except sqlite3.Error as error:
            self._readers.met(error)
            return [*found, f"the tasks can't be looked at ({type(error).__name__})"]
        for word, count in counts.items():
            if count:
                one, several = _OF_TASKS[word]
                found.append(f"{counted(count, 'task')} {one if count == 1 else several}")
        return found
