"""What queued tasks wait for, and how many for each: the status, doctor, the Overview and the metrics have it from here.

Each queued task is counted once, under the cause that comes first in `covenq.model.waiting.Cause`; a task's own `waits` names the
same one (`covenq.tasks.scheduling.waiting`, which both ask).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from covenq.config.limits import Caps
from covenq.model import State, at_text
from covenq.model.waiting import ORDER, Cause, WaitingTasks, command_for
from covenq.state import query, repositories, schema
from covenq.state.fold_pauses import PauseTarget
from covenq.state.readers import snapshot
from covenq.tasks.scheduling.limiter import BlockReason
from covenq.tasks.scheduling.queue_groups import QueueGroup, queue_groups
from covenq.tasks.scheduling.waiting import NOT_YET, Waiting, ready_cause

LINES_MAX = 10
"""Lines of one cause, those with the most tasks; the others are told together in one more."""
KEPT_TIMES = 20
"""A count that took long is kept for so many times as long, so that it takes a twentieth of one processor's time at most."""
LONG_S = 0.02
BEING_MADE = "state.db is being made anew from the journal"

_OLDEST = "SELECT id, created_at FROM tasks WHERE created_seq = ?"
_FIRST = "SELECT min(created_seq) FROM tasks WHERE state = ?"
_TAKEN = "SELECT route, count(*) FROM tasks WHERE state = 'running' AND pull GROUP BY 1"
_NUMBERS = """SELECT DISTINCT repo_id FROM tasks
    WHERE repo = ? COLLATE NOCASE AND +state = 'queued' AND repo_id IS NOT NULL"""
_PAUSES = "SELECT group_concat(seq) FROM (SELECT seq FROM pauses ORDER BY seq)"


@dataclass(slots=True)
class _Line:
    cause: Cause
    holder: tuple[str, str]
    why: str
    since: str | None
    count: int = 0
    oldest: int = 0
    until: str | None = None

    def add(self, count: int, oldest: int, until: str | None) -> None:
        self.oldest = min(self.oldest, oldest) if self.count else oldest
        self.count += count
        self.until = min(filter(None, (self.until, until)), default=None)


def waiting(conn: sqlite3.Connection, now: float, caps: Caps) -> list[WaitingTasks]:
    """What queued tasks wait for under the limits `caps`, in the order of causes, the most tasks first."""
    with snapshot(conn):
        if not schema.counts_queue(conn):
            caps = replace(caps, stopped=caps.stopped or BEING_MADE)
        return _lines(conn, now, caps)


def _lines(conn: sqlite3.Connection, now: float, caps: Caps) -> list[WaitingTasks]:
    reasons = Waiting(conn, now, caps)
    lines: dict[tuple[Cause, tuple[str, str]], _Line] = {}
    alike: dict[tuple[object, ...], tuple[_Line, str | None]] = {}
    taken: dict[str | None, int] | None = None
    for group in _groups(conn, at_text(now), reasons):
        same = group.pull, group.later, reasons.limiter.depends_on(group.task)
        if same not in alike:
            block = reasons.block(group.task, later=group.later)
            if block is None and group.pull and taken is None:
                taken = dict(conn.execute(_TAKEN).fetchall())
            line = _ready(group, caps, taken or {}) if block is None else _blocked(block, group)
            alike[same] = lines.setdefault((line.cause, line.holder), line), None if block is None else block.until
        line, until = alike[same]
        line.add(group.number, group.oldest, group.until if line.cause == Cause.NOT_BEFORE else until)
    return [one for cause in ORDER for one in _told(conn, [line for line in lines.values() if line.cause == cause])]


def by_cause(found: Iterable[WaitingTasks]) -> dict[str, int]:
    """How many wait for each cause, every cause named."""
    counts = dict.fromkeys(map(str, ORDER), 0)
    for one in found:
        counts[one.cause] += one.count
    return counts


class KeptWaiting:
    """`waiting`, for a daemon: of a long queue as it was a moment ago, except where something was paused or resumed since.

    Methods may be called from any thread.
    """

    def __init__(
        self,
        caps: Callable[[], Caps],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caps = caps
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: tuple[float, object, list[WaitingTasks]] | None = None

    def read(self, conn: sqlite3.Connection) -> list[WaitingTasks]:
        """Raises sqlite3.Error."""
        with self._lock:  # one counts, and the others have its result
            pauses = conn.execute(_PAUSES).fetchone()[0]
            began = self._monotonic()
            if self._kept is not None and began < self._kept[0] and self._kept[1] == pauses:
                return list(self._kept[2])
            found = waiting(conn, self._clock(), self._caps())
            took = self._monotonic() - began
            self._kept = (began + took * (1 + KEPT_TIMES), pauses, found) if took > LONG_S else None
            return list(found)


def _groups(conn: sqlite3.Connection, now: str, reasons: Waiting) -> Iterable[QueueGroup]:
    """The queue, whole in one group where one and the same holds all of it, so that nothing has to be counted."""
    counted = schema.counts_queue(conn)
    if reasons.holds_all or not counted:
        number = query.counts(conn)["tasks"].get(State.QUEUED, 0)
        first = conn.execute(_FIRST, (State.QUEUED,)).fetchone()[0] if counted else 0
        return [QueueGroup(reasons.ANY, False, False, number, first, None)] if number and first is not None else []
    limiter = reasons.limiter
    keys = [] if reasons.is_stopped else limiter.keys()  # then it is told first
    return queue_groups(conn, now, keys, _by_name(conn, limiter.names_paused()))


def _by_name(conn: sqlite3.Connection, names: Sequence[str]) -> list[int]:
    """The repositories whose queued tasks a pause may hold by their name: those without a number, and what else has the name."""
    found = {0} if names else set()
    for name in names:
        found |= {row[0] for row in conn.execute(_NUMBERS, (name,))}
    return sorted(found)


def _ready(group: QueueGroup, caps: Caps, taken: dict[str | None, int]) -> _Line:
    cause, route = ready_cause(group.pull), group.task.route
    if cause == Cause.UNCLAIMED:
        held = taken.get(route, 0)
        why = f"more than its workers take: {held:,} run" if held else "nobody claims them"
        return _Line(cause, (PauseTarget.ROUTE, route or ""), why, None)
    why = "ready: they start as workers come free"
    if caps.short_of is not None:
        why = caps.short_of
    elif caps.all_busy is not None:
        why = f"all {caps.all_busy} workers are busy" if caps.all_busy > 1 else "the one worker is busy"
    return _Line(cause, (PauseTarget.WORKER, ""), why, None)


def _blocked(block: BlockReason, group: QueueGroup) -> _Line:
    if block is NOT_YET:
        return _Line(block.cause, (PauseTarget.ROUTE, group.task.route or ""), block.short, None)
    return _Line(block.cause, block.holder, block.short, block.since)


def _told(conn: sqlite3.Connection, lines: Sequence[_Line]) -> list[WaitingTasks]:
    """The lines of one cause, bounded."""
    ordered = sorted(lines, key=lambda line: (-line.count, line.oldest))
    found = [_line(conn, line, _scope(conn, line), line.why) for line in ordered[:LINES_MAX]]
    if rest := ordered[LINES_MAX:]:
        together = _Line(rest[0].cause, ("", ""), "", None)
        for line in rest:
            together.add(line.count, line.oldest, line.until)
        found.append(_line(conn, together, None, f"{len(rest):,} more of these"))
    return found


def _line(conn: sqlite3.Connection, line: _Line, scope: str | None, why: str) -> WaitingTasks:
    row = conn.execute(_OLDEST, (line.oldest,)).fetchone()
    task, oldest = (None, None) if row is None else (str(row[0]), str(row[1]))
    command = None if scope is None else command_for(line.cause, line.holder, line.why)
    return WaitingTasks(line.cause.value, scope, line.count, oldest, line.until, command, why, line.since, task)


def _scope(conn: sqlite3.Connection, line: _Line) -> str:
    what, name = line.holder
    if what == PauseTarget.REPO and name.isdecimal():
        name = repositories.present_name(conn, int(name)) or name
    return f"{what} {name}".strip()
