"""Sums of tasks by installation, repository and familiar: how many there are, how they ended, and how long their attempts ran.

A task counts once, however many attempts it had, and so does each attempt's time: the two are summed apart.

Tasks change for ever (one is queued again after a year), so sums are kept of blocks of them, by the seqs of their first records,
and one that has a task with a newer record than the sums were made at is summed again. Which those are is read from the index
on tasks' newest records. So all are read once, and afterwards those of the blocks where something happened.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from covenq.state import schema
from covenq.state.in_scope import Scope, holds

BLOCK = 1 << 17
"""Seqs of a block."""
KEPT_MAX = 50_000
"""Groups of all blocks together that are kept, which is some 15 MiB. Of more, all are summed each time."""

Group = tuple[int | None, int | None, str | None, str | None]
"""Installation, repository's number, its name where it has no number, familiar."""


@dataclass(slots=True)
class TaskSum:
    """Of the tasks of a group."""

    tasks: int = 0
    completed: int = 0
    failed: int = 0
    running_us: int = 0
    """Microseconds that ended attempts took, all together."""

    def add(self, other: TaskSum) -> None:
        self.tasks += other.tasks
        self.completed += other.completed
        self.failed += other.failed
        self.running_us += other.running_us


_GROUP = "t.installation, t.repo_id, CASE WHEN t.repo_id IS NULL THEN t.repo END, t.familiar"
_US = "CAST(strftime('%s', {at}) AS INTEGER) * 1000000 + CAST(substr({at}, 21, 6) AS INTEGER)"
_TASKS = f"""SELECT {_GROUP}, count(*), sum(t.state = 'completed'), sum(t.state = 'failed') FROM tasks t
    WHERE t.created_seq BETWEEN ? AND ? GROUP BY {_GROUP}"""  # noqa: S608 - constants
_TIMES = f"""SELECT {_GROUP}, sum(max(0, {_US.format(at="a.ended_at")} - ({_US.format(at="a.started_at")})))
    FROM tasks t CROSS JOIN task_attempts a ON a.task = t.id
    WHERE t.created_seq BETWEEN ? AND ? AND t.attempts > 0 AND a.ended_at IS NOT NULL GROUP BY {_GROUP}"""  # noqa: S608
_CHANGED = "SELECT DISTINCT created_seq / ? FROM tasks WHERE last_seq > ?"
_ERASED = "SELECT max(redacted) FROM webhook_deliveries WHERE redacted IS NOT NULL"


@dataclass(slots=True)
class _Made:
    """The sums of blocks as they were made, of one journal, up to the record `folded`."""

    journal: str
    epoch: str
    folded: int = 0
    erased: int = 0
    blocks: dict[int, dict[Group, TaskSum]] = field(default_factory=dict)


class TaskSums:
    """The sums, kept for whoever asks next. From any thread: one sums at a time, and the others wait for it."""

    def __init__(self, block: int = BLOCK, kept_max: int = KEPT_MAX) -> None:
        self._block = block
        self._kept_max = kept_max
        self._lock = threading.Lock()
        self._made: _Made | None = None

    def of(self, conn: sqlite3.Connection, scope: Scope | None) -> Mapping[Group, TaskSum]:
        """The scope's. `conn` shows everything, whatever the scope, and is in a read transaction."""
        with self._lock:
            made = self._renewed(conn)
            found: dict[Group, TaskSum] = {}
            for block in made.blocks.values():
                for group, one in block.items():
                    if holds(scope, group[0], group[1]):
                        found.setdefault(group, TaskSum()).add(one)
            return found

    def _renewed(self, conn: sqlite3.Connection) -> _Made:
        position = schema.position(conn)
        if position is None:
            return _Made("", "")
        made, witness = self._made, position.witness
        if made is None or (made.journal, made.epoch) != (witness.journal, position.epoch):
            made = _Made(witness.journal, position.epoch)
        elif made.folded >= witness.seq:
            return made  # as far as this reader sees, or of one who began to read later
        erased = int(conn.execute(_ERASED).fetchone()[0] or 0)
        if made.erased != erased:  # of tasks without a repository's number the name is part of the group
            made = _Made(witness.journal, position.epoch, erased=erased)
        self._made = None  # whoever fails in the middle leaves nothing half done
        for (block,) in conn.execute(_CHANGED, (self._block, made.folded)).fetchall():
            made.blocks[block] = _summed(conn, block * self._block, (block + 1) * self._block - 1)
        made.folded = witness.seq
        if sum(map(len, made.blocks.values())) <= self._kept_max:
            self._made = made
        return made


def _summed(conn: sqlite3.Connection, first: int, last: int) -> dict[Group, TaskSum]:
    """Of the tasks whose first records have these seqs."""
    found = {_group(row): TaskSum(*row[4:7]) for row in conn.execute(_TASKS, (first, last))}
    for row in conn.execute(_TIMES, (first, last)):
        found[_group(row)].running_us = int(row[4])
    return found


def _group(row: sqlite3.Row) -> Group:
    return row[0], row[1], row[2], row[3]
