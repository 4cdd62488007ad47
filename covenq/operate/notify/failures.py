"""How many attempts of each route ended of late, and how many of them failed: a sliding window, counted as attempts end.

Each look reads the attempts that began since the one before, and those that ran then: it costs what has ended meanwhile, however
many there are in all. What a stop of a daemon or a lost lease cut short says nothing of a route, and isn't counted.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable

import orjson

from covenq.model import Category, State, at_text
from covenq.operate.notify.conditions import Ended

FIRST = 5000
"""Attempts before the first look that are counted with it: the newest, so far as they are in the window."""
READ_MAX = 20_000
"""Attempts that one look reads; the next goes on after them."""
RUNNING_MAX = 10_000
"""Running attempts that are remembered, the newest."""
AHEAD_S = 60.0
"""Seconds that an attempt may have ended after a look began."""

_CUT_SHORT = (Category.INTERRUPTED, Category.LEASE_LOST)
_COLUMNS = "a.claim_seq, a.outcome, a.category, a.ended_at, t.route"
_NEWER = f"""SELECT {_COLUMNS} FROM task_attempts a CROSS JOIN tasks t ON t.id = a.task
    WHERE a.claim_seq > ? ORDER BY a.claim_seq LIMIT ?"""  # noqa: S608 - constants
_RUNNING = f"""SELECT {_COLUMNS} FROM json_each(?) one CROSS JOIN task_attempts a ON a.claim_seq = one.value
    CROSS JOIN tasks t ON t.id = a.task"""  # noqa: S608 - constants
_START = "SELECT claim_seq FROM task_attempts ORDER BY claim_seq DESC LIMIT 1 OFFSET ?"


class FailureWindow:
    """The window. For one thread."""

    def __init__(self) -> None:
        self._after: int | None = None
        self._running: dict[int, None] = {}
        self._minutes: dict[str, deque[list[str | int]]] = {}
        """By route, oldest first: the minute, how many attempts ended in it, how many of them failed."""

    def read(self, conn: sqlite3.Connection, now: float, within_s: float) -> dict[str, Ended]:
        """What ended in so many seconds until `now`, of each route of which anything did. Raises sqlite3.Error."""
        if self._after is None:
            row = conn.execute(_START, (FIRST,)).fetchone()
            self._after = 0 if row is None else int(row[0])
        still = orjson.dumps(list(self._running)).decode()
        rows = conn.execute(_RUNNING, (still,)).fetchall()
        newer = conn.execute(_NEWER, (self._after, READ_MAX)).fetchall()
        if newer:
            self._after = int(newer[-1][0])
        self._running = {}
        self._count([*rows, *newer])
        for seq in list(self._running)[:-RUNNING_MAX]:
            del self._running[seq]
        return self._within(at_text(now - within_s)[:16], at_text(now + AHEAD_S)[:16])

    def forget(self, route: str) -> None:
        """Begin anew with a route: what failed till now is told of in another way, and says nothing of what comes."""
        self._minutes.pop(route, None)

    def _count(self, rows: Iterable[sqlite3.Row]) -> None:
        for seq, outcome, category, ended_at, route in rows:
            if ended_at is None:
                self._running[seq] = None
            elif route is not None and outcome in (State.COMPLETED, State.FAILED) and category not in _CUT_SHORT:
                minutes = self._minutes.setdefault(route, deque())
                minute = ended_at[:16]
                if not minutes or minutes[-1][0] != minute:
                    minutes.append([minute, 0, 0])
                minutes[-1][1] = int(minutes[-1][1]) + 1
                minutes[-1][2] = int(minutes[-1][2]) + (outcome == State.FAILED)

    def _within(self, since: str, until: str) -> dict[str, Ended]:
        """What a clock that was set back since has left after `until` says nothing of now either."""
        found = {}
        for route, before in list(self._minutes.items()):
            minutes = deque(one for one in before if since <= str(one[0]) <= until)
            if not minutes:
                del self._minutes[route]
                continue
            self._minutes[route] = minutes
            found[route] = Ended(sum(int(one[1]) for one in minutes), sum(int(one[2]) for one in minutes))
        return found
