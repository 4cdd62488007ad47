"""The engines that the conformance suite runs over, each opened in a scratch directory of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from journal import open_reader
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.interface import Engine, Reader
from tests.support.flaky import FlakyJournal, Known
from tests.support.journals.making import NEVER_S
from tests.support.postgres.journals import open_in, reader_in

Open = Callable[[Path], Engine]
"""The journal of this scratch directory: a new one, or, after a close, the same again."""

Opened = Callable[[], Engine]
"""What the fixture `opened` gives: the journal of the test's scratch directory, closed at the latest with the test."""

ENGINES: dict[str, Open] = {
    "file": lambda scratch: open_journal(
        scratch / "journal", force_filesystem=True, settings=WriteSettings(idle_s=NEVER_S)
    ),
    "file+flaky": lambda scratch: Known(
        FlakyJournal(
            open_journal(scratch / "journal", force_filesystem=True, settings=WriteSettings(idle_s=NEVER_S)), seed=7
        )
    ),
    "postgres": lambda scratch: open_in(scratch, standby=False),
    "postgres+sync standby": lambda scratch: open_in(scratch, standby=True),
}
"""An engine is a line here. It appends no records of its own but at its close and at its opening."""

READERS: dict[str, Callable[[Path], Reader]] = {
    "file": lambda scratch: open_reader(scratch / "journal"),
    "file+flaky": lambda scratch: open_reader(scratch / "journal"),
    "postgres": lambda scratch: reader_in(scratch, standby=False),
    "postgres+sync standby": lambda scratch: reader_in(scratch, standby=True),
}
"""A reader of what the engine of that name has closed, by its address."""
