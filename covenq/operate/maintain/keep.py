"""Keeping the content of an uninstalled installation: an operator stops its erasure before it begins.

The record is appended against the installation's newest one, as is that which begins the erasure: of the two one is recorded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from covenq.config.retention import ERASE, Retention
from covenq.errors import NotDurable, NotFound, Refused, UsageError
from covenq.model import at_text
from covenq.model.uninstall_record import UninstallState
from covenq.operate.act.plan import clean_text
from covenq.operate.answers import Kept
from covenq.operate.maintain import uninstall
from covenq.operate.parameters import Keep
from covenq.state import fold_uninstalls
from journal.append import append_known
from journal.interface import Journal
from journal.records import Appended

_TRIES = 20


def keep(journal: Journal, rows: Callable[[], sqlite3.Connection], policy: Retention, wanted: Keep) -> Kept:
    """Record it, durably; nothing with `dry_run`. → what was, or would be, stopped.

    Raises UsageError, NotFound where no erasure of it is to come, Refused where it has begun, NotDurable, and what an
    append raises.
    """
    installation = wanted.installation
    if not 0 <= installation < 1 << 63:
        raise UsageError(f"{str(installation)[:40]} is no installation", hint="It is a number: `covenq status` has it.")
    by, reason = clean_text(wanted.by), clean_text(wanted.reason)
    for _ in range(_TRIES):
        row = fold_uninstalls.of_installation(rows(), installation)
        one = None if row is None else uninstall.pending_of(row, policy)
        if one is not None and one.state in (UninstallState.ERASING, UninstallState.ERASED):
            done = "was erased" if one.state is UninstallState.ERASED else "is being erased"
            raise Refused(
                f"the content of installation {installation} {done}, since it was uninstalled",
                hint="What is left is told by `covenq status`. A backup may have what is gone.",
            )
        if one is None or one.state is UninstallState.KEPT or policy.on_uninstall != ERASE:
            raise NotFound(
                f"no erasure of installation {installation} is to come",
                hint='`covenq status` shows those that are; with [retention] on_uninstall = "keep" there is none.',
            )
        answer = Kept(one.installation, one.since, at_text(one.due), wanted.dry_run)
        if wanted.dry_run or isinstance(append_known(journal, [uninstall.kept(one, by, reason)]), Appended):
            return answer
    raise NotDurable("what becomes of it changes at the same time, and this was not recorded", hint="Try again.")
