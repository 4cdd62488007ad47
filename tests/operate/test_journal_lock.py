"""Waiting for the journal's lock: until it is free, or for so long; other errors are not waited for."""

from __future__ import annotations

import pytest

from covenq.operate.maintain import journal_lock
from covenq.operate.maintain.journal_lock import wait_for_lock
from journal.errors import JournalClosed, JournalLocked


class Lock:
    def __init__(self, held: int, error: Exception | None = None) -> None:
        self.held, self.error, self.tries = held, error, 0

    def open(self) -> str:
        self.tries += 1
        if self.tries <= self.held:
            raise JournalLocked("another process has it")
        if self.error is not None:
            raise self.error
        return "opened"


def test_it_is_opened_once_the_lock_is_free() -> None:
    lock = Lock(held=3)
    assert wait_for_lock(lock.open, 30.0) == "opened"
    assert lock.tries == 4


def test_it_gives_up_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_lock, "POLL_S", 0.001)
    lock = Lock(held=1 << 60)
    with pytest.raises(JournalLocked):
        wait_for_lock(lock.open, 0.01)
    assert lock.tries > 1


def test_other_errors_are_raised_at_once() -> None:
    lock = Lock(held=1, error=JournalClosed("gone"))
    with pytest.raises(JournalClosed):
        wait_for_lock(lock.open, 30.0)
    assert lock.tries == 2
