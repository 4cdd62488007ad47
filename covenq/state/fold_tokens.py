"""The fold of installation tokens that attempts got, or may have got, and that are not confirmed to be of no use any more.

A row stands for all tokens of one attempt: the time at which the last of them expires by itself. It goes when they are
revoked, or when a later record of the same kind came after that time. The records have ids and times, and never a token.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from enum import StrEnum

from covenq.state.rows import as_integer, as_text, as_time
from journal.records import Record

TOKEN = "ops.token"  # noqa: S105 - a subject
"""The subject, and the kind, of all these records."""


class TokenState(StrEnum):
    """What is known of an attempt's tokens."""

    ASKED = "asked"
    """One is being asked for, so that there may be one from now on."""
    MINTED = "minted"
    """There is one, and it is kept where it can be revoked."""
    UNCONFIRMED = "unconfirmed"
    """There may be one that nobody has: GitHub's answer was lost."""
    REFUSED = "refused"
    """GitHub gave none, and there is none."""
    REVOKED = "revoked"
    EXPIRED = "expired"


_OPEN = frozenset({TokenState.ASKED, TokenState.MINTED, TokenState.UNCONFIRMED})
_PUT = "INSERT OR REPLACE INTO unrevoked_tokens (task, attempt, state, until, node, seq) VALUES (?, ?, ?, ?, ?, ?)"


def fold(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Fold the records of TOKEN among these, inside the caller's transaction."""
    for record in records:
        if record.subject != TOKEN or record.kind != TOKEN:
            continue
        data = record.data
        task, attempt, state = as_text(data.get("task")), as_integer(data.get("attempt")), as_text(data.get("state"))
        until = as_time(data.get("until"))
        conn.execute("DELETE FROM unrevoked_tokens WHERE until < ?", (record.at,))
        if task is None or attempt is None:
            continue
        if state in _OPEN and until is not None:
            conn.execute(_PUT, (task, attempt, state, until, as_text(data.get("node")), record.seq))
        else:
            conn.execute("DELETE FROM unrevoked_tokens WHERE task = ? AND attempt = ?", (task, attempt))


def open_of(conn: sqlite3.Connection, task: str, attempt: int) -> tuple[str, str] | None:
    """The state and the time of an attempt's tokens, where some may be of use."""
    row = conn.execute(
        "SELECT state, until FROM unrevoked_tokens WHERE task = ? AND attempt = ?", (task, attempt)
    ).fetchone()
    return None if row is None else (str(row[0]), str(row[1]))
