"""Waiting for the journal's lock: commands that read a data directory without a daemon hold it for moments only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from covenq.paths import JOURNAL_NAME
from journal.errors import JournalLocked
from journal.file.lock import holder

POLL_S = 0.02

Opened = TypeVar("Opened")


def wait_for_lock(open: Callable[[], Opened], timeout_s: float) -> Opened:
    """What `open` returns, tried again while another process holds the lock, for `timeout_s` seconds.

    Raises the last JournalLocked after that, and at once what else `open` raises.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return open()
        except JournalLocked:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def process_of(data: Path) -> str | None:
    """Which process has the data directory's journal, a daemon as a rule, in words; None if none has."""
    pid = holder(data / JOURNAL_NAME)
    if pid is None:
        return None
    return f"process {pid}" if pid else "another process"
