"""The fold of what the scopes of secrets are bound to: for lists of them, for their release, and for the erasure of names.

The intake decides by the newest records themselves (`covenq.intake.scope_bindings`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from covenq.model.scope_record import BOUND, UNBOUND, is_scope_subject
from covenq.state.rows import as_integer, as_text
from journal.records import Record

_BOUND = (
    """INSERT OR REPLACE INTO scope_bindings (subject, seq, secret, repo, repo_id, since) VALUES (?, ?, ?, ?, ?, ?)"""
)
_ALL_OF_ONE = "SELECT subject, seq, secret, repo, repo_id, since FROM scope_bindings WHERE secret = ? ORDER BY seq"


def fold(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Fold those of these records that bind or unbind a scope, inside the caller's transaction."""
    for record in records:
        if not is_scope_subject(record.subject):
            continue
        if record.kind == BOUND:
            _bound(conn, record)
        elif record.kind == UNBOUND:
            conn.execute("DELETE FROM scope_bindings WHERE subject = ?", (record.subject,))


def of_secret(conn: sqlite3.Connection, secret: str) -> list[sqlite3.Row]:
    """What the scope of that secret is bound to, in or out of the configuration: `subject` and the others; the oldest first."""
    return conn.execute(_ALL_OF_ONE, (secret,)).fetchall()


def _bound(conn: sqlite3.Connection, record: Record) -> None:
    secret, repo_id = as_text(record.data.get("secret")), as_integer(record.data.get("repo_id"))
    repo = as_text((record.about or {}).get("repo"))
    if repo is not None:
        # Kept after it is unbound: the record still holds the name, which may have to be erased later.
        conn.execute("INSERT INTO names_in_records (seq, repo, repo_id) VALUES (?, ?, ?)", (record.seq, repo, repo_id))
    if secret is not None and repo_id is not None:
        conn.execute(_BOUND, (record.subject, record.seq, secret, repo, repo_id, record.at))
