"""A record of the journal as a line of the audit: who did it, what, to what, and how it ended.

A table says it for each kind. One that isn't in it is nothing that anybody did: a sync, a phase, a renewed lease. Names are read
out of rows, which an erasure clears, and never out of a record's `about`, which may still lie in a segment then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from covenq.model import Kind, scope_record
from covenq.model.audit import AuditLine, Doer, On, Outcome, Thing, What, Who
from covenq.model.uninstall_record import UninstallKind
from covenq.operate.log_records import RECONCILED
from covenq.operate.maintain.retention import KIND as DROPPED
from covenq.state.fold_pauses import PAUSED, REDACTED, RESUMED, PauseTarget
from covenq.state.rows import as_integer, as_text
from covenq.tasks.scheduling.claim import LATE
from journal.erasure import erasure_of
from journal.records import Record

TEXT_MAX = 200
"""Characters of a text that is shown: operators and commands write what they like."""
DAEMON = "daemon"
"""In `by`: the daemon's own doing."""
_TOKEN = "token:"  # noqa: S105 - the mark of one's name


class Told(NamedTuple):
    """What is told of a kind of record: the word, how it ended, which field of its data is the reason, and whose doing it is."""

    what: What
    outcome: Outcome = "done"
    reason: str | None = "reason"
    who: Doer | None = None
    """None: whoever its `by` names, else covenq."""


KINDS: dict[str, Told] = {
    Kind.RECEIVED: Told("accepted", reason=None, who="sender"),
    Kind.REPEATED: Told("repeated", reason=None, who="sender"),
    Kind.CONFLICTED: Told("conflicted", "refused", reason=None, who="sender"),
    Kind.IGNORED: Told("ignored"),
    Kind.REPLAYED: Told("replayed"),
    Kind.REROUTED: Told("rerouted"),
    Kind.REDACTED: Told("redacted"),
    Kind.QUEUED: Told("queued", reason=None),
    Kind.CLAIMED: Told("claimed", reason=None),
    Kind.RETRY: Told("retried", "failed", "category"),
    Kind.COMPLETED: Told("completed", reason=None),
    Kind.FAILED: Told("failed", "failed", "category"),
    Kind.REQUEUED: Told("requeued"),
    Kind.CANCELLED: Told("cancelled"),
    Kind.SUPERSEDED: Told("superseded"),
    LATE: Told("late", "refused", "what"),
    PAUSED: Told("paused"),
    RESUMED: Told("resumed"),
    REDACTED: Told("redacted"),
    scope_record.BOUND: Told("bound", reason=None),
    scope_record.UNBOUND: Told("unbound"),
    UninstallKind.NOTICED: Told("uninstalled", reason=None),
    UninstallKind.KEPT: Told("kept"),
    UninstallKind.BEGUN: Told("erasing", reason="shown_by"),
    UninstallKind.DONE: Told("erased", reason=None),
    RECONCILED: Told("reconciled", reason=None),
    "ops.intake_opened": Told("reopened"),
    DROPPED: Told("dropped"),
    "journal.epoch": Told("opened", reason=None),
    "journal.torn": Told("cut", reason=None),
    "journal.mended": Told("mended", reason=None),
    "journal.salvaged": Told("salvaged", reason=None),
    "journal.accepted": Told("head_accepted", reason=None),
    "journal.sealed": Told("sealed", reason=None),
}
LEFT_OUT = frozenset({Kind.PHASE, Kind.RENEWED, Kind.DELAYED, "ops.ledger", "journal.synced"})
"""Kinds that say how something gets on, and nothing that was done."""

_DELIVERY = (
    "SELECT event, action, repo, repo_id, number, installation FROM webhook_deliveries WHERE guid = ? AND hook = ?"
)
_TASK = """SELECT hook, guid, route, event, action, repo, repo_id, number, installation FROM tasks WHERE id = ?"""
_NAME = "SELECT repo FROM names_in_records WHERE seq = ?"
_WORKER = "SELECT worker FROM task_attempts WHERE claim_seq = ?"


def line_of(record: Record) -> AuditLine | None:
    """The line of a record by itself; None of a kind that is none. `with_context` adds what rows know."""
    told = KINDS.get(record.kind)
    if told is None:
        return None
    data = record.data
    reason = None if told.reason is None else _short(data.get(told.reason))
    line = AuditLine(
        at=record.at,
        seq=record.seq,
        who=_who(record, told),
        what=told.what,
        on=_on(record),
        outcome=told.outcome,
        reason=reason,
        detail=_short(data.get("detail")),
        attempt=as_integer(data.get("attempt")),
        repo_id=as_integer(data.get("repo_id")),
    )
    kind, *names = record.subject.split(".")
    if kind == "delivery":
        line.hook, line.guid = names
    elif kind == "task":
        line.task = names[0]
    elif record.kind == LATE:
        line.task = line.on.id
    erasure = erasure_of(record.seq, data) if "drops" in data else None
    if erasure is not None:
        line.count = sum(last - first + 1 for first, last in erasure.drops)
    if line.on.kind == "installation":
        line.installation = _whole(line.on.id)
    elif line.on.kind == "repo":
        line.repo_id = line.repo_id or _whole(line.on.id)
    elif line.on.kind == "route":
        line.route = line.on.id
    return line


def with_context(conn: sqlite3.Connection, record: Record, line: AuditLine) -> AuditLine:
    """The line, with what the rows say now of what it was done to, and which worker it was that ended an attempt."""
    if line.task is not None:
        _fill(line, conn.execute(_TASK, (line.task,)).fetchone())
        claim = as_integer(record.data.get("claim"))
        if claim is not None and line.who.kind == "system" and line.who.name is None:
            row = conn.execute(_WORKER, (claim,)).fetchone()
            line.who.name = None if row is None else row[0]
    elif line.guid is not None:
        _fill(line, conn.execute(_DELIVERY, (line.guid, line.hook)).fetchone())
    elif record.subject.startswith("ops."):
        row = conn.execute(_NAME, (record.seq,)).fetchone()
        line.repo = None if row is None else row[0]
    return line


def _fill(line: AuditLine, row: sqlite3.Row | None) -> None:
    if row is not None:
        for name in row.keys():  # noqa: SIM118 - a Row iterates over its values
            setattr(line, name, row[name])


# ---- who


def who_of(by: object) -> Who | None:
    """Whom a record's `by` names; None if it names nobody.

    Over TCP it is `token:NAME (what its bearer said)`, which covenq has written; on the socket whatever its user says.
    """
    text = _short(by)
    if not text:
        return None
    if text.startswith(_TOKEN):
        name, _, claimed = text.removeprefix(_TOKEN).partition(" (")
        return Who("token", name, claimed.removesuffix(")") or None)
    return Who("system", text) if text == DAEMON else Who("operator", text)


def _who(record: Record, told: Told) -> Who:
    data = record.data
    if told.who == "sender":
        origin = data.get("origin")
        imported = who_of(origin.get("by")) if isinstance(origin, dict) else None
        if imported is not None:
            return imported
        if data.get("source") == "import":
            return Who("system", "import")
        return Who("sender", record.subject.split(".")[1])
    return who_of(data.get("by")) or Who("system", _short(data.get("worker")))


# ---- on what


def _on(record: Record) -> On:
    kind, *names = record.subject.split(".")
    if kind == "delivery":
        return On("delivery", "/".join(names))
    if kind == "task":
        return On("task", names[0])
    return _ON.get(record.kind, _on_journal)(record)


def _on_journal(record: Record) -> On:
    return On("journal")


def _on_paused(record: Record) -> On:
    what, name = as_text(record.data.get("what")), _short(record.data.get("name"))
    return On(_PAUSABLE[what], name) if what in _PAUSABLE else On("journal")


def _on_secret(record: Record) -> On:
    return On("secret", _short(record.data.get("secret")))


def _on_installation(record: Record) -> On:
    number = as_integer(record.data.get("installation"))
    return On("installation", None if number is None else str(number))


_PAUSABLE: dict[str | None, Thing] = {
    PauseTarget.INTAKE: "intake",
    PauseTarget.WORKER: "worker",
    PauseTarget.ROUTE: "route",
    PauseTarget.REPO: "repo",
    PauseTarget.INSTALLATION: "installation",
}
_ON: dict[str, Callable[[Record], On]] = {
    PAUSED: _on_paused,
    RESUMED: _on_paused,
    scope_record.BOUND: _on_secret,
    scope_record.UNBOUND: _on_secret,
    LATE: lambda record: On("task", _short(record.data.get("task"))),
    **dict.fromkeys(map(str, UninstallKind), _on_installation),
    RECONCILED: lambda record: On("log", _short(record.data.get("hook"))),
    "ops.intake_opened": lambda record: On("intake"),
}


def _short(value: object) -> str | None:
    text = as_text(value)
    return None if text is None else text[:TEXT_MAX]


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 19 else None
