"""The daemon's upkeep: a thread that applies retention, erases, and completes interrupted erasures (`upkeep_work`).

Where several nodes share a journal, the one that leads takes content out of that. Every node does so with its own files: those of
attempts, and older pages of state.db, as far as it has folded the records that say what is gone. A node that was away does it
when it is back.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from covenq.config.retention import Retention
from covenq.errors import CovenqError, MaintenanceInterrupted, Refused, StateBehind
from covenq.model.status import UpkeepWork
from covenq.operate.answers import AbsentNode
from covenq.operate.maintain import cleanup
from covenq.operate.maintain.uninstall_work import IsInstalled, Uninstalls
from covenq.operate.maintain.upkeep_work import UpkeepContext, clean_up, compact, expire, finish, make_room
from covenq.operate.parameters import Compact
from covenq.rounds import Loop
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from journal.errors import JournalClosed, JournalError, JournalPoisoned
from journal.interface import Erasing, Progress, SpaceReserve

DAY_S = 24 * 3600.0
TICK_S = 1.0
OVERDUE_S = 600.0
"""Seconds without a round, or a step of one that is long, after which upkeep is overdue. A step is a segment, or a directory."""
RETRY_S = 300.0
BEHIND_RETRY_S = 5.0
"""Where the state was merely behind."""
"""Seconds from a failure to the next try."""
READ_S = 10.0
"""Seconds to the next try where older pages of state.db, which may hold erased content, are still being read."""

log = logging.getLogger("covenq.upkeep")


class Upkeep(threading.Thread):
    """The daemon's thread: allocates the ballast file, finishes interrupted work, and applies retention once a day at most.

    Operations on stored deliveries hold the lock `operations_lock`, so that none makes a task of one that is being erased.
    """

    def __init__(
        self,
        journal: Erasing,
        readers: Readers,
        fold: FoldProgress,
        data: Path,
        policy: Callable[[], Retention],
        *,
        truncate_wal: Callable[[], bool],
        reserve: SpaceReserve | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name="upkeep", daemon=True)
        self._met = readers.met
        self.operations_lock = threading.Lock()
        self.error: str | None = None
        """Why the thread's last work failed; None if it didn't."""
        self.loop = Loop("upkeep", OVERDUE_S, "nothing expires, and no erasure is completed")
        self._working = threading.Lock()
        self._stop_asked = threading.Event()
        self._reserve = reserve
        self._progress = fold
        self._doing: UpkeepWork | None = None
        self._unfinished = threading.Event()
        """Set while an erasure may not be carried out everywhere: at the start, and after each piece of work."""
        self._unfinished.set()
        self._leads: Callable[[], bool] = lambda: True
        self._uninstalls = Uninstalls(lambda installation, app: None)
        self._carried_out = cleanup.read_watermark(data, journal.id).done
        self._expired_at: float | None = None
        self._next_try = 0.0
        self._policy = policy
        self._base_context = UpkeepContext(
            journal,
            data,
            policy(),
            readers.reader,
            self._fold,
            truncate_wal,
            clock,
            self._stop_asked.is_set,
            self._step,
            lambda: make_room(reserve),
        )

    def share(self, leads: Callable[[], bool], absent: Callable[[], list[AbsentNode]]) -> None:
        """Other nodes have the journal, too; before the start.

        `leads`: whether this one does what is to be done to the journal, and not to its own files alone; `absent` are the nodes
        that aren't there.
        """
        self._leads = leads
        self._base_context = replace(self._base_context, absent=absent)

    def asks(self, is_installed: IsInstalled) -> None:
        """What asks GitHub whether an installation is still there; before the start. Without it what is held decides."""
        self._uninstalls = Uninstalls(is_installed)

    @property
    def uninstalls_wait(self) -> dict[int, str]:
        """Why uninstalled installations that are due are not erased."""
        return self._uninstalls.waits()

    @property
    def context(self) -> UpkeepContext:
        """The context, with the policy that is in effect now."""
        return replace(self._base_context, policy=self._policy())

    @property
    def doing(self) -> UpkeepWork | None:
        """The work under way, in segments; None if there is none."""
        return self._doing

    @contextmanager
    def redacting(self, *, dry_run: bool) -> Iterator[tuple[UpkeepContext, Progress | None]]:
        """What `redact` works on in this daemon. Waits for another redaction or compaction."""
        if dry_run:
            yield self.context, None
            return
        with self.operations_lock, self._working, self._reporting("redact") as progress:
            self._unfinished.set()
            yield self.context, progress

    @contextmanager
    def compacting(self, *, dry_run: bool) -> Iterator[tuple[UpkeepContext, Progress | None]]:
        """What `compact` works on in this daemon. Raises Refused during another redaction or compaction."""
        if dry_run:
            yield self.context, None
            return
        if not self._working.acquire(blocking=False):
            raise Refused("the journal is being compacted, or erased from, already", hint="Try again when it is done.")
        try:
            with self._reporting("compact") as progress:
                self._unfinished.set()
                yield self.context, progress
        finally:
            self._working.release()

    def stop(self, timeout: float) -> None:
        """End after the current segment. What was recorded and not carried out is finished at the next start."""
        self._stop_asked.set()
        if self.ident is not None:
            self.join(timeout)
        # A request's work, too: the journal must not be closed under it.
        if self._working.acquire(timeout=timeout):
            self._working.release()

    def run(self) -> None:
        while True:
            self.loop.done()
            try:
                self._allocate_ballast()
                if time.monotonic() >= self._next_try:
                    self.error = self._work() if self._leads() else self._follow()
            except (JournalPoisoned, JournalClosed, MaintenanceInterrupted):
                break
            except (CovenqError, JournalError, OSError, sqlite3.Error) as error:
                self._next_try = time.monotonic() + (BEHIND_RETRY_S if isinstance(error, StateBehind) else RETRY_S)
                self._log_once(str(error))
                self.error = str(error)
                self._met(error)
            except Exception as error:
                # No error may end upkeep until a restart: what was to be forgotten would stay.
                self._next_try = time.monotonic() + RETRY_S
                self.error = f"covenq itself failed ({type(error).__name__}); its log has the traceback"
                log.exception("upkeep could not go on; it is tried again")
            if self._stop_asked.wait(TICK_S):
                break
        self.loop.end()

    def _log_once(self, why: str) -> None:
        """Not at every try, of which there is one every few seconds for as long as a journal is damaged."""
        if why != self.error:
            log.error("upkeep waits: %s", why)

    def _step(self) -> None:
        """A step of the thread's own work. Requests do work of their own, and say nothing of this thread."""
        if threading.current_thread() is self:
            self.loop.progress()

    def _allocate_ballast(self) -> None:
        if self._reserve is not None:
            self._reserve.restore()

    @property
    def carried_out(self) -> int:
        """The record up to which every erasure is carried out on this node's files, too. Costs nothing, and raises nothing.

        Where this node leads, whatever is begun is unfinished before it is recorded.
        """
        folded = self._progress.folded
        if self._leads() and not self._unfinished.is_set():
            return max(folded, self._carried_out)
        return self._carried_out

    def _work(self) -> str | None:
        error = self._finish()
        self._apply_retention()
        if self._uninstalls.work(self.context, lambda: self.redacting(dry_run=False)):
            self._next_try = time.monotonic() + READ_S
        return error

    def _follow(self) -> str | None:
        """Do on this node's files what the node that leads has recorded; why that can't be done now, if it is so."""
        folded = self._progress.folded
        if folded == self._carried_out and self._is_expired():
            return None
        context = self.context
        result = clean_up(context, folded)
        if not self._is_expired():
            _, left = expire(context, context.clock(), dry_run=False)
            self._expired_at = context.clock()
            if left:
                log.warning("files of old attempts can't be removed: %s", left[0])
        if result.complete:
            self._carried_out = max(folded, self._carried_out)
        return self._not_removed(result)

    def _is_expired(self) -> bool:
        """Whether what is too old was removed here less than a day ago, by this process."""
        return self._expired_at is not None and 0 <= self.context.clock() - self._expired_at < DAY_S

    def _not_removed(self, result: cleanup.CleanupResult) -> str | None:
        """When it is tried again, and why, if not all was removed."""
        if result.complete:
            return None
        self._next_try = time.monotonic() + (RETRY_S if result.left else READ_S)
        if not result.left:
            return None
        error = f"files of erased deliveries can't be removed: {result.left[0]}"
        self._log_once(error)
        return error

    def _finish(self) -> str | None:
        """Carry out what erasures have left; why that can't be done now, if it is so. It is tried again."""
        if not (self._unfinished.is_set() or self.context.journal.erasing):
            return None
        if not self._working.acquire(blocking=False):
            return self.error
        try:
            folded = self._progress.folded
            with self._reporting("finish") as progress:
                result = finish(self.context, progress)
            if result.complete:
                self._unfinished.clear()
                self._carried_out = max(folded, self._carried_out)
        finally:
            self._working.release()
        return self._not_removed(result)

    def _apply_retention(self) -> None:
        context = self.context
        if context.policy.payloads_s is None and context.policy.attempts_s is None:
            return
        now = context.clock()
        watermark = cleanup.read_watermark(context.data, context.journal.id)
        if 0 <= now - watermark.retained_at < DAY_S:
            return
        try:
            with self.compacting(dry_run=False) as (files, progress):
                done = compact(files, progress, Compact(by="daemon"), all=False)
        except Refused:
            return
        watermark = cleanup.read_watermark(context.data, context.journal.id)
        cleanup.write_watermark(context.data, replace(watermark, retained_at=now))
        if done.left:
            log.warning("files of old attempts can't be removed: %s", done.left[0])
        if done.deliveries or done.attempts:
            log.info(
                "retention dropped %d payloads in %d segments, and the files of %d tasks",
                done.deliveries,
                done.segments,
                done.attempts,
            )

    @contextmanager
    def _reporting(self, what: str) -> Iterator[Progress]:
        """Shows the work in the status; the progress callback ends it, between two segments, when the daemon stops."""
        self._doing = UpkeepWork(what, 0, 0)

        def progress(done: int, total: int) -> None:
            self._doing = UpkeepWork(what, done, total)
            self._step()
            if self._stop_asked.is_set():
                raise MaintenanceInterrupted("the daemon is stopping")

        try:
            yield progress
        finally:
            self._doing = None

    def _fold(self) -> None:
        head = self.context.journal.head().seq
        deadline = time.monotonic() + 60.0
        while not self._progress.wait_for(head, 0.5):
            self._step()
            if self._stop_asked.is_set():
                raise MaintenanceInterrupted("the daemon is stopping")
            if self._progress.stuck or time.monotonic() > deadline:
                raise self._progress.behind()
