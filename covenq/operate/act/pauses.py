"""Pausing and resuming: the intake, the worker, a route, a repository or an installation.

A pause is a record, so it survives restarts, and `covenq status` shows who paused and why. While the intake is paused
deliveries are answered 503; while anything else is, its tasks stay queued and running ones go on. Each record is appended
against the newest of `ops.pauses`, so two operators at once can neither pause twice nor resume what neither saw.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Any

from covenq.errors import NotDurable, NotFound, UsageError
from covenq.intake.admission import Reason
from covenq.model import INTAKE_PAUSED, JsonObject, parse_repo
from covenq.operate.act.plan import clean_text
from covenq.operate.answers import Paused
from covenq.operate.parameters import Pause
from covenq.state import repositories
from covenq.state.fold_pauses import (
    FIND_PAUSES,
    PAUSED,
    PAUSES,
    RESUMED,
    UNNAMED_TARGETS,
    UNNUMBERED_PAUSES,
    PauseTarget,
)
from journal.append import append_known
from journal.interface import Journal
from journal.records import Appended, Entry, Record

_TRIES = 20

FoldedRows = Callable[[], sqlite3.Connection]
"""Gives a connection to rows into which everything durable at the call is folded."""


def pause(journal: Journal, rows: FoldedRows, wanted: Pause, *, routes: Collection[str] = ()) -> Paused:
    """Record a pause, durably, unless it is a dry run. → the pause, whether it is new or was there already.

    `name` is a route's (one of `routes`, or one that has tasks waiting), OWNER/NAME, or an installation's number. Raises
    UsageError, NotFound for an unknown route, NotDurable, and what an append raises.
    """
    what, name = _checked(wanted.what, wanted.name)
    by, reason = clean_text(wanted.by), clean_text(wanted.reason)
    for _ in range(_TRIES):
        newest = journal.last(PAUSES)
        conn = rows()
        found = _find(conn, what, name)
        if found:
            return Paused(**found[0], paused=True, changed=False, dry_run=wanted.dry_run)
        if what == PauseTarget.ROUTE and name not in routes and not _waiting(conn, name):
            known = f"There are {', '.join(sorted(routes))}." if routes else "The configuration has no routes."
            raise NotFound(f"no route is named {name!r}", hint=known)
        data: JsonObject = {"what": what, "name": name, "by": by, "reason": reason}
        about = None
        if what == PauseTarget.REPO and name is not None:
            data["name"], known_as = _repo(conn, name)
            about = {"repo": known_as}
        if wanted.dry_run:
            repo = None if about is None else about["repo"]
            return Paused(
                what=what,
                name=data["name"],
                repo=repo,
                by=by,
                reason=reason,
                paused=True,
                changed=True,
                dry_run=True,
            )
        # The seq of this record isn't known yet: true means "this record".
        data["intake"] = True if what == PauseTarget.INTAKE else intake_seq(newest)
        last = 0 if newest is None else newest.seq
        answer = append_known(journal, [Entry(PAUSES, PAUSED, data, about, expect=last)])
        if isinstance(answer, Appended):
            return Paused(**_find(rows(), what, name)[0], paused=True, changed=True)
    raise NotDurable("others pause and resume at the same time, and this was not recorded", hint="Try again.")


def resume(journal: Journal, rows: FoldedRows, wanted: Pause) -> Paused:
    """Record the end of a pause, durably, unless it is a dry run. → the pause that was ended, if there was one.

    Raises as `pause` does, except that it accepts unknown routes.
    """
    what, name = _checked(wanted.what, wanted.name)
    by, reason = clean_text(wanted.by), clean_text(wanted.reason)
    for _ in range(_TRIES):
        newest = journal.last(PAUSES)
        found = _find(rows(), what, name)
        if not found:
            return Paused(what=what, name=name, paused=False, changed=False, dry_run=wanted.dry_run)
        if wanted.dry_run:
            return Paused(**found[0], paused=False, changed=True, dry_run=True)
        data: JsonObject = {"what": what, "name": found[0]["name"], "by": by, "reason": reason}
        data["of"] = [one["seq"] for one in found]
        data["intake"] = None if what == PauseTarget.INTAKE else intake_seq(newest)
        last = 0 if newest is None else newest.seq
        answer = append_known(journal, [Entry(PAUSES, RESUMED, data, expect=last)])
        if isinstance(answer, Appended):
            return Paused(**found[0], paused=False, changed=True)
    raise NotDurable("others pause and resume at the same time, and this was not recorded", hint="Try again.")


def in_effect(conn: sqlite3.Connection, wanted: Pause) -> list[JsonObject]:
    """The pauses of what is named, as `conn` shows them. Raises UsageError."""
    return _find(conn, *_checked(wanted.what, wanted.name))


def number(journal: Journal, rows: FoldedRows) -> None:
    """Record the numbers of repositories that were paused by name alone, where a delivery has told them since. Durable on return.

    Before an erasure, which takes the name from that delivery: else the pause would be of whoever has the name later. Who paused
    it, when and why stays. Raises NotDurable, and what an append raises.
    """
    for _ in range(_TRIES):
        newest = journal.last(PAUSES)
        entries: list[Entry] = []
        conn = rows()
        for row in conn.execute(UNNUMBERED_PAUSES).fetchall():
            known = repositories.number_of(conn, row["repo"], after=row["seq"])
            if known is None:
                continue
            data: JsonObject = {"what": row["what"], "by": row["by"], "reason": row["reason"]}
            data["intake"] = intake_seq(newest)
            ended = Entry(PAUSES, RESUMED, data | {"name": None, "of": [row["seq"]]})
            begun = Entry(PAUSES, PAUSED, data | {"name": str(known), "since": row["since"]}, {"repo": row["repo"]})
            entries += [ended, begun]
        if not entries:
            return
        entries[0] = entries[0]._replace(expect=0 if newest is None else newest.seq)
        if isinstance(append_known(journal, entries), Appended):
            return
    raise NotDurable("others pause and resume at the same time, and this was not recorded", hint="Try again.")


def intake_seq(newest: Record | None) -> int | None:
    """The seq of the record that paused the intake, according to the newest record of `ops.pauses`; None if it is open.

    Each such record repeats it, so that a start knows it without folding anything.
    """
    if newest is None:
        return None
    told = newest.data.get("intake")
    if told is True:
        return newest.seq
    return told if type(told) is int else None


def intake(journal: Journal) -> Reason | None:
    """The reason for which the intake is closed, if an operator paused it. Raises JournalError.

    Responses say only that it is paused; the log has who paused it, and why.
    """
    seq = intake_seq(journal.last(PAUSES))
    if seq is None:
        return None
    record = journal.get(seq)
    data: dict[str, Any] = {} if record is None else record.data
    by, reason = data.get("by"), data.get("reason")
    said = f"by {by or 'an operator'}" + (f" since {record.at}" if record else "") + (f": {reason}" if reason else "")
    return Reason("intake_paused", INTAKE_PAUSED, said)


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


def _find(conn: sqlite3.Connection, what: str, name: str | None) -> list[JsonObject]:
    """The pauses in effect of that name; a repository's by its name, or by the number that its newest delivery has."""
    number, repo = (name, None) if what != PauseTarget.REPO or name is None else _repo(conn, name)
    rows = conn.execute(FIND_PAUSES, {"what": what, "name": number, "repo": repo}).fetchall()
    if what == PauseTarget.REPO and number is not None:
        seen = {row["seq"] for row in rows}
        rows += [row for row in conn.execute(UNNUMBERED_PAUSES) if row["seq"] not in seen and _is_of(conn, row, number)]
    return [dict(row) for row in rows]


def _is_of(conn: sqlite3.Connection, row: sqlite3.Row, number: str) -> bool:
    """Whether a pause that knows only a name is of the repository with that number, which may have another name by now."""
    return str(repositories.number_of(conn, row["repo"], after=row["seq"])) == number


def _repo(conn: sqlite3.Connection, name: str) -> tuple[str | None, str]:
    """A repository's number as text, and its name as GitHub spells it, from its newest delivery.

    The number stays when the repository is renamed. Without a delivery: None, and the name as given.
    """
    found = repositories.newest(conn, name)
    if found is None:
        return None, name
    number, spelled = found
    return None if number is None else str(number), spelled


def _waiting(conn: sqlite3.Connection, route: str | None) -> bool:
    """Whether a task of that route waits: a route that was removed from the configuration may have left some."""
    found = conn.execute("SELECT 1 FROM tasks WHERE state = 'queued' AND route = ? LIMIT 1", (route,)).fetchone()
    return found is not None
