"""What upkeep does in a data directory: applies retention, erases, completes interrupted erasures.

The daemon does it in a thread of its own (`upkeep.Upkeep`), a command without a daemon in its process. An erasure is interrupted
by a crash or by a full disk.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from covenq.config.retention import Retention
from covenq.errors import ErasurePending
from covenq.filter.grammar import Filter
from covenq.operate.act import pauses
from covenq.operate.answers import AbsentNode, Compaction, Mentions, Policy, Redaction
from covenq.operate.maintain import backup_list, cleanup, redaction, retention
from covenq.operate.maintain.mentions import mentions
from covenq.operate.parameters import Compact, Redact
from covenq.tasks.execution.removal import LEFT_MAX
from journal.append import erase_known
from journal.errors import ErasureFailed, JournalDamaged
from journal.interface import Erasing, Progress, SpaceReserve
from journal.records import Conflict, Rewritten

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
    absent: Callable[[], list[AbsentNode]] = list
    """The nodes that share the journal and aren't there."""

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
        nodes=context.absent() if answer.done or wanted.dry_run else [],
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
    expired, left = expire(context, now, dry_run=wanted.dry_run)
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
    head = context.journal.head().seq
    context.fold()
    return clean_up(context, head)


def clean_up(context: UpkeepContext, folded: int) -> cleanup.CleanupResult:
    """`cleanup.finish` of what records up to `folded` have erased, all of which are folded."""
    return cleanup.finish(
        context.conn(), context.data, context.journal.id, folded, context.truncate_wal, step=context.step
    )


def expire(context: UpkeepContext, now: float, *, dry_run: bool) -> tuple[int, list[str]]:
    """Remove the files of attempts that are too old: of how many tasks, and what could not be removed."""
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
