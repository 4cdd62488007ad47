"""Where the journal of a data directory is kept, by its configuration, and how it is opened to write: in files, or in a database.

A data directory belongs to one process at a time whichever it is. With a database, its lock is beside the node's name: so two
daemons of this machine don't take the journal from each other, and a node that starts again is known to be the one that was.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covenq import atomic_file
from covenq.config.journal import JournalSettings
from covenq.errors import CovenqError, Refused
from covenq.operate.maintain.moved_journal import check_not_moved
from covenq.operate.maintain.state_witness import forget_missed, note_missed, state_witness
from covenq.paths import JOURNAL_NAME
from journal.engines import require_postgres
from journal.file.lock import DirectoryLock
from journal.file.segment import NAME
from journal.interface import Engine, SpaceReserve
from journal.presence import exists, is_directory
from journal.records import Witness

NODE_NAME = "node"
log = logging.getLogger("covenq.daemon")


@dataclass(frozen=True, slots=True)
class OpenedJournal:
    """A journal open for writing, and what its opening has found. Close it here, not the journal alone."""

    journal: Engine
    reserve: SpaceReserve | None = None
    """Space that the engine sets aside; None if it has none."""
    created: bool = False
    """Whether it was not there before."""
    warnings: Sequence[str] = ()
    """What an operator is to be told of the opening, a sentence each."""
    release: Callable[[], None] = field(default=lambda: None, repr=False)
    """Gives back what else was taken to open it."""

    def close(self) -> None:
        """Repeatable."""
        self.journal.close()
        self.release()


def address_of(settings: JournalSettings, data: Path) -> str | Path:
    """As `journal.open_reader` takes it."""
    return data / JOURNAL_NAME if settings.url is None else settings.url


def open_to_write(
    settings: JournalSettings, data: Path, *, accept_head: int | None = None, use_reserve: bool = False
) -> OpenedJournal:
    """The journal, checked against what state.db witnesses; made if there is none.

    Raises Refused where the directory is of a journal kept elsewhere, and what the engine's opening raises: JournalLocked,
    JournalDamaged, JournalUnavailable and the like.
    """
    if settings.url is not None:
        return _open_database(settings.url, data, accept_head)
    return _open_files(data, accept_head, use_reserve)


def witnesses_of(data: Path) -> list[Witness]:
    """What a cache in the data directory had seen of its journal."""
    seen = state_witness(data)
    return [] if seen is None else [seen]


def _open_files(data: Path, accept_head: int | None, use_reserve: bool) -> OpenedJournal:
    from journal.file.open import open_journal

    directory = data / JOURNAL_NAME
    if exists(directory / NODE_NAME):
        raise Refused(
            f"{data} is of a journal in a database, and no [journal] names one",
            hint="Put [journal] back into the configuration, or choose another data directory with --data.",
        )
    check_not_moved(data)
    journal = open_journal(directory, witnesses=witnesses_of(data), accept_head=accept_head, use_reserve=use_reserve)
    recovery = journal.recovery
    warnings = [] if recovery.warning is None else [recovery.warning]
    if recovery.used_reserve:
        warnings.append("the disk is full: the ballast was released, so that the journal could be opened")
    if recovery.torn is not None:
        warnings.append(f"a torn tail of {recovery.torn.length} bytes was cut off the journal and saved")
    for id in recovery.possibly:
        warnings.append(f"{id} was in the torn tail and may have been acknowledged: redeliver it from GitHub")
    return OpenedJournal(journal, journal.reserve, recovery.created, warnings)


def _open_database(url: str, data: Path, accept_head: int | None) -> OpenedJournal:
    require_postgres()
    from journal.postgres.open import open_journal

    directory = data / JOURNAL_NAME
    if is_directory(directory) and any(NAME.match(path.name) for path in directory.iterdir()):
        raise Refused(
            f"{directory} holds a journal in files, and [journal] names a database",
            hint="Take [journal] out to go on with the files, or choose another data directory with --data.",
        )
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CovenqError(f"{directory} can't be made: {error.strerror}") from error
    lock = DirectoryLock(directory)
    try:
        journal = open_journal(
            url,
            node=_node(directory),
            witnesses=witnesses_of(data),
            accept_head=accept_head,
            missed=lambda witness: _note(directory, witness),
        )
        try:
            forget_missed(directory)
        except BaseException:
            journal.close()
            raise
    except BaseException:
        lock.release()
        raise
    return OpenedJournal(journal, created=journal.created, release=lock.release)


def _note(directory: Path, witness: Witness) -> None:
    try:
        note_missed(directory, witness)
    except OSError as error:
        log.error("that record %d is missed can't be noted in %s: %s", witness.seq, directory, error.strerror)


def _node(directory: Path, token: Callable[[int], str] = secrets.token_hex) -> str:
    """Who this directory is to the database: made once, and kept. Raises CovenqError."""
    path = directory / NODE_NAME
    try:
        if not exists(path):
            atomic_file.create(path, token(8).encode() + b"\n")
        return path.read_text("ascii").strip()[:64]
    except (OSError, UnicodeDecodeError) as error:
        raise CovenqError(f"{path} can't be read or written: {error}", hint="Check the data directory.") from error
