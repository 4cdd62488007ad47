"""Upkeep of a data directory: applies retention, erases, completes interrupted erasures.

The daemon does this in a thread of its own (`Upkeep`), a command without a daemon in its process. An erasure is interrupted by
a crash or by a full disk.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from covenq.config.load import Retention
from covenq.errors import CovenqError, ErasurePending, MaintenanceInterrupted, Refused, StateBehind
from covenq.filter.grammar import Filter
from covenq.model.status import UpkeepWork
from covenq.operate.act import pauses
from covenq.operate.answers import Compaction, Mentions, Policy, Redaction
from covenq.operate.maintain import backup_list, cleanup, redaction, retention
from covenq.operate.maintain.mentions import mentions
from covenq.operate.parameters import Compact, Redact
from covenq.rounds import Loop
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.execution.removal import LEFT_MAX
from journal.append import erase_known
from journal.errors import ErasureFailed, JournalClosed, JournalDamaged, JournalError, JournalPoisoned
from journal.interface import Erasing, Progress, SpaceReserve
from journal.records import Conflict, Rewritten

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


@dataclass(frozen=True, slots=True)
class UpkeepContext:
    """What upkeep works on.

    `fold` folds everything durable into `conn`'s rows, or raises; `truncate_wal` is `StateStore.truncate_wal`.
    """

    journal: Erasing
    data: Path
    policy: Retention
    conn: Callable[[], sqlite3.Connection]
    fold: Callable[[], None]
    truncate_wal: Callable[[], bool]
    clock: Callable[[], float] = time.time
    stopped: Callable[[], bool] = lambda: False
    """Whether to give up an erasure that the journal doesn't answer; it is repeated until then."""
    step: Callable[[], None] = lambda: None
    """Called after each step of what takes long."""
    make_room: Callable[[], object] = lambda: None
    """Called before what frees space, which needs some itself: on a disk that has none, the space that was set aside."""

    def rows(self) -> sqlite3.Connection:
        """A connection to rows into which everything durable at the call is folded."""
        self.fold()
        return self.conn()


def redact(context: UpkeepContext, progress: Progress | None, wanted: Redact, filter: Filter | None) -> Redaction:
    """Erase what is wanted (see `redaction.plan_redact`), everywhere that covenq keeps it.

    What only the operator can reach is in the answer's `copies` (`backup_list.copies`).
    """
    if not wanted.dry_run:
        context.make_room()
    context.fold()
    plan = redaction.plan_redact(context.journal, context.conn(), wanted, filter)
    repositories = redaction.meant(context.conn(), wanted)
    # What pauses and scopes hold is asked for by the name that was given, too.
    names = list(
        dict.fromkeys([*([wanted.repo] if wanted.repo else []), *(name for one in repositories for name in one.names)])
    )
    rewritten = Rewritten()
    gone = cleanup.CleanupResult()
    elsewhere: Mentions | None = None
    known = redaction.is_known(context.conn(), wanted, repositories)
    if names and (wanted.dry_run or not known):
        elsewhere = mentions(context.journal, names, {*plan.eligible, *(one.id for one in plan.skipped)})
    if not known and not (elsewhere is not None and elsewhere.deliveries):
        if not wanted.dry_run:
            finish(context, progress)  # of the same erasure, perhaps, which was cut short after it had taken the name
        raise redaction.unknown(wanted)
    if wanted.dry_run:
        answer = plan.answer()
    else:
        # What deliveries tell of the pauses goes with them, also where a crash cuts this short: so the pauses come first.
        pauses.number(context.journal, context.rows)
        numbers = [one.repo_id for one in repositories if one.repo_id is not None]
        numbers += [] if wanted.repo_id is None or wanted.repo_id in numbers else [wanted.repo_id]
        pending: ErasurePending | JournalDamaged | None = None
        try:
            rewritten += _erase_names(context, progress, wanted, names, numbers)
        except (ErasurePending, JournalDamaged) as error:
            pending = error  # what holds that up may be in another segment than the deliveries
        answer, done = redaction.apply(plan, context.journal, context.fold, progress)
        rewritten += done
        gone = _finish(context)
        if pending is not None:
            raise pending
    return Redaction(
        answer.eligible,
        answer.skipped,
        answer.done,
        answer.summary,
        answer.next,
        segments=len(rewritten.parts),
        freed=rewritten.freed,
        attempts=gone.attempts,
        left=list(gone.left),
        copies=backup_list.copies(context.data),
        copies_unread=backup_list.unreadable(context.data),
        repositories=repositories,
        elsewhere=elsewhere,
    )


def _erase_names(
    context: UpkeepContext, progress: Progress | None, wanted: Redact, names: Sequence[str], numbers: Sequence[int]
) -> Rewritten:
    """Erase a repository's names from the records of its pauses and scopes, too."""
    if not names and not numbers:
        return Rewritten()
    entry = redaction.names_erasure(context.conn(), names, numbers, reason=wanted.reason, by=wanted.by)
    if entry is None:
        return Rewritten()
    try:
        return erase_known(context.journal, [entry], progress)[1]
    except ErasureFailed as error:
        raise ErasurePending(f"not all of it could be rewritten: {error}") from error


def compact(context: UpkeepContext, progress: Progress | None, wanted: Compact, *, all: bool = True) -> Compaction:
    """Drop what the policy no longer keeps. `all`: everything that can go, not only where rewriting a segment is worth it."""
    if not wanted.dry_run:
        context.make_room()
        _resume_erasure(context, progress)
    context.fold()
    now = context.clock()
    sizes = context.journal.parts()
    deliveries = payload_bytes = segments = 0
    rewritten = Rewritten()
    batch: list[retention.Segment] = []
    for segment in retention.droppable(context.conn(), sizes, context.policy, now, all=all, step=context.step):
        deliveries += segment.deliveries
        payload_bytes += segment.payload_bytes
        segments += 1
        if wanted.dry_run:
            continue
        batch.append(segment)
        if len(batch) == retention.SEGMENTS_AT_ONCE:
            rewritten += _drop(context, batch, wanted.by, progress)
            batch = []
    if batch:
        rewritten += _drop(context, batch, wanted.by, progress)
    gone = cleanup.CleanupResult() if wanted.dry_run else _finish(context)
    expired, left = _expire(context, now, dry_run=wanted.dry_run)
    return Compaction(
        policy=Policy(context.policy.payloads_s, context.policy.attempts_s),
        segments=segments,
        freed=rewritten.freed,
        attempts=gone.attempts + expired,
        left=[*gone.left, *left],
        deliveries=deliveries,
        payload_bytes=payload_bytes,
        dry_run=wanted.dry_run,
    )


def finish(context: UpkeepContext, progress: Progress | None = None) -> cleanup.CleanupResult:
    """Finish erasures that were recorded and not carried out everywhere. Cheap where there are none."""
    _resume_erasure(context, progress)
    context.fold()
    return _finish(context)


def _drop(
    context: UpkeepContext, batch: Sequence[retention.Segment], by: str | None, progress: Progress | None
) -> Rewritten:
    try:
        answer, rewritten = erase_known(
            context.journal, retention.entries(batch, by), progress, math.inf, stopped=context.stopped
        )
    except ErasureFailed as error:
        raise ErasurePending(f"not all of it could be rewritten: {error}") from error
    if isinstance(answer, Conflict):
        raise AssertionError("these records expect nothing")
    return rewritten


def _resume_erasure(context: UpkeepContext, progress: Progress | None) -> None:
    if context.journal.erasing:
        try:
            context.journal.resume_erasure(progress)
        except ErasureFailed as error:
            raise ErasurePending(f"an earlier erasure can't be carried out: {error}") from error


def _finish(context: UpkeepContext) -> cleanup.CleanupResult:
    context.fold()
    folded = context.journal.head().seq
    return cleanup.finish(
        context.conn(), context.data, context.journal.id, folded, context.truncate_wal, step=context.step
    )


def _expire(context: UpkeepContext, now: float, *, dry_run: bool) -> tuple[int, list[str]]:
    removed = 0
    left: list[str] = []
    for task in retention.expired_attempts(context.conn(), context.data, context.policy, now):
        if dry_run:
            removed += 1
            continue
        context.step()
        gone, failed = cleanup.remove_attempts(context.data, task)
        removed += gone
        left += failed[: LEFT_MAX - len(left)]
    return removed, left


def make_room(reserve: SpaceReserve | None) -> None:
    """Give up the space that was set aside, if there is more of it than is free. Raises OSError."""
    if reserve is not None and reserve.release_if_full():
        log.warning("the disk is full: the ballast was released, so that content can be erased")


# ---- in the daemon


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
                    error = self._finish()
                    self._apply_retention()
                    self.error = error
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

    def _finish(self) -> str | None:
        """Carry out what erasures have left; why that can't be done now, if it is so. It is tried again."""
        if not (self._unfinished.is_set() or self.context.journal.erasing):
            return None
        if not self._working.acquire(blocking=False):
            return self.error
        try:
            with self._reporting("finish") as progress:
                result = finish(self.context, progress)
        finally:
            self._working.release()
        if result.complete:
            self._unfinished.clear()
            return None
        self._next_try = time.monotonic() + (RETRY_S if result.left else READ_S)
        if not result.left:
            return None
        error = f"files of erased deliveries can't be removed: {result.left[0]}"
        self._log_once(error)
        return error

    def _apply_retention(self) -> None:
        context = self.context
        if context.policy == Retention():
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
