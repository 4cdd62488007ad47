"""The fold of histories: an index from a delivery or a task to the seqs of its rarer records.

Rows hold the present state. Who replayed, requeued or cancelled something, when and why, and when a delivery was repeated, is
only in the journal, and this index finds it there. Records that every delivery and every attempt has are not indexed, because
the rows have their content.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from covenq.model import Kind
from covenq.model.uninstall_record import UninstallKind
from covenq.state.rows import json_text
from journal.records import Record

NOTED_KINDS = frozenset(
    str(kind)
    for kind in (
        Kind.REPEATED, Kind.CONFLICTED, Kind.REPLAYED, Kind.REROUTED, Kind.REDACTED, Kind.REQUEUED, Kind.CANCELLED,
        Kind.SUPERSEDED, *UninstallKind,
    )
)  # fmt: skip


def fold(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Fold those of these records that are of NOTED_KINDS, inside the caller's transaction."""
    found = [(record.seq, record.subject) for record in records if record.kind in NOTED_KINDS]
    if found:
        conn.execute(
            "INSERT INTO notes (seq, subject) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') "
            "FROM json_each(?)",
            (json_text(found),),
        )


def notes(conn: sqlite3.Connection, subject: str, most: int) -> tuple[int, list[int]]:
    """How many noted records a subject has, and the seqs of the newest `most` of them, oldest first."""
    (number,) = conn.execute("SELECT count(*) FROM notes WHERE subject = ?", (subject,)).fetchone()
    rows = conn.execute("SELECT seq FROM notes WHERE subject = ? ORDER BY seq DESC LIMIT ?", (subject, most)).fetchall()
    return int(number), [int(row[0]) for row in reversed(rows)]
