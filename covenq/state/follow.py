"""The loop that folds what a journal gets: it waits for the head to move, and folds up to it (`covenq.state.store`).

A full disk, a locked file or a journal that can't be read interrupt it, and it tries again. Nothing is lost by that, since what
is not folded is still in the journal.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from covenq.state.progress import FoldReport
from covenq.state.readers import is_damage
from covenq.state.rollup_upkeep import RollupUpkeep
from covenq.state.store import StateStore
from journal.errors import JournalDamaged, JournalError
from journal.private_database import is_full

log = logging.getLogger("covenq.state")

RETRY_S = 0.5
POLL_S = 0.25


class FoldLoop:
    """Folds each time with all that was appended meanwhile, and reports it. `run` is for one thread, `stop` for any."""

    def __init__(
        self,
        store: StateStore,
        wait: Callable[[int, float], bool],
        report: FoldReport,
        *,
        retry_s: float = RETRY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wait` is `journal.interface.Journal.wait`: it returns whether the head is past a seq, after a time at the latest."""
        self._store = store
        self._wait = wait
        self._report = report
        self._retry_s = retry_s
        self._monotonic = monotonic
        self._rollups: RollupUpkeep | None = RollupUpkeep(store, monotonic)
        """None once it has met damage."""
        self._stopping = threading.Event()
        self._ends_at: float | None = None
        """When it stops folding, though not all is folded; None until `stop`."""
        self._failing = False
        self._damaged = False

    def stop(self, within_s: float) -> None:
        """Have `run` fold what is durable now, for `within_s` seconds at most, and return. The next start folds the rest."""
        if self._ends_at is None:
            self._ends_at = self._monotonic() + within_s
        self._stopping.set()

    def run(self) -> None:
        """Fold until `stop`. Raises CovenqError where the file isn't this process's any more."""
        while not self._stopping.is_set():
            if not self._wait(self._store.folded, POLL_S):
                self._store.check_file()
                # A journal that is closed or poisoned answers at once.
                self._stopping.wait(0.01)
            elif not self._catch_up():
                self._stopping.wait(self._retry_s)
                continue
            if not self._wait(self._store.folded, 0):
                self._keep_up()
        self._catch_up()

    def _catch_up(self) -> bool:
        """Whether all is folded; otherwise what was in the way is reported."""
        try:
            self._store.catch_up(self._advanced, self._is_over)
        except sqlite3.DatabaseError as error:
            if _may_pass(error):
                self._cannot_write(error)
            else:
                name = self._store.path.name
                if not self._failing:
                    log.error("%s is damaged; restart the daemon, and it is made again: %s", name, error)
                self._report.failed(f"{name} is damaged and will be made again at the next start: {error}")
                with suppress(sqlite3.Error):
                    self._store.mark_for_rebuild()
        except (JournalError, OSError) as error:
            damage = error if isinstance(error, JournalDamaged) else None
            if damage is not None and not self._damaged:
                log.error("%s. %s", damage, damage.hint)
                self._damaged = True
            self._report.failed(f"the journal can't be read: {error}", damage=damage)
        else:
            self._succeeded()
            return True
        self._failing = True
        return False

    def _keep_up(self) -> None:
        """Make rollups. Damage that is met is as a reader's: the fold, which need not meet it, goes on without them."""
        if self._rollups is None:
            return
        try:
            if self._rollups.make_some():
                self._succeeded()
        except sqlite3.DatabaseError as error:
            if _may_pass(error):
                self._cannot_write(error)
                self._failing = True
            else:
                log.error("%s can't be counted: %s", self._store.path.name, error)
                self._rollups = None
                self._report.distrust()

    def _cannot_write(self, error: sqlite3.DatabaseError) -> None:
        """Of a file that is full or locked, or an I/O error."""
        path = self._store.path
        self._report.failed(f"{path.name} can't be written: {error}", full=is_full(error, path))

    def _is_over(self) -> bool:
        return self._ends_at is not None and self._monotonic() >= self._ends_at

    def _advanced(self, seq: int) -> None:
        self._report.advanced(seq, moved_tasks=self._store.folded_tasks)
        self._succeeded()

    def _succeeded(self) -> None:
        """A batch is folded: whatever was in the way is over, also damage, which the next batch has; far behind, all is long."""
        self._failing = self._damaged = False
        self._report.recovered()


def _may_pass(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, sqlite3.OperationalError) and not is_damage(error)
