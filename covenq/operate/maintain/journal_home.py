"""Where the journal of a data directory is kept, by its configuration, and how it is opened to write: in files, or in a database.

A data directory belongs to one process at a time whichever it is: with a database too its lock is in it. So a node whose id the
directory has (`node`) is alone under it, and may take the lease that it had when it was killed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covenq import atomic_file
from covenq.config.journal import JournalSettings
from covenq.errors import CovenqError, Refused
from covenq.operate.maintain.moved_journal import check_not_moved
from covenq.operate.maintain.state_witness import forget_missed, note_missed, state_witness
from covenq.paths import JOURNAL_NAME
from journal.engines import IN_DATABASE, require_postgres
from journal.file.lock import DirectoryLock
from journal.file.segment import NAME
from journal.interface import Engine, SpaceReserve, Succeeding
from journal.presence import exists, is_directory
from journal.records import NOBODY, Node, Witness

log = logging.getLogger("covenq.daemon")

FindNode = Callable[[], tuple[Node, str | None]]
"""The node that opens it, and what an operator is to be told of it; asked with the data directory's lock held."""


@dataclass(frozen=True, slots=True)
class OpenedJournal:
    """A journal open for writing, and what its opening has found. Close it here, not the journal alone."""

    journal: Engine
    reserve: SpaceReserve | None = None
    """Space that the engine sets aside; None if it has none."""
    created: bool = False
    """Whether it was not there before."""
    node: Node = NOBODY
    """Who opened it."""
    warnings: Sequence[str] = ()
    """What an operator is to be told of the opening, a sentence each."""
    succession: Succeeding | None = None
    """The journal, if several nodes have it."""
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
    settings: JournalSettings,
    data: Path,
    *,
    find_node: FindNode,
    accept_head: int | None = None,
    use_reserve: bool = False,
    may_stand_by: bool = False,
) -> OpenedJournal:
    """The journal, checked against what state.db witnesses; made if there is none.

    Raises Refused where the directory is of a journal kept elsewhere, and what the engine's opening raises: JournalLocked,
    JournalDamaged, JournalUnavailable and the like.
    """
    if settings.url is not None:
        return _open_database(settings.url, data, find_node, accept_head, may_stand_by)
    return _open_files(data, find_node, accept_head, use_reserve)


def witnesses_of(data: Path) -> list[Witness]:
    """What a cache in the data directory had seen of its journal."""
    seen = state_witness(data)
    return [] if seen is None else [seen]


def _open_files(data: Path, find_node: FindNode, accept_head: int | None, use_reserve: bool) -> OpenedJournal:
    from journal.file.open import open_journal

    directory = data / JOURNAL_NAME
    if exists(directory / IN_DATABASE):
        raise Refused(
            f"{data} is of a journal in a database, and no [journal] names one",
            hint="Put [journal] back into the configuration, or choose another data directory with --data.",
        )
    check_not_moved(data)
    journal = open_journal(directory, witnesses=witnesses_of(data), accept_head=accept_head, use_reserve=use_reserve)
    try:
        node, told = find_node()
    except BaseException:
        journal.close()
        raise
    recovery = journal.recovery
    warnings = [] if recovery.warning is None else [recovery.warning]
    if recovery.used_reserve:
        warnings.append("the disk is full: the ballast was released, so that the journal could be opened")
    if recovery.torn is not None:
        warnings.append(f"a torn tail of {recovery.torn.length} bytes was cut off the journal and saved")
    for id in recovery.possibly:
        warnings.append(f"{id} was in the torn tail and may have been acknowledged: redeliver it from GitHub")
    warnings += [] if told is None else [told]
    return OpenedJournal(journal, journal.reserve, recovery.created, node, warnings)


def _open_database(
    url: str, data: Path, find_node: FindNode, accept_head: int | None, may_stand_by: bool
) -> OpenedJournal:
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
        node, told = find_node()
        _mark(directory)
        journal = open_journal(
            url,
            node=node,
            may_stand_by=may_stand_by,
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
    warnings = [] if told is None else [told]
    return OpenedJournal(
        journal, created=journal.created, node=node, warnings=warnings, succession=journal, release=lock.release
    )


def _note(directory: Path, witness: Witness) -> None:
    try:
        note_missed(directory, witness)
    except OSError as error:
        log.error("that record %d is missed can't be noted in %s: %s", witness.seq, directory, error.strerror)


def _mark(directory: Path) -> None:
    """Leave the mark of a journal in a database, if it isn't there. Raises CovenqError."""
    path = directory / IN_DATABASE
    try:
        if not exists(path):
            atomic_file.create(path, b"The records are in a database: [journal] in the configuration says which.\n")
    except OSError as error:
        raise CovenqError(f"{path} can't be written: {error.strerror}", hint="Check the data directory.") from error
