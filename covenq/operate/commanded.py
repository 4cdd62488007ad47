"""Tasks of kind `act`: an operator's cancel or requeue that a comment asked for, of its agent's tasks about the same.

Each is done once, whatever dies meanwhile. The task is claimed first, and completed last; one that a crash left claimed is queued
again, as any, and done again. What it is done to is chosen by what no second time changes: `cancel` takes what was queued before
the command was, and `retry` what ended before it and is the newest of its purpose. A task that was cancelled doesn't wait any
more, and one that was requeued was moved after the command: the second time finds neither.

Nothing here waits for a worker, a limit or a pause: a command to cancel must not wait for what it cancels.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from covenq.model import State
from covenq.model.queues import ACT_QUEUE
from covenq.operate.act.actions import plan_cancel, plan_requeue
from covenq.operate.act.plan import Plan, apply
from covenq.operate.operations import Context
from covenq.operate.parameters import Selection

CANCEL, RETRY = "cancel", "retry"
FOUND_MAX = 1000
"""Tasks that one command is done to at a time."""
CHANGES_MAX = 20
"""Calls of `carry_out` for one command, where tasks are found each time."""

_QUEUED = (
    "SELECT * FROM tasks INDEXED BY tasks_ready WHERE state = 'queued' AND not_before IS NULL AND pull = ? LIMIT ?"
)
_DUE = """SELECT * FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND not_before <= ? LIMIT ?"""
_WAITING = """SELECT id FROM tasks WHERE repo_id = ? AND number = ? AND familiar = ? AND kind <> 'act'
    AND state IN ('queued', 'running') AND queued_seq < ? ORDER BY created_seq LIMIT ?"""
_NEWEST = """SELECT id, max(created_seq), state, last_seq FROM tasks WHERE repo_id = ? AND number = ? AND familiar = ?
    AND kind <> 'act' AND key IS NOT NULL AND created_seq < ? GROUP BY purpose ORDER BY 2 LIMIT ?"""


class Commanded(NamedTuple):
    """What a task says is to be done: `cancel` or `retry`, of the tasks of this agent about that issue or pull request."""

    act: str
    familiar: str
    repo_id: int
    number: int
    seq: int
    """The seq of the command's own task: what came after it isn't meant."""


def waiting_acts(conn: sqlite3.Connection, now: str, limit: int) -> list[sqlite3.Row]:
    """The rows of tasks of kind `act` that wait and are due. `now` is RFC 3339."""
    rows = conn.execute(_QUEUED, (ACT_QUEUE, limit)).fetchall()
    return rows + conn.execute(_DUE, (ACT_QUEUE, now, limit)).fetchall()


def commanded(row: sqlite3.Row) -> Commanded | None:
    """What the row of a task says is to be done; None where it says nothing that can be: its content was erased, for one."""
    act = row["purpose"]
    found = (row["familiar"], row["repo_id"], row["number"])
    if act not in (CANCEL, RETRY) or None in found:
        return None
    return Commanded(act, *found, row["created_seq"])


def chosen(conn: sqlite3.Connection, wanted: Commanded) -> list[str]:
    """The ids of the tasks that it is done to, oldest first: none of those that it was done to before."""
    about = (wanted.repo_id, wanted.number, wanted.familiar, wanted.seq, FOUND_MAX)
    if wanted.act == CANCEL:
        return [row["id"] for row in conn.execute(_WAITING, about)]
    ended = (State.FAILED, State.CANCELLED)
    rows = conn.execute(_NEWEST, about)
    return [row["id"] for row in rows if row["state"] in ended and row["last_seq"] < wanted.seq]


def carry_out(context: Context, wanted: Commanded, delivery: str) -> int:
    """Do it: how many tasks it was done to. `delivery` is that of the command. Raises NotDurable, and classes of journal.errors.

    What moved meanwhile, or could not be recorded, is left out; so it is done with once another call finds nothing to do.
    """
    with context.writing() as (journal, conn):
        ids = chosen(conn, wanted)
        if not ids:
            return 0
        why = f"{wanted.act}: a command to {wanted.familiar}"
        selection = Selection(ids=ids, by=f"delivery {delivery}", reason=why)
        planning: Callable[..., Plan] = plan_cancel if wanted.act == CANCEL else plan_requeue
        return len(apply(planning(journal, conn, context.config, selection, None), journal).done)
