"""Tasks that newer ones outdate: of one key where the route supersedes, of one issue or pull request where it keeps an order.

Decided here, by whoever hands tasks out, and not at the intake, because the intake can't see what other receivers, or the fold,
have not told it yet. Every new task, every one that becomes queued again, and every one that is picked has its whole group
looked at, which is looked at again until nothing is left to do in it; and nothing that is outdated is picked before that. So
what is found does not depend on how far the fold was behind, on the order in which hooks arrived, or on restarts. What is
found is recorded against the task's newest record: a task that was claimed in that moment is left alone (`supersede =
"queued"`), or found running by the next look and superseded then (`"running"`).

An operator's word wins: what was replayed or requeued neither outdates nor is outdated.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from covenq.model import JsonObject, Kind, at_text, seconds_of, task_subject
from journal.records import Entry

NEWER = "newer"
STALE = "stale"
"""Reasons of `task.superseded`: a newer task of the same key; a delivery older than one that was seen."""

_LOOKED_AT_ONCE = 256

NEWEST = """SELECT * FROM tasks INDEXED BY tasks_rivals
    WHERE route = ? AND key = ? AND supersede IS NOT NULL AND state <> 'cancelled' ORDER BY created_seq DESC LIMIT 1"""
"""Of one route and key, whatever became of it: when it has run, older work is not to run after it."""
_GROUP = """SELECT * FROM tasks INDEXED BY tasks_rivals_left
    WHERE route = ? AND key = ? AND supersede IS NOT NULL AND state IN ('queued', 'running')
    AND queued_seq = created_seq AND created_seq < ? AND (state = 'queued' OR ?) ORDER BY created_seq LIMIT ?"""
_RISEN = """SELECT last_seq, route, key, repo_id, number, supersede, source_at FROM tasks INDEXED BY tasks_risen
    WHERE state = 'queued' AND coalesce(supersede, source_at) IS NOT NULL AND last_seq > ? ORDER BY last_seq LIMIT ?"""
_BORN = """SELECT created_seq, route, key, repo_id, number, supersede, source_at FROM tasks
    WHERE created_seq > ? ORDER BY created_seq LIMIT ?"""
_ONE = "SELECT * FROM tasks WHERE id = ?"
_SEEN = """SELECT id FROM tasks INDEXED BY tasks_order
    WHERE source_at IS NOT NULL AND route = ? AND repo_id = ? AND number = ? AND source_at > ?
    AND (created_seq < ? OR (head_sha IS NOT NULL AND head_sha <> ?)) ORDER BY source_at DESC LIMIT 1"""
_ORDERED = """SELECT * FROM tasks INDEXED BY tasks_order
    WHERE source_at IS NOT NULL AND route = ? AND repo_id = ? AND number = ? AND state = 'queued'
    AND queued_seq = created_seq ORDER BY source_at"""


@dataclass(frozen=True, slots=True)
class Outdated:
    """By which task, and why: NEWER or STALE."""

    by: str
    reason: str


def outdated_by(conn: sqlite3.Connection, task: str) -> Outdated | None:
    """What outdates a queued task, if anything does."""
    row = conn.execute(_ONE, (task,)).fetchone()
    if row is None or row["queued_seq"] != row["created_seq"]:
        return None
    if row["supersede"] is not None:
        newest = conn.execute(NEWEST, (row["route"], row["key"])).fetchone()
        if newest is not None and newest["created_seq"] > row["created_seq"]:
            return Outdated(newest["id"], NEWER)
    return _stale(conn, row)


def _stale(conn: sqlite3.Connection, row: sqlite3.Row) -> Outdated | None:
    """Whether a newer state of the same thing had been seen when it came, or has another head since.

    What came in its order and is about the newest head is worth its task, though more happened since: a label, a comment.
    By the times that GitHub put into the payloads; of equal times nothing is said.
    """
    if row["source_at"] is None or row["repo_id"] is None or row["number"] is None:
        return None
    values = (row["route"], row["repo_id"], row["number"], row["source_at"], row["created_seq"], row["head_sha"])
    seen = conn.execute(_SEEN, values).fetchone()
    return None if seen is None else Outdated(seen["id"], STALE)


_Look = Callable[[sqlite3.Connection, tuple[Any, ...], int], Iterator[tuple[Entry, ...]]]


@dataclass
class Superseder:
    """Remembers how far the queue was looked at, and which groups have something to record. All of it can be lost."""

    _floor: int = 0
    _born: int | None = None
    _keys: dict[tuple[Any, ...], None] = field(default_factory=dict)
    """(route, key)"""
    _things: dict[tuple[Any, ...], None] = field(default_factory=dict)
    """(route, repo_id, number)"""

    def note(
        self,
        route: str | None,
        key: str | None,
        repo_id: int | None,
        number: int | None,
        supersede: str | None,
        source_at: str | None,
    ) -> None:
        """Look at the groups of this task with the next `moves`."""
        if supersede is not None and route is not None:
            self._keys[route, key] = None
        if source_at is not None and route is not None and repo_id is not None and number is not None:
            self._things[route, repo_id, number] = None

    def moves(self, conn: sqlite3.Connection, limit: int) -> list[tuple[Entry, ...]]:
        """What to record, at most about `limit` tasks at a time; each tuple is one append."""
        if self._born is None:
            self._born = int(conn.execute("SELECT coalesce(max(created_seq), 0) FROM tasks").fetchone()[0])
        for row in conn.execute(_RISEN, (self._floor, _LOOKED_AT_ONCE)).fetchall():
            self._floor = row[0]
            self.note(*row[1:])
        for row in conn.execute(_BORN, (self._born, _LOOKED_AT_ONCE)).fetchall():
            self._born = row[0]
            self.note(*row[1:])
        found: list[tuple[Entry, ...]] = []
        named: set[str] = set()
        looks: tuple[tuple[dict[tuple[Any, ...], None], _Look], ...] = (
            (self._keys, _superseded),
            (self._things, _out_of_order),
        )
        for group, look in looks:
            for place in list(group):
                moves = list(look(conn, place, limit))
                if not moves:
                    del group[place]
                for entries in moves:
                    # Each task once: what two groups say of it, the next look tells.
                    if named.isdisjoint(entry.subject for entry in entries):
                        named.update(entry.subject for entry in entries)
                        found.append(entries)
                if len(found) >= limit:
                    return found
        return found


def _out_of_order(conn: sqlite3.Connection, place: tuple[Any, ...], limit: int) -> Iterator[tuple[Entry, ...]]:
    for row in conn.execute(_ORDERED, place).fetchall():
        by = _stale(conn, row)
        if by is not None:
            yield (_record(row, by.by, by.reason),)


def _superseded(conn: sqlite3.Connection, place: tuple[Any, ...], limit: int) -> Iterator[tuple[Entry, ...]]:
    newest = conn.execute(NEWEST, place).fetchone()
    if newest is None:
        return
    running_too = newest["supersede"] == "running" and newest["state"] != "superseded"
    older = conn.execute(_GROUP, (*place, newest["created_seq"], running_too, limit)).fetchall()
    waiting = [row for row in older if row["state"] == "queued"]
    delayed = _delayed(newest, waiting)
    for row in older:
        entry = _record(row, newest["id"], NEWER)
        if delayed is not None and row["state"] == "queued":
            # First the burst's beginning, then what it was known from: a crash between the two loses neither.
            yield (delayed, entry)
            delayed = None
        elif delayed is None or row["state"] != "queued":
            yield (entry,)


def _record(row: sqlite3.Row, by: str, reason: str) -> Entry:
    data: JsonObject = {"by_task": by, "reason": reason}
    if row["state"] == "running":
        data |= {"attempt": row["attempts"], "claim": row["claim_seq"]}
    return Entry(task_subject(row["id"]), Kind.SUPERSEDED, data, expect=row["last_seq"])


def _delayed(newest: sqlite3.Row, older: list[sqlite3.Row]) -> Entry | None:
    """A burst can't hold its task back for ever: the newest of it waits no longer than from when the first one came."""
    longest = _debounce_max(newest)
    if longest is None or newest["state"] != "queued" or newest["not_before"] is None or not older:
        return None
    since = min(row["since"] or row["created_at"] for row in (newest, *older))
    if newest["since"] is not None and newest["since"] <= since:
        return None
    until = min(newest["not_before"], at_text(seconds_of(since) + longest))
    data: dict[str, Any] = {"not_before": until, "since": since}
    return Entry(task_subject(newest["id"]), Kind.DELAYED, data, expect=newest["last_seq"])


def _debounce_max(row: sqlite3.Row) -> float | None:
    try:
        found = json.loads(row["policy"] or "{}").get("debounce_max_s")
        return None if found is None else float(found)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
