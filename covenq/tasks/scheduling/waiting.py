"""Why a queued task waits, in words: the picker's own reasons, for one task."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from covenq.config.limits import NO_CAPS, Caps
from covenq.model import State, at_text
from covenq.model.rows import Waits
from covenq.tasks.scheduling import supersede
from covenq.tasks.scheduling.candidates import Candidate
from covenq.tasks.scheduling.limiter import LimitedTask, Limiter

POSITION_MAX = 1000
"""Positions further back are not counted, so that a page of tasks costs no more than a page."""

_AHEAD = """SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_ready
    WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant = ?
    AND (priority > ? OR (priority = ? AND (sent_at, created_seq) < (?, ?))) LIMIT ?)"""
_DUE_AHEAD = """SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_delayed
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND tenant = ? AND not_before < ? LIMIT ?)"""
_ROW = """SELECT id, state, kind, pull, tenant, route, repo_id, repo, key, number, priority, sent_at, created_seq, not_before,
    category, attempts, since, supersede, source_at FROM tasks WHERE id = ?"""


class Waiting:
    """The reasons why queued tasks wait, at one moment, for any number of tasks."""

    def __init__(
        self, conn: sqlite3.Connection, now: float, caps: Caps = NO_CAPS, in_flight: Collection[LimitedTask] = ()
    ) -> None:
        self._conn = conn
        self._now = at_text(now)
        self._short_of = caps.short_of
        self._limiter = Limiter(conn, now, caps, in_flight)

    def reason_for(self, task: str) -> Waits | None:
        """Of a queued task; None for any other.

        `position` is the task's position among the ready tasks of its installation, 1 for the next; None where it isn't ready,
        or further back than POSITION_MAX.
        """
        row = self._conn.execute(_ROW, (task,)).fetchone()
        if row is None or row["state"] != State.QUEUED:
            return None
        if row["not_before"] is not None and row["not_before"] > self._now:
            return _not_yet(row)
        candidate = Candidate(*(row[name] for name in Candidate._fields))
        if row["supersede"] is not None or row["source_at"] is not None:
            superseded = supersede.superseded_by(self._conn, task)
            if superseded is not None:
                return Waits("outdated", f"task {superseded.by} has outdated it: it will be superseded")
        block = self._limiter.check(candidate)
        if block is not None:
            return Waits(block.word, block.why, self._position(row))
        position = self._position(row)
        ahead = f"more than {POSITION_MAX}" if position is None else str(position - 1)
        behind = "" if position == 1 else f"; {ahead} of its installation's are ahead of it"
        if row["pull"]:
            return Waits("pull", f"ready, until a worker elsewhere asks for it{behind}", position)
        if self._short_of is not None:
            return Waits("daemon", f"ready, but {self._short_of}{behind}", position)
        return Waits("worker", f"ready, until a worker of this daemon is free and its turn comes{behind}", position)

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
    return Waiting(conn, now, caps).reason_for(task)


def _not_yet(row: sqlite3.Row) -> Waits:
    until = row["not_before"]
    if row["attempts"]:
        return Waits(
            "retry", f"until {until}, after attempt {row['attempts']} ended ({row['category'] or 'no reason'})"
        )
    if row["since"] is not None:
        return Waits("debounce", f"until {until} at the latest; the burst began at {row['since']}")
    return Waits("debounce", f"until {until}, unless more of the same comes before")
