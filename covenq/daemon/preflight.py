"""What a process that takes over checks before it asks: whatever would keep it from serving once the other has ended.

The journal's lock is the running daemon's until it ends, so nothing is opened for writing here, and what is found may change
before it is. But what an operator mistypes, or an upgrade or a full disk brings, is there already, and is found while that
daemon still serves.
"""

from __future__ import annotations

import os
from pathlib import Path

from covenq.config.journal import JournalSettings
from covenq.daemon.datadir import inspect_journal
from covenq.errors import Refused
from covenq.paths import STATE_LOCK_NAME, STATE_NAME
from journal.errors import FormatUnknown, JournalError
from journal.presence import exists

_GOES_ON = "The running daemon goes on."


def check(journal: JournalSettings, data: Path, accept_head: int | None) -> None:
    """Raises what the start would raise: Refused, JournalError. And Refused for what makes no sense beside a running daemon."""
    if accept_head is not None:
        raise Refused(
            "--accept-head is for a journal that can't be opened, and the running daemon has it open",
            hint=f"Leave it out. {_GOES_ON}",
        )
    # In this order: a file is looked for only in a directory that may be looked into.
    if not os.access(data, os.W_OK | os.X_OK) or not all(
        map(_can_be_written, (data / STATE_NAME, data / STATE_LOCK_NAME))
    ):
        raise Refused(f"{data} can't be written by this process", hint=f"Start it where it can be. {_GOES_ON}")
    try:
        inspect_journal(journal, data)
    except JournalError as error:
        if isinstance(error, FormatUnknown):
            error.hint = f"{error.hint} {_GOES_ON}"
        raise


def _can_be_written(path: Path) -> bool:
    """Whether it can, or isn't there."""
    return not exists(path) or os.access(path, os.R_OK | os.W_OK)
