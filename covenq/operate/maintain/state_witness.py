"""What is witnessed of the journal beside a state.db: it may not be shorter than what its cache has folded.

A database that loses what it had acknowledged may do so before that was folded. The daemon notices, since it knows the newest
record that it answered for, and notes it down when it ends: else the next start would go on as if nothing had been lost.
"""

from __future__ import annotations

import json
from pathlib import Path

from covenq import atomic_file
from covenq.errors import CovenqError
from covenq.paths import JOURNAL_NAME, STATE_NAME
from covenq.state.store import read_witness
from journal.file.backup import backup_witness
from journal.file.files import OsFiles
from journal.presence import is_directory
from journal.records import Witness

MISSED_NAME = "missed"
"""In the journal's directory, the newest record that was acknowledged, where a database was found to lack it."""


def state_witness(data: Path) -> Witness | None:
    """What was noted to be missed, or the position of state.db, as a witness for opening the journal; None if it proves nothing.

    Beside a backup that was put in the journal's place, until that is opened, it belongs to the history that the backup was
    taken from.
    """
    journal = data / JOURNAL_NAME
    if is_directory(journal) and backup_witness(OsFiles(), journal) is not None:
        return None
    return _missed(journal / MISSED_NAME) or read_witness(data / STATE_NAME)


def note_missed(journal: Path, witness: Witness) -> None:
    """Raises OSError."""
    note = {"journal": witness.journal, "seq": witness.seq, "sum": witness.sum}
    atomic_file.replace(journal / MISSED_NAME, json.dumps(note).encode() + b"\n")


def forget_missed(journal: Path) -> None:
    """It is there again, or an operator goes on without it. Raises OSError."""
    (journal / MISSED_NAME).unlink(missing_ok=True)


def _missed(path: Path) -> Witness | None:
    """Raises CovenqError."""
    try:
        note = json.loads(path.read_bytes())
        return Witness(str(note["journal"]), int(note["seq"]), str(note["sum"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CovenqError(
            f"{path} can't be read: {error}",
            hint="It named a record that the database had lost. Where that is there again, remove the file.",
        ) from error
