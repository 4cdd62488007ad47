"""Installation tokens that may still be of use though nobody works with them, as the records tell: for the status and for
doctor.

Of a token that may exist and that nobody has, and of each whose attempt is over. They are shown until they are confirmed
revoked, or expire; with or without a daemon, and also those of a node that is gone.
"""

from __future__ import annotations

import sqlite3

from covenq.model.pending_status import UnrevokedTokens
from covenq.state.fold_tokens import TokenState

SHOWN = 5
_FOUND = """SELECT t.task, t.until FROM unrevoked_tokens t
    LEFT JOIN task_attempts a ON a.task = t.task AND a.attempt = t.attempt
    WHERE t.until > ? AND (t.state = ? OR a.task IS NULL OR a.ended_at IS NOT NULL) ORDER BY t.until DESC, t.task"""


def unrevoked(conn: sqlite3.Connection, now: str) -> UnrevokedTokens | None:
    """None where there are none."""
    rows = conn.execute(_FOUND, (now, TokenState.UNCONFIRMED.value)).fetchall()
    if not rows:
        return None
    tasks = list(dict.fromkeys(str(row[0]) for row in rows))
    return UnrevokedTokens(len(rows), str(rows[0][1]), tasks[:SHOWN])
