"""The fold of pauses: which of intake, worker, routes, repositories and installations operators have paused.

A pause is ended by the seq of the record that began it, so erasing a repository's name changes nothing about what is paused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from covenq.state.rows import as_integer, as_text, as_time
from journal.records import Record

PAUSES = "ops.pauses"
"""The subject of both kinds."""
PAUSED = "ops.paused"
RESUMED = "ops.resumed"
REDACTED = "ops.redacted"
"""Names records of pauses and scopes whose repository's name is erased; of the subject ops.redaction."""


class PauseTarget(StrEnum):
    """What can be paused."""

    INTAKE = "intake"
    """Deliveries are answered 503."""
    WORKER = "worker"
    """No task is started."""
    ROUTE = "route"
    REPO = "repo"
    INSTALLATION = "installation"


UNNAMED_TARGETS = frozenset({PauseTarget.INTAKE, PauseTarget.WORKER})
"""Targets of which there is one, so that they have no name."""

FIND_PAUSES = """SELECT seq, what, name, repo, since, by, reason FROM pauses
    WHERE what = :what AND (what IN ('intake', 'worker') OR name = :name OR repo = :repo COLLATE NOCASE) ORDER BY seq"""
"""The pauses of one thing: a repository by its id, or by its name in any case."""

UNNUMBERED_PAUSES = """SELECT seq, what, name, repo, since, by, reason FROM pauses
    WHERE what = 'repo' AND name IS NULL AND repo IS NOT NULL ORDER BY seq"""
"""The pauses of repositories from which nothing had come when they began: the first delivery of that name tells the number."""


def fold(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Fold the records of `ops.pauses` among these into the table `pauses`, inside the caller's transaction."""
    for record in records:
        if record.subject == PAUSES:
            if record.kind == PAUSED:
                _paused(conn, record)
            elif record.kind == RESUMED:
                _resumed(conn, record)


def _paused(conn: sqlite3.Connection, record: Record) -> None:
    named = _named(record)
    if named["repo"] is not None:
        # Kept after the pause has ended: the record still holds the name, which may have to be erased later.
        number = int(named["name"]) if named["name"] is not None and named["name"].isdecimal() else None
        conn.execute(
            "INSERT INTO names_in_records (seq, repo, repo_id) VALUES (?, ?, ?)",
            (record.seq, named["repo"], as_integer(number)),
        )
    if named["what"] not in UNNAMED_TARGETS and named["name"] is None and named["repo"] is None:
        return  # its name was erased, and there was no other
    conn.execute(
        "INSERT INTO pauses (seq, what, name, repo, since, by, reason) "
        "VALUES (:seq, :what, :name, :repo, :since, :by, :reason)",
        named
        | {
            "seq": record.seq,
            "since": as_time(record.data.get("since")) or record.at,
            "by": as_text(record.data.get("by")),
            "reason": as_text(record.data.get("reason")),
        },
    )


def _resumed(conn: sqlite3.Connection, record: Record) -> None:
    ended = record.data.get("of")
    if isinstance(ended, list):
        found = [as_integer(seq) for seq in ended]
    else:
        found = [row[0] for row in conn.execute(FIND_PAUSES, _named(record)).fetchall()]
    conn.executemany("DELETE FROM pauses WHERE seq = ?", [(seq,) for seq in found])


def _named(record: Record) -> dict[str, Any]:
    return {
        "what": as_text(record.data.get("what")) or "",
        "name": as_text(record.data.get("name")),
        "repo": as_text((record.about or {}).get("repo")),
    }
