"""Interruption: what becomes of an attempt whose process died, or whose lease ran out.

This is not counted as a failure of the command: the task is queued again. The third time it fails, for a person to look at,
since the task may be what kills its workers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from covenq.model import Category, JsonObject, Kind, at_text
from covenq.tasks.scheduling.outcome import Task
from journal.records import Entry

INTERRUPTIONS_MAX = 3
"""How many attempts of a task may be interrupted, so that a task that kills the daemon can't do it forever."""


def recover(tasks: Iterable[Task], now: float) -> list[Entry]:
    """The records that end the attempts of a process that died: their tasks are queued again, or failed the third time.

    Each expects the task's newest record, so a task that moved meanwhile is left alone. `now` is in seconds since 1970.
    """
    return [_interrupted(task, now, Category.INTERRUPTED, "the daemon died while it ran") for task in tasks]


def expire(task: Task, now: float) -> Entry:
    """The record that ends an attempt whose lease ran out: its task is queued again, or failed the third time."""
    return _interrupted(task, now, Category.LEASE_LOST, "its worker was silent for longer than its lease")


def _interrupted(task: Task, now: float, category: Category, detail: str) -> Entry:
    interruptions = task.interruptions + 1
    given_up = interruptions >= INTERRUPTIONS_MAX
    if given_up:
        detail += f"; it was interrupted {interruptions} times, and a person should look before it runs again"
    data: JsonObject = {
        "attempt": task.attempts,
        "claim": task.claim_seq,
        "category": category.value,
        "exit_code": None,
        "signal": None,
        "detail": detail,
        "interruptions": interruptions,
    }
    if not given_up:
        data["not_before"] = at_text(now)
    return Entry(task.subject, Kind.FAILED if given_up else Kind.RETRY, data, expect=task.last_seq)


def running_without_lease(conn: sqlite3.Connection) -> list[Task]:
    """Tasks that are running without a lease: a daemon's pool on this data directory claimed them."""
    return [
        Task.from_row(row)
        for row in conn.execute("SELECT * FROM tasks WHERE state = 'running' AND lease_until IS NULL")
    ]


def running_pool_leases(conn: sqlite3.Connection) -> list[Task]:
    """Tasks that are running under a lease of a pool, on whatever machine: all leased ones but those of pull routes."""
    rows = conn.execute("SELECT * FROM tasks WHERE state = 'running' AND lease_until IS NOT NULL AND kind <> 'pull'")
    return [Task.from_row(row) for row in rows]
