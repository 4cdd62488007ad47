"""The fold of where a thing's history stands: the seqs of the rarer records of a delivery or a task.

Rows say how things are; who replayed, requeued or cancelled them, when and why, and when a delivery came again, is in the
journal alone, and this is the way there. What every delivery and every attempt has is not noted: the rows have it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from covenq.model import Kind
from covenq.state.rows import json_text
from journal.records import Record

NOTED_KINDS = frozenset(
    str(kind)
    for kind in (
        Kind.REPEATED, Kind.CONFLICTED, Kind.REPLAYED, Kind.REROUTED, Kind.REDACTED, Kind.REQUEUED, Kind.CANCELLED,
        Kind.SUPERSEDED,
    )
)  # fmt: skip


def fold(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Fold the noted kinds among these records, inside the caller's transaction."""
    found = [(record.seq, record.subject) for record in records if record.kind in NOTED_KINDS]
    if found:
        conn.execute(
            "INSERT INTO notes (seq, subject) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') "
            "FROM json_each(?)",
            (json_text(found),),
        )


def notes(conn: sqlite3.Connection, subject: str, most: int) -> tuple[int, list[int]]:
    """How many a subject has, and the seqs of the newest `most` of them, oldest first."""
    (number,) = conn.execute("SELECT count(*) FROM notes WHERE subject = ?", (subject,)).fetchone()
    rows = conn.execute("SELECT seq FROM notes WHERE subject = ? ORDER BY seq DESC LIMIT ?", (subject, most)).fetchall()
    return int(number), [int(row[0]) for row in reversed(rows)]
