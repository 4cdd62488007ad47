"""What state.db witnesses of the journal beside it: the journal may not be shorter than what its cache has folded."""

from __future__ import annotations

from pathlib import Path

from covenq.paths import JOURNAL_NAME, STATE_NAME
from covenq.state.store import read_witness
from journal.file.backup import backup_witness
from journal.file.files import OsFiles
from journal.presence import is_directory
from journal.records import Witness


def state_witness(data: Path) -> Witness | None:
    """The position of state.db, as a witness for opening the journal; None if it proves nothing.

    Beside a backup that was put in the journal's place, until that is opened, it belongs to the history that the backup was
    taken from.
    """
    journal = data / JOURNAL_NAME
    if is_directory(journal) and backup_witness(OsFiles(), journal) is not None:
        return None
    return read_witness(data / STATE_NAME)
