"""The daemon's thread that follows the journal and folds new records into state.db (`covenq.state.store`)."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from covenq.errors import StateBehind
from covenq.rounds import Loop
from covenq.state.store import StateStore
from covenq.text import counted
from journal.errors import JournalDamaged, JournalError
from journal.interface import Journal
from journal.private_database import is_full

log = logging.getLogger("covenq.state")

_FREE_SPACE = "Free space on the data directory's disk: the state catches up by itself, and nothing is lost."

OVERDUE_S = 60.0
"""Seconds without a round, or a transaction, after which the fold is overdue: it polls four times a second."""
STUCK_S = 2.0
"""Seconds of tries that failed after which who waits for the fold is told so, instead of waiting on."""


class FoldThread(threading.Thread):
    """Follows the journal and folds new records, each batch with all that was appended meanwhile.

    A full disk, a locked file or a journal that can't be read interrupt it, and it tries again: `error` gives the reason as
    long as that lasts. Nothing is lost by that, since what is not folded is still in the journal.
    """

    def __init__(
        self,
        store: StateStore,
        journal: Journal,
        *,
        retry_s: float = 0.5,
        poll_s: float = 0.25,
        batch_delay_s: float = 0.05,
        on_full: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_full` makes room when the disk is full, and returns whether it could."""
        super().__init__(name="fold", daemon=True)
        self._store = store
        self._journal = journal
        self._retry_s = retry_s
        self._poll_s = poll_s
        self._batch_delay_s = batch_delay_s
        self._on_full = on_full
        self._monotonic = monotonic
        self.loop = Loop("fold", OVERDUE_S, "what is shown is old, and no new task is started", monotonic)
        self._stopping = threading.Event()
        self._ends_at: float | None = None
        """When it stops folding, though not all is folded; None until `stop`."""
        self._advanced = threading.Condition()
        self._callbacks: tuple[Callable[[int], None], ...] = ()
        self._ended = False
        self._error: str | None = None
        self._failed_at: float | None = None
        """When the first of the tries failed that have failed since the last that didn't."""
        self._full = False
        self._damage: JournalDamaged | None = None
        self._awaited = 0
        """The newest seq that a caller of `wait_for` waits for."""

    @property
    def folded(self) -> int:
        """The newest seq that readers can see."""
        return self._store.folded

    @property
    def lag(self) -> int:
        """How many records are durable and not yet folded."""
        return max(0, self._journal.head().seq - self._store.folded)

    @property
    def error(self) -> str | None:
        """Why the fold makes no progress, in one sentence; None while it does."""
        return self._error

    @property
    def stuck(self) -> bool:
        """Whether it has failed for STUCK_S, and goes on failing: waiting for it is of no use."""
        failed_at = self._failed_at
        return failed_at is not None and self._monotonic() - failed_at >= STUCK_S

    def behind(self) -> StateBehind:
        """The error that what was waited for isn't folded."""
        why = f": {self._error}" if self._error else ""
        return StateBehind(
            f"the state is {counted(self.lag, 'record')} behind the journal{why}",
            hint=_FREE_SPACE if self._full else None,
        )

    @property
    def damage(self) -> JournalDamaged | None:
        """The damage to the journal, if that is why the fold makes no progress."""
        return self._damage

    def subscribe(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the new seq after each fold, on this thread: it must neither block nor raise."""
        with self._advanced:
            self._callbacks = (*self._callbacks, callback)

    def wait_for(self, seq: int, timeout: float, unless: Callable[[], bool] = lambda: False) -> bool:
        """Block until the state has folded `seq` (True), or `timeout` seconds passed, the thread ended or `unless` holds (False).

        `unless` is evaluated whenever the fold has advanced, or failed.
        """
        if self._store.folded >= seq:
            return True
        with self._advanced:
            self._awaited = max(self._awaited, seq)
            self._advanced.notify_all()
            self._advanced.wait_for(lambda: self._store.folded >= seq or self._ended or unless(), timeout)
        return self._store.folded >= seq

    def reach(self, seq: int, timeout: float) -> bool:
        """As `wait_for`, but wait only until it is stuck, or damage is found before `seq`. Raises JournalDamaged for that."""
        if self.wait_for(seq, timeout, lambda: self._damage is not None or self.stuck):
            return True
        damage = self._damage
        if damage is not None:
            raise JournalDamaged(damage.damage)
        return False

    def stop(self, timeout: float = 10.0) -> None:
        """Fold what is durable now, for half of `timeout` at most, then end. The rest is folded at the next start."""
        if self._ends_at is None:
            self._ends_at = self._monotonic() + timeout / 2
        self._stopping.set()
        if self.ident is not None:
            self.join(timeout)

    def run(self) -> None:
        self.loop.done()
        try:
            while not self._stopping.is_set():
                if self._error is None:
                    self.loop.done()
                if self._journal.wait(self._store.folded, self._poll_s):
                    began = self._monotonic()
                    if not self._catch_up():
                        self._stopping.wait(self._retry_s)
                    else:
                        took = self._monotonic() - began
                        self._let_batch_grow(
                            min(took, self._batch_delay_s) if self._store.folded_tasks else self._batch_delay_s
                        )
                else:
                    # A journal that is closed or poisoned answers at once.
                    self._stopping.wait(0.01)
            self._catch_up()
            self.loop.end()
        except BaseException as error:
            self.loop.failed(error)
            self._error = f"the fold ended: {error!r}"
            raise
        finally:
            with self._advanced:
                self._ended = True
                self._advanced.notify_all()

    def _let_batch_grow(self, batch_delay_s: float) -> None:
        """Wait so that the next batch grows, unless somebody waits for a seq.

        A transaction of many records costs little more than one of a few, and each competes with the threads that accept
        deliveries. After a batch with records of tasks it waits only as long as its transaction took (a millisecond or so;
        under load half of the time), since workers wait for tasks.
        """
        with self._advanced:
            self._advanced.wait_for(
                lambda: self._awaited > self._store.folded or self._stopping.is_set(), batch_delay_s
            )

    def _catch_up(self) -> bool:
        damage: JournalDamaged | None = None
        self._full = False
        try:
            self._fold()
        except sqlite3.OperationalError as error:  # full, locked, an I/O error: it may pass
            self._full = is_full(error, self._store.path)
            self._error = f"{self._store.path.name} can't be written: {error}"
        except sqlite3.DatabaseError as error:
            if self._error is None:
                log.error("%s is damaged; restart the daemon, and it is made again: %s", self._store.path.name, error)
            self._error = f"{self._store.path.name} is damaged and will be made again at the next start: {error}"
            with suppress(sqlite3.Error):
                self._store.mark_for_rebuild()
        except (JournalError, OSError) as error:
            self._error = f"the journal can't be read: {error}"
            damage = error if isinstance(error, JournalDamaged) else None
        else:
            self._error = None
        if self._error is None:
            self._failed_at = None
        elif self._failed_at is None:
            self._failed_at = self._monotonic()
        if damage is not None and self._damage is None:
            log.error("%s. %s", damage, damage.hint)
        if damage is not self._damage or self._error is not None:
            with self._advanced:
                self._damage = damage
                self._advanced.notify_all()
        return self._error is None

    def _fold(self) -> None:
        """Catch up; on a full disk once more, if room could be made: without the fold nothing is seen, and no task starts."""
        try:
            self._store.catch_up(self._notify, self._is_over)
        except sqlite3.OperationalError as error:
            if not (is_full(error, self._store.path) and self._on_full()):
                raise
            self._store.catch_up(self._notify, self._is_over)

    def _is_over(self) -> bool:
        return self._ends_at is not None and self._monotonic() >= self._ends_at

    def _notify(self, seq: int) -> None:
        self.loop.progress()
        with self._advanced:
            self._advanced.notify_all()
            callbacks = self._callbacks
        for callback in callbacks:
            callback(seq)
