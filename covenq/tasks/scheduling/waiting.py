"""Why a queued task waits, in words: the picker's own reasons, for one task."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection

from covenq.config.limits import NO_CAPS, Caps
from covenq.model import State, at_text
from covenq.model.queues import ACT_QUEUE
from covenq.model.rows import Waits
from covenq.model.waiting import Cause
from covenq.state.scoped import scope_of_reader
from covenq.tasks.scheduling import supersede
from covenq.tasks.scheduling.candidates import Candidate
from covenq.tasks.scheduling.limiter import BlockReason, LimitedTask, Limiter
from covenq.text import to_the_second

POSITION_MAX = 1000
"""Positions further back are not counted, so that a page of tasks costs no more than a page."""

_AHEAD = """SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_ready
    WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant = ?
    AND (priority > ? OR (priority = ? AND (sent_at, created_seq) < (?, ?))) LIMIT ?)"""
_DUE_AHEAD = """SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_delayed
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND tenant = ? AND not_before < ? LIMIT ?)"""
_ROW = """SELECT id, state, kind, pull, tenant, route, repo_id, repo, key, number, priority, sent_at, created_seq, not_before,
    category, attempts, since, supersede, source_at FROM tasks WHERE id = ?"""


NOT_YET = BlockReason(
    "not_before", "its time has not come", cause=Cause.NOT_BEFORE, short="a retry's backoff, or a quiet period"
)


def ready_cause(pull: bool) -> Cause:
    """What a task waits for that nothing blocks."""
    return Cause.UNCLAIMED if pull else Cause.WORKER


class Waiting:
    """The reasons why queued tasks wait, at one moment, for any number of tasks."""

    ANY = Candidate("", "", None, None, None, None, None, 0, None, None)
    """A task of which nothing is known."""

    def __init__(
        self, conn: sqlite3.Connection, now: float, caps: Caps = NO_CAPS, in_flight: Collection[LimitedTask] = ()
    ) -> None:
        self._conn = conn
        self._now = at_text(now)
        self._short_of = caps.short_of
        self._stopped = None if caps.stopped is None else _stopped(caps.stopped)
        self.limiter = Limiter(conn, now, caps, in_flight)

    def reason_for(self, task: str) -> Waits | None:
        """Of a queued task; None for any other.

        `position` is the task's position among the ready tasks of its installation, 1 for the next; None where it isn't ready,
        or further back than POSITION_MAX.
        """
        row = self._conn.execute(_ROW, (task,)).fetchone()
        if row is None or row["state"] != State.QUEUED:
            return None
        later = row["not_before"] is not None and row["not_before"] > self._now
        block = self.block(Candidate(*(row[name] for name in Candidate._fields)), later=later)
        position = None if later else self._position(row)
        if later and (block is None or block.cause in (Cause.STOPPED, Cause.NOT_BEFORE)):
            due = _not_yet(row)
            if block is None or block.cause == Cause.NOT_BEFORE:
                return due
            return Waits(block.word, f"{block.why}; and {due.why}", cause=block.cause)
        if block is not None:
            return Waits(block.word, block.why, position, block.cause)
        ready = ready_cause(bool(row["pull"]))
        if row["supersede"] is not None or row["source_at"] is not None:
            superseded = supersede.superseded_by(self._conn, task)
            if superseded is not None:
                return Waits("outdated", f"task {superseded.by} has outdated it: it will be superseded", cause=ready)
        ahead = f"more than {POSITION_MAX}" if position is None else str(position - 1)
        behind = "" if position == 1 else f"; {ahead} of its installation's are ahead of it"
        if row["pull"] == ACT_QUEUE:
            return Waits("daemon", "ready, until the daemon does it, which takes no worker", position, ready)
        if row["pull"]:
            return Waits("pull", f"ready, until a worker elsewhere asks for it{behind}", position, ready)
        if self._short_of is not None:
            return Waits("daemon", f"ready, but {self._short_of}{behind}", position, ready)
        return Waits(
            "worker", f"ready, until a worker of this daemon is free and its turn comes{behind}", position, ready
        )

    def block(self, task: LimitedTask, *, later: bool) -> BlockReason | None:
        """What blocks it, first in the order of causes; `later`: it has a time that hasn't come. None of what is ready."""
        also = [] if self._stopped is None else [self._stopped]
        return self.limiter.first(task, also=[*also, NOT_YET] if later else also)

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is started at all."""
        return self._stopped is not None

    @property
    def holds_all(self) -> bool:
        """Whether the same holds every task: all work is paused, or nothing is started and nothing is paused besides."""
        return self.limiter.check_paused() is not None or (self._stopped is not None and not self.limiter.has_pauses)

    def _position(self, row: sqlite3.Row) -> int | None:
        values: tuple[str | int, ...]
        if row["not_before"] is None:
            first = (row["pull"], row["tenant"], row["priority"], row["priority"])
            sql, values = _AHEAD, (*first, row["sent_at"], row["created_seq"])
        else:
            sql, values = _DUE_AHEAD, (row["pull"], row["tenant"], row["not_before"])
        ahead = int(self._conn.execute(sql, (*values, POSITION_MAX)).fetchone()[0])
        return None if ahead >= POSITION_MAX else ahead + 1


def waiting(conn: sqlite3.Connection, task: str, now: float, caps: Caps = NO_CAPS) -> Waits | None:
    """Why the task with this id waits; see `Waiting.reason_for`."""
    return reasons(conn, now, caps)(task)


def reasons(conn: sqlite3.Connection, now: float, caps: Caps = NO_CAPS) -> Callable[[str], Waits | None]:
    """What says why a task waits. Under a scope by its own row alone: limits, places and pauses are shared with others' tasks."""
    if scope_of_reader(conn) is None:
        return Waiting(conn, now, caps).reason_for
    return lambda task: _own_reason(conn, task, at_text(now))


def _own_reason(conn: sqlite3.Connection, task: str, now: str) -> Waits | None:
    row = conn.execute(_ROW, (task,)).fetchone()
    if row is None or row["state"] != State.QUEUED:
        return None
    if row["not_before"] is not None and row["not_before"] > now:
        return _not_yet(row)
    pull = bool(row["pull"])
    return Waits("pull" if pull else "worker", "ready, until its turn comes", cause=ready_cause(pull))


def _stopped(why: str) -> BlockReason:
    return BlockReason("stopped", f"nothing is started: {why}", cause=Cause.STOPPED, holder=("daemon", ""), short=why)


def _not_yet(row: sqlite3.Row) -> Waits:
    until, cause = to_the_second(row["not_before"]), Cause.NOT_BEFORE
    if row["attempts"]:
        why = f"until {until}, after attempt {row['attempts']} ended ({row['category'] or 'no reason'})"
        return Waits("retry", why, cause=cause)
    if row["since"] is not None:
        return Waits(
            "debounce", f"until {until} at the latest; the burst began at {to_the_second(row['since'])}", cause=cause
        )
    return Waits("debounce", f"until {until}, unless more of the same comes before", cause=cause)
