"""Pausing and resuming: the intake, the worker, a route, a repository or an installation.

A pause is a record, so it outlives restarts, and `covenq status` tells who did it and why. While the intake is paused
deliveries are answered 503; while anything else is, its tasks stay queued and nothing that runs is touched. Each record is
appended against the newest of `ops.pauses`, so two operators at once can neither pause twice nor resume what neither saw.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Any

from covenq.errors import NotDurable, NotFound, UsageError
from covenq.intake.admission import Reason
from covenq.model import JsonObject, parse_repo
from covenq.operate.act.plan import clean_text
from covenq.state.fold_pauses import FIND_PAUSES, PAUSED, PAUSES, RESUMED, UNNAMED_TARGETS, PauseTarget
from journal.interface import Journal
from journal.records import Appended, Entry, Record

_TRIES = 20

Rows = Callable[[], sqlite3.Connection]
"""A connection whose rows are folded to what was durable at the call."""


def pause(
    journal: Journal,
    rows: Rows,
    what: str,
    name: str | None = None,
    *,
    routes: Collection[str] = (),
    reason: str | None = None,
    by: str | None = None,
) -> JsonObject:
    """Pause it, durably. → the pause (see `view.pauses`) and "paused": true, "changed": whether it wasn't already.

    `name` is a route's (one of `routes`, or one that has tasks waiting), OWNER/NAME, or an installation's number. Raises
    UsageError, NotFound for a route that isn't there, NotDurable, and what an append raises.
    """
    what, name = _checked(what, name)
    for _ in range(_TRIES):
        newest = journal.last(PAUSES)
        conn = rows()
        found = _found(conn, what, name)
        if found:
            return {**found[0], "paused": True, "changed": False}
        if what == PauseTarget.ROUTE and name not in routes and not _waiting(conn, name):
            known = f"There are {', '.join(sorted(routes))}." if routes else "The configuration has no routes."
            raise NotFound(f"no route is named {name!r}", hint=known)
        data: JsonObject = {"what": what, "name": name, "by": clean_text(by), "reason": clean_text(reason)}
        about = None
        if what == PauseTarget.REPO and name is not None:
            data["name"], known_as = _repo(conn, name)
            about = {"repo": known_as}
        # The seq of this record can't be known yet: `intake` reads true as "this one".
        data["intake"] = True if what == PauseTarget.INTAKE else intake_seq(newest)
        last = 0 if newest is None else newest.seq
        answer = journal.append([Entry(PAUSES, PAUSED, data, about, expect=last)])
        if isinstance(answer, Appended):
            return {**_found(rows(), what, name)[0], "paused": True, "changed": True}
    raise NotDurable("others pause and resume at the same time, and this was not recorded", hint="Try again.")


def resume(
    journal: Journal,
    rows: Rows,
    what: str,
    name: str | None = None,
    *,
    reason: str | None = None,
    by: str | None = None,
) -> JsonObject:
    """End the pause, durably. → the pause that was ended, if there was one, and "paused": false, "changed".

    Raises as `pause` does, except that it asks no route.
    """
    what, name = _checked(what, name)
    for _ in range(_TRIES):
        newest = journal.last(PAUSES)
        found = _found(rows(), what, name)
        if not found:
            nothing = {"what": what, "name": name, "repo": None, "since": None, "seq": None, "by": None, "reason": None}
            return {**nothing, "paused": False, "changed": False}
        data: JsonObject = {"what": what, "name": found[0]["name"], "by": clean_text(by), "reason": clean_text(reason)}
        data["of"] = [one["seq"] for one in found]
        data["intake"] = None if what == PauseTarget.INTAKE else intake_seq(newest)
        last = 0 if newest is None else newest.seq
        answer = journal.append([Entry(PAUSES, RESUMED, data, expect=last)])
        if isinstance(answer, Appended):
            return {**found[0], "paused": False, "changed": True}
    raise NotDurable("others pause and resume at the same time, and this was not recorded", hint="Try again.")


def intake_seq(newest: Record | None) -> int | None:
    """The seq of the record that paused the intake, as the newest record of `ops.pauses` tells it; None if it is open.

    Each of them carries it on, so that a start knows without folding anything.
    """
    if newest is None:
        return None
    told = newest.data.get("intake")
    if told is True:
        return newest.seq
    return told if type(told) is int else None


def intake(journal: Journal) -> Reason | None:
    """Why the intake is closed, if an operator paused it. Raises JournalError.

    The outside world is told only that it is; who did it, and why, is for the log.
    """
    seq = intake_seq(journal.last(PAUSES))
    if seq is None:
        return None
    record = journal.get(seq)
    data: dict[str, Any] = {} if record is None else record.data
    by, reason = data.get("by"), data.get("reason")
    said = f"by {by or 'an operator'}" + (f" since {record.at}" if record else "") + (f": {reason}" if reason else "")
    return Reason("intake_paused", "An operator paused the intake.", said)


def _checked(what: str, name: str | None) -> tuple[str, str | None]:
    """Raises UsageError."""
    if what not in set(PauseTarget):
        hint = "Say intake, worker, route NAME, repo OWNER/NAME or installation ID."
        raise UsageError(f"{what[:40]!r} can't be paused", hint=hint)
    if what in UNNAMED_TARGETS:
        if name is not None:
            raise UsageError(f"there is one {what}: it takes no name")
        return what, None
    if not name:
        raise UsageError(f"which {what}?", hint=f"Name the {what}.")
    if what == PauseTarget.REPO:
        return what, parse_repo(name)
    if what == PauseTarget.INSTALLATION:
        if not (name.isascii() and name.isdecimal() and len(name) < 19):
            raise UsageError(f"{name[:40]!r} is no installation", hint="It is a number: `covenq deliveries --json`.")
        return what, str(int(name))
    return what, name[:64]


def _found(conn: sqlite3.Connection, what: str, name: str | None) -> list[JsonObject]:
    """The pauses of that thing; a repository's by its name, or by the number that its newest delivery has."""
    number, repo = (name, None) if what != PauseTarget.REPO or name is None else _repo(conn, name)
    rows = conn.execute(FIND_PAUSES, {"what": what, "name": number, "repo": repo}).fetchall()
    return [dict(row) for row in rows]


_NEWEST = """SELECT repo_id, repo FROM webhook_deliveries
    WHERE seq = (SELECT max(seq) FROM webhook_deliveries INDEXED BY deliveries_repo WHERE repo = ?{collate})"""


def _repo(conn: sqlite3.Connection, name: str) -> tuple[str | None, str]:
    """A repository's number as text, which stays when it is renamed, and its name as GitHub spells it: those of its newest
    delivery. Without one: None, and the name as it is."""
    for collate in ("", " COLLATE NOCASE"):  # the exact name first: it has the index's order
        row = conn.execute(_NEWEST.format(collate=collate), (name,)).fetchone()
        if row is not None:
            return None if row[0] is None else str(row[0]), str(row[1])
    return None, name


def _waiting(conn: sqlite3.Connection, route: str | None) -> bool:
    """Whether a task of that route waits: one that the configuration no longer names may have left some."""
    found = conn.execute("SELECT 1 FROM tasks WHERE state = 'queued' AND route = ? LIMIT 1", (route,)).fetchone()
    return found is not None
