"""Superseding: finds queued tasks that a newer task makes obsolete.

The newer task has the same key where the route supersedes, and the same issue or pull request where it keeps an order.

This is decided when tasks are handed out, and not at the intake, because the intake can't see what other receivers, or the
fold, have not yet made known to it. Every new task, every one that becomes queued again, and every one that is picked has its
whole group checked, again and again until nothing is left to record; and a superseded task is not picked before that. So the
result does not depend on how far the fold was behind, on the order in which hooks arrived, or on restarts. It is recorded
against the task's newest record: a task that was claimed at that moment is left alone (`supersede = "queued"`), or is found
running by the next check and superseded then (`"running"`).

An operator's decision has precedence: a task that was replayed or requeued neither supersedes nor is superseded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from covenq.model import Kind, SupersededReason, at_text, bounded_duration, seconds_or, task_subject
from journal.records import Entry

NEWER = SupersededReason.NEWER.value
STALE = SupersededReason.STALE.value
"""Reasons of `task.superseded`: a newer task of the same key; a delivery older than one that was seen."""

_BATCH = 256

NEWEST = """SELECT * FROM tasks INDEXED BY tasks_rivals
    WHERE route = ? AND key = ? AND supersede IS NOT NULL AND state <> 'cancelled'
    ORDER BY sent_at DESC, created_seq DESC LIMIT 1"""
"""The newest task of a route and key, in any state: once it has run, no older one may run after it. By when GitHub sent it."""
_GROUP = """SELECT * FROM tasks INDEXED BY tasks_rivals_left
    WHERE route = ? AND key = ? AND supersede IS NOT NULL AND state IN ('queued', 'running')
    AND queued_seq = created_seq AND (sent_at, created_seq) < (?, ?) AND (state = 'queued' OR ?)
    ORDER BY sent_at, created_seq LIMIT ?"""
_QUEUED_SINCE = """SELECT last_seq, route, key, repo_id, number, supersede, source_at FROM tasks INDEXED BY tasks_risen
    WHERE state = 'queued' AND coalesce(supersede, source_at) IS NOT NULL AND last_seq > ? ORDER BY last_seq LIMIT ?"""
_CREATED_SINCE = """SELECT created_seq, route, key, repo_id, number, supersede, source_at FROM tasks
    WHERE created_seq > ? ORDER BY created_seq LIMIT ?"""
_TASK = "SELECT * FROM tasks WHERE id = ?"
_NEWER_STATE = """SELECT id FROM tasks INDEXED BY tasks_order
    WHERE source_at IS NOT NULL AND route = ? AND repo_id = ? AND number = ? AND source_at > ?
    AND (created_seq < ? OR (head_sha IS NOT NULL AND head_sha <> ?)) ORDER BY source_at DESC LIMIT 1"""
_ORDERED = """SELECT * FROM tasks INDEXED BY tasks_order
    WHERE source_at IS NOT NULL AND route = ? AND repo_id = ? AND number = ? AND state = 'queued'
    AND queued_seq = created_seq ORDER BY source_at"""


@dataclass(frozen=True, slots=True)
class SupersededBy:
    """The task that supersedes another, and the reason: NEWER or STALE."""

    by: str
    reason: str


def superseded_by(conn: sqlite3.Connection, task: str) -> SupersededBy | None:
    """What supersedes a queued task, if anything does."""
    row = conn.execute(_TASK, (task,)).fetchone()
    if row is None or row["queued_seq"] != row["created_seq"]:
        return None
    if row["supersede"] is not None:
        newest = conn.execute(NEWEST, (row["route"], row["key"])).fetchone()
        if newest is not None and _moment(newest) > _moment(row):
            return SupersededBy(newest["id"], NEWER)
    return _stale(conn, row)


def _stale(conn: sqlite3.Connection, row: sqlite3.Row) -> SupersededBy | None:
    """Whether a newer state of the same issue or pull request had been seen when the task's delivery came, or has another head.

    A delivery that came in order and is about the newest head keeps its task, though more happened since: a label, a comment.
    The times are those in GitHub's payloads; equal times decide nothing.
    """
    if row["source_at"] is None or row["repo_id"] is None or row["number"] is None:
        return None
    values = (row["route"], row["repo_id"], row["number"], row["source_at"], row["created_seq"], row["head_sha"])
    seen = conn.execute(_NEWER_STATE, values).fetchone()
    return None if seen is None else SupersededBy(seen["id"], STALE)


_Group = tuple[str | int | None, ...]
"""What a group's tasks have in common: (route, key), or (route, repo_id, number)."""
_Scan = Callable[[sqlite3.Connection, _Group, int], Iterator[tuple[Entry, ...]]]


@dataclass
class Superseder:
    """Remembers how far the queue was checked (two watermarks), and which groups are yet to be checked. All of it can be lost."""

    _queued_watermark: int = 0
    _created_watermark: int | None = None
    _keys: dict[_Group, None] = field(default_factory=dict)
    """(route, key)"""
    _subjects: dict[_Group, None] = field(default_factory=dict)
    """(route, repo_id, number)"""

    def schedule(
        self,
        route: str | None,
        key: str | None,
        repo_id: int | None,
        number: int | None,
        supersede: str | None,
        source_at: str | None,
    ) -> None:
        """Check the groups of this task with the next `find`."""
        if supersede is not None and route is not None:
            self._keys[route, key] = None
        if source_at is not None and route is not None and repo_id is not None and number is not None:
            self._subjects[route, repo_id, number] = None

    def find(self, conn: sqlite3.Connection, limit: int) -> list[tuple[Entry, ...]]:
        """The entries to append, for about `limit` tasks at most; each tuple is one append."""
        if self._created_watermark is None:
            self._created_watermark = int(conn.execute("SELECT coalesce(max(created_seq), 0) FROM tasks").fetchone()[0])
        for row in conn.execute(_QUEUED_SINCE, (self._queued_watermark, _BATCH)).fetchall():
            self._queued_watermark = row[0]
            self.schedule(*row[1:])
        for row in conn.execute(_CREATED_SINCE, (self._created_watermark, _BATCH)).fetchall():
            self._created_watermark = row[0]
            self.schedule(*row[1:])
        found: list[tuple[Entry, ...]] = []
        named: set[str] = set()
        scans: tuple[tuple[dict[_Group, None], _Scan], ...] = (
            (self._keys, _superseded_by_newer),
            (self._subjects, _out_of_order),
        )
        for group, scan in scans:
            for key in list(group):
                moves = list(scan(conn, key, limit))
                if not moves:
                    del group[key]
                for entries in moves:
                    # Each task once: what a second group finds of it, the next call appends.
                    if named.isdisjoint(entry.subject for entry in entries):
                        named.update(entry.subject for entry in entries)
                        found.append(entries)
                if len(found) >= limit:
                    return found
        return found


def _out_of_order(conn: sqlite3.Connection, group: _Group, limit: int) -> Iterator[tuple[Entry, ...]]:
    for row in conn.execute(_ORDERED, group).fetchall():
        by = _stale(conn, row)
        if by is not None:
            yield (_superseded_entry(row, by.by, by.reason),)


def _superseded_by_newer(conn: sqlite3.Connection, group: _Group, limit: int) -> Iterator[tuple[Entry, ...]]:
    newest = conn.execute(NEWEST, group).fetchone()
    if newest is None:
        return
    running_too = newest["supersede"] == "running" and newest["state"] != "superseded"
    older = conn.execute(_GROUP, (*group, *_moment(newest), running_too, limit)).fetchall()
    waiting = [row for row in older if row["state"] == "queued"]
    delayed = _debounce_entry(newest, waiting)
    for row in older:
        entry = _superseded_entry(row, newest["id"], NEWER)
        if delayed is not None and row["state"] == "queued":
            # The time at which the burst began is recorded first, then the task that it is known from is superseded: a crash
            # between the two loses neither.
            yield (delayed, entry)
            delayed = None
        elif delayed is None or row["state"] != "queued":
            yield (entry,)


def _moment(row: sqlite3.Row) -> tuple[int, int]:
    """The place of a task in the order in which GitHub sent deliveries."""
    return row["sent_at"], row["created_seq"]


def _superseded_entry(row: sqlite3.Row, by: str, reason: str) -> Entry:
    data: dict[str, object] = {"by_task": by, "reason": reason}
    if row["state"] == "running":
        data |= {"attempt": row["attempts"], "claim": row["claim_seq"]}
    return Entry(task_subject(row["id"]), Kind.SUPERSEDED, data, expect=row["last_seq"])


def _debounce_entry(newest: sqlite3.Row, older: list[sqlite3.Row]) -> Entry | None:
    """The debounce limit: the newest task of a burst waits no longer than `debounce_max`, counted from the first one."""
    longest = _debounce_max(newest)
    if longest is None or newest["state"] != "queued" or newest["not_before"] is None or not older:
        return None
    since = min(row["since"] or row["created_at"] for row in (newest, *older))
    if newest["since"] is not None and newest["since"] <= since:
        return None
    until = min(newest["not_before"], at_text(seconds_or(since, 0.0) + longest))
    data = {"not_before": until, "since": since}
    return Entry(task_subject(newest["id"]), Kind.DELAYED, data, expect=newest["last_seq"])


def _debounce_max(row: sqlite3.Row) -> float | None:
    try:
        found = json.loads(row["policy"] or "{}").get("debounce_max_s")
        return None if found is None else bounded_duration(float(found))
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError):
        return None
