"""Unbinding: releasing repositories of a secret's scope from the numbers that their first deliveries bound them to.

Each record is appended against the newest of its subject, so that two operators at once unbind once, and nothing is unbound that
this one didn't see. All are one append: all or, where one changed meanwhile, none, and then it is planned again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from covenq.errors import NotDurable, NotFound
from covenq.filter.tree import fold_case
from covenq.model import parse_repo
from covenq.model.scope_record import UNBOUND, subject_of
from covenq.operate.act.plan import clean_text
from covenq.operate.answers import Unbound, UnboundName
from covenq.operate.parameters import Unbind
from covenq.state import fold_scopes
from journal.append import append_known
from journal.interface import Journal
from journal.records import Appended, Entry

_TRIES = 20


def unbind(journal: Journal, rows: Callable[[], sqlite3.Connection], wanted: Unbind) -> Unbound:
    """Record it, durably; nothing with `dry_run`. → what it was of.

    Raises UsageError for what is no repository's name, NotFound where nothing is bound, NotDurable, and what an append raises.
    """
    name = None if wanted.repo is None else fold_case(parse_repo(wanted.repo))
    by, reason = clean_text(wanted.by), clean_text(wanted.reason)
    for _ in range(_TRIES):
        found = _bound(rows(), wanted.secret, name)
        answer = Unbound(
            [UnboundName(row["secret"], row["repo"] or name, row["repo_id"], row["since"]) for row in found],
            wanted.dry_run,
        )
        if wanted.dry_run:
            return answer
        entries = [
            Entry(
                row["subject"],
                UNBOUND,
                {"secret": row["secret"], "repo_id": row["repo_id"], "of": row["seq"], "by": by, "reason": reason},
                expect=row["seq"],
            )
            for row in found
        ]
        if isinstance(append_known(journal, entries), Appended):
            return answer
    raise NotDurable("the scope is bound and unbound at the same time, and this was not recorded", hint="Try again.")


def _bound(conn: sqlite3.Connection, secret: str, name: str | None) -> list[sqlite3.Row]:
    found = fold_scopes.of_secret(conn, secret)
    if name is not None:
        found = [row for row in found if row["subject"] == subject_of(secret, name)]
    if not found:
        what = "nothing is bound" if name is None else f"{name} is not bound"
        raise NotFound(f"{what} in the scope of {secret[:64]!r}", hint="`covenq secrets` shows what is.")
    return found
