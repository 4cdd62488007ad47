"""The fold of what becomes of uninstalled installations: for the status, and for the daemon that erases them.

Of each there is a row once its deletion was noticed. A deletion which the configuration kept is noticed again where that says
`erase` again, and has the whole grace before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from covenq.model.uninstall_record import UninstallKind, UninstallState, is_uninstall_subject
from covenq.state.rows import as_integer, as_text
from journal.records import Record

COLUMNS = "installation, deletion, app, state, seq, since, boundary, begun, by, reason"

UNINSTALLS_LEFT = f"""SELECT {COLUMNS} FROM uninstalls INDEXED BY uninstalls_left WHERE state IN ('waiting', 'erasing')
    ORDER BY state, since, installation LIMIT :most"""  # noqa: S608 - constants
"""Those that are not settled, the ones that are being erased first; each state by age."""
UNINSTALL_OF = f"SELECT {COLUMNS} FROM uninstalls WHERE installation = :installation"  # noqa: S608 - constants
UNINSTALL_COUNTS = "SELECT state, count(*) FROM uninstalls GROUP BY state"
DELETIONS = """SELECT d.seq, d.installation
    FROM webhook_deliveries d INDEXED BY deliveries_uninstalled LEFT JOIN uninstalls u ON u.installation = d.installation
    WHERE d.event = 'installation' AND d.action = 'deleted' AND d.redacted IS NULL AND d.installation IS NOT NULL
        AND d.source = 'http' AND d.secret IS NOT NULL AND d.twin IS NULL
        AND (u.installation IS NULL OR u.deletion < d.seq AND u.state <> 'erasing' OR u.state = 'off')
    ORDER BY d.installation, d.seq DESC"""
"""Deletions that GitHub itself delivered, and that were not noticed yet. A twin's body may be a captured one, sent again; what
was imported, fetched or sent by `covenq send` says nothing of today."""

_NOTICED = """INSERT OR REPLACE INTO uninstalls (installation, deletion, app, state, seq, since)
    VALUES (:installation, :deletion, :app, 'waiting', :seq, :at)"""
_KEPT = """UPDATE uninstalls SET state = :state, seq = :seq, by = :by, reason = :reason
    WHERE installation = :installation AND deletion = :deletion AND state = 'waiting'"""
_BEGUN = """UPDATE uninstalls SET state = 'erasing', seq = :seq, begun = :seq, boundary = :boundary
    WHERE installation = :installation AND deletion = :deletion AND state = 'waiting' AND :boundary IS NOT NULL"""
_DONE = """UPDATE uninstalls SET state = 'erased', seq = :seq
    WHERE installation = :installation AND deletion = :deletion AND state = 'erasing'"""


def fold(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Fold those of these records that are of an uninstalled installation, inside the caller's transaction."""
    for record in records:
        if is_uninstall_subject(record.subject):
            _fold_one(conn, record)


def _fold_one(conn: sqlite3.Connection, record: Record) -> None:
    data = record.data
    values = {name: as_integer(data.get(name)) for name in ("installation", "deletion", "app", "boundary")}
    if values["installation"] is None or values["deletion"] is None:
        return
    words = {name: as_text(data.get(name)) for name in ("by", "reason")}
    named = {**values, **words, "seq": record.seq, "at": record.at}
    match record.kind:
        case UninstallKind.NOTICED:
            conn.execute(_NOTICED, named)
        case UninstallKind.KEPT:
            state = UninstallState.OFF if data.get("policy") is True else UninstallState.KEPT
            conn.execute(_KEPT, named | {"state": str(state)})
        case UninstallKind.BEGUN:
            conn.execute(_BEGUN, named)
        case UninstallKind.DONE:
            conn.execute(_DONE, named)


def left(conn: sqlite3.Connection, most: int) -> list[sqlite3.Row]:
    return conn.execute(UNINSTALLS_LEFT, {"most": most}).fetchall()


def of_installation(conn: sqlite3.Connection, installation: int) -> sqlite3.Row | None:
    found: sqlite3.Row | None = conn.execute(UNINSTALL_OF, {"installation": installation}).fetchone()
    return found


def counts(conn: sqlite3.Connection) -> dict[str, int]:
    """How many there are in each state, of all states."""
    return dict.fromkeys(map(str, UninstallState), 0) | {
        str(row[0]): int(row[1]) for row in conn.execute(UNINSTALL_COUNTS)
    }


def new_deletions(conn: sqlite3.Connection) -> list[sqlite3.Row]:
    """Of each installation the newest deletion that is to be noticed: `seq` and `installation`."""
    return list({row["installation"]: row for row in reversed(conn.execute(DELETIONS).fetchall())}.values())
