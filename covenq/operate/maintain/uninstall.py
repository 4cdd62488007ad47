"""Whether the content of an uninstalled installation may be erased: the rule, over what is held and what GitHub says.

The deletion is a delivery that GitHub signed and sent here. What came by another way (imported, fetched from the log, sent by
`covenq send`), and a twin, whose body may be a captured one that was sent again, starts nothing. At the end of the grace the
installation must still be gone: by GitHub's answer where the App is configured, else by what is held of it since. Whatever is
in doubt is kept: what is kept can be erased later by `covenq redact --installation`, and nothing brings back what was erased.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from covenq.config.retention import ERASE, Retention
from covenq.model import at_text
from covenq.model.pending_status import Uninstall
from covenq.model.uninstall_record import UninstallKind, UninstallState, subject_of
from covenq.state import fold_uninstalls
from covenq.text import instant
from journal.interface import Reading
from journal.records import Entry

SHOWN_MAX = 50
"""Uninstalled installations that a status names."""
LEFT_MAX = 10_000
"""Of how many it is looked whether they are due, in one round: those that wait for longest."""
BY = "daemon"

LATER = """SELECT later.hook, later.guid, later.event, later.action FROM webhook_deliveries deletion
    JOIN webhook_deliveries later ON later.installation = deletion.installation
        AND (later.sent_at, later.seq) > (deletion.sent_at, deletion.seq)
    WHERE deletion.seq = :deletion AND later.twin IS NULL
        AND NOT (later.event = 'installation' AND later.action = 'deleted')
    ORDER BY later.seq LIMIT 1"""
"""What of the installation GitHub sent after its deletion: by GitHub's own times where a delivery came with one, else by when it
came. A twin is no sign of life."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An uninstalled installation that is not settled; `due` is when its grace ends, seconds since 1970."""

    installation: int
    deletion: int
    state: UninstallState
    seq: int
    """Of its newest record."""
    since: str
    due: float
    app: int | None = None
    boundary: int | None = None
    begun: int | None = None


def pending(conn: sqlite3.Connection, policy: Retention, most: int = LEFT_MAX) -> list[Pending]:
    """Those that are being erased first, and then those whose grace ends first."""
    return [pending_of(row, policy) for row in fold_uninstalls.left(conn, most)]


def pending_of(row: sqlite3.Row, policy: Retention) -> Pending:
    due = (instant(row["since"]) or 0.0) + policy.uninstall_grace_s
    return Pending(
        row["installation"],
        row["deletion"],
        UninstallState(row["state"]),
        row["seq"],
        row["since"],
        due,
        row["app"],
        row["boundary"],
        row["begun"],
    )


def is_news(conn: sqlite3.Connection) -> bool:
    """Whether something was uninstalled that is not noticed, as far as the rows are."""
    return bool(fold_uninstalls.new_deletions(conn))


def noticed(conn: sqlite3.Connection, journal: Reading) -> list[Entry]:
    """The records that begin the grace of what was uninstalled since.

    `conn` has all folded that was durable. Each is appended against the installation's newest record, which no row may know:
    after a salvage that lost an earlier one.
    """
    made = []
    for row in fold_uninstalls.new_deletions(conn):
        installation, deletion = row["installation"], row["seq"]
        newest = journal.last(subject_of(installation))
        data = {"installation": installation, "deletion": deletion, "app": _app_of(journal, deletion)}
        last = 0 if newest is None else newest.seq
        made.append(Entry(subject_of(installation), UninstallKind.NOTICED, data, expect=last))
    return made


def kept_by_policy(one: Pending) -> Entry:
    """The record that ends a grace since the configuration keeps by now what is uninstalled."""
    return _next(one, UninstallKind.KEPT, {"policy": True, "by": BY, "reason": None})


def kept(one: Pending, by: str | None, reason: str | None) -> Entry:
    """The record by which an operator keeps the content."""
    return _next(one, UninstallKind.KEPT, {"policy": False, "by": by, "reason": reason})


def begun(one: Pending, boundary: int, shown_by: str) -> Entry:
    """The record after which it is erased, whatever comes; `shown_by` is what showed that it is gone: "github", "deliveries"."""
    return _next(one, UninstallKind.BEGUN, {"boundary": boundary, "shown_by": shown_by, "by": BY})


def done(one: Pending, deliveries: int, tasks: int) -> Entry:
    return _next(
        one, UninstallKind.DONE, {"boundary": one.boundary, "deliveries": deliveries, "tasks": tasks, "by": BY}
    )


def _next(one: Pending, kind: UninstallKind, data: dict[str, object]) -> Entry:
    own: dict[str, object] = {"installation": one.installation, "deletion": one.deletion}
    return Entry(subject_of(one.installation), kind, own | data, expect=one.seq)


def later_delivery(conn: sqlite3.Connection, one: Pending) -> str | None:
    """What GitHub sent of it after its deletion, in words; None: nothing that is held."""
    row = conn.execute(LATER, {"deletion": one.deletion}).fetchone()
    if row is None:
        return None
    what = f"{row['event']}.{row['action']}" if row["action"] else f"{row['event']}"
    return f"{what} came of it later ({row['hook']}/{row['guid']})"


def _app_of(journal: Reading, seq: int) -> int | None:
    """The App's number, by the signed body of the deletion."""
    record = journal.get(seq)
    try:
        body = orjson.loads(b"" if record is None or record.payload is None else record.payload)
        app = body["installation"]["app_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return app if type(app) is int and 0 <= app < 1 << 63 else None


# ---- what operators see


def shown(
    conn: sqlite3.Connection, policy: Retention, waits: Mapping[int, str], most: int = SHOWN_MAX
) -> list[Uninstall]:
    """For the status. `waits` are the reasons for which the daemon waits after the grace, by installation."""
    found = []
    for one in pending(conn, policy, most):
        if one.state is UninstallState.WAITING and policy.on_uninstall != ERASE:
            continue
        erasing = one.state is UninstallState.ERASING
        found.append(
            Uninstall(
                one.installation,
                "erasing" if erasing else "waiting",
                one.since,
                None if erasing else at_text(one.due),
                waits.get(one.installation),
            )
        )
    return found
