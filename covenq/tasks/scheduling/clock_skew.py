"""Clock skew: recomputes not-before times written while the wall clock was ahead.

A not-before time is by the wall clock. Where the record that set it was written later than it is now, the clock was ahead then,
and the rest of the wait is unknown. So the wait begins again, by the clock as it is now, with its full length.
"""

from __future__ import annotations

import sqlite3

from covenq.model import Kind, at_text, seconds_or, task_subject
from journal.records import Entry

SKEW_MIN_S = 1.0
"""A clock that is set back by less is only being adjusted."""

_POSTPONED = """SELECT id, not_before, updated_at, since, last_seq FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull IN (0, 1, 2) AND not_before > ? AND updated_at > ? LIMIT ?"""


class ClockSkew:
    """Scans the postponed tasks at the start, and whenever the clock is seen to have been set back.

    Then it scans with every call until the state has folded everything that was written by the clock before.
    """

    def __init__(self) -> None:
        self._latest = float("inf")
        self._until: int | None = None
        """The seq that has to be folded before scanning can end; None: there is nothing to scan for."""

    def corrections(
        self, conn: sqlite3.Connection, now: float, *, folded: int, head: int, limit: int = 256
    ) -> list[tuple[Entry, ...]]:
        """The entries to append for tasks that were postponed by a clock that was ahead; each tuple is one append.

        `folded` is a seq that `conn` has folded at least, `head` the newest durable seq.
        """
        if now < self._latest - SKEW_MIN_S:
            self._latest, self._until = now, head
        self._latest = max(now, self._latest)
        if self._until is None:
            return []
        rows = conn.execute(_POSTPONED, (at_text(now), at_text(now + SKEW_MIN_S), limit)).fetchall()
        if not rows and folded >= self._until:
            self._until = None
        return [(_corrected(row, now),) for row in rows]


def _corrected(row: sqlite3.Row, now: float) -> Entry:
    meant = max(seconds_or(row["not_before"], now) - seconds_or(row["updated_at"], now), 0.0)
    data = {"not_before": at_text(now + meant), "since": row["since"], "reason": "clock"}
    return Entry(task_subject(row["id"]), Kind.DELAYED, data, expect=row["last_seq"])
