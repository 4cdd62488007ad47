"""The daemon's data directory: creates it and the webhook's secret, locks and recovers the journal, opens the state."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from covenq import atomic_file
from covenq.config.journal import JournalSettings
from covenq.config.load import Config
from covenq.config.secret_keys import default_file
from covenq.daemon.following import Following
from covenq.errors import CovenqError, DiskFull, Refused
from covenq.intake import resume
from covenq.operate.maintain.journal_home import OpenedJournal, address_of, open_to_write, witnesses_of
from covenq.operate.maintain.journal_lock import wait_for_lock
from covenq.operate.maintain.node import own_node
from covenq.paths import JOURNAL_NAME, STATE_NAME
from covenq.state.folded import FoldedState
from covenq.state.readers import Readers
from journal import open_reader
from journal.errors import JournalDamaged, JournalFull, JournalReadOnly
from journal.file import reader as files
from journal.file.lock import LOCK_NAME, check_filesystem
from journal.file.open import forced
from journal.file.reserve import Reserve
from journal.interface import Engine, SpaceReserve, Succeeding
from journal.presence import is_directory
from journal.records import NOBODY, Damage, Node

LOCK_S = 3.0
"""Seconds to wait for the lock: a command that reads without a daemon holds it for a moment."""
FOLD_STOP_S = 2.0
"""Seconds for the follower where the start fails; a daemon that ran has stopped it before."""
OPENING_BYTES = 512 << 10
"""Room that a start needs, on a disk that is full otherwise: index and state.db have 32 KiB of shared memory each, and a
write-ahead log; the journal gets a few records."""

Done = TypeVar("Done")

log = logging.getLogger("covenq.daemon")

_RELEASED = "the disk is full: the ballast was released, so that %s"
TO_RESUME = "what was cut short can be completed"
TO_FOLD = "state.db can be written"
TO_END = "running tasks can record their end"


@dataclass(frozen=True, slots=True)
class Storage:
    """What the data directory holds, opened."""

    data: Path
    journal: Engine
    reserve: SpaceReserve | None
    """Space that the engine sets aside; None if it has none."""
    created: bool
    """Whether the journal was not there before."""
    readers: Readers
    fold: Following
    """Not started yet."""
    state: FoldedState
    node: Node = NOBODY
    """Which node this data directory is."""
    succession: Succeeding | None = None
    """The journal, where several nodes have it."""

    @property
    def node_id(self) -> str:
        """Of this data directory, among those that share the journal; empty where none can."""
        return "" if self.succession is None else self.node.id


def make_directory(data: Path) -> bool:
    """Create the data directory, 0700, if it isn't there; whether it was created. Raises Refused."""
    try:
        data.mkdir(mode=0o700, parents=True)
        return True
    except FileExistsError:
        if not is_directory(data):
            raise Refused(f"{data} is no directory", hint="Choose another with --data or COVENQ_DATA.") from None
    except OSError as error:
        raise Refused(
            f"{data} can't be made: {error.strerror}", hint="Choose another directory with --data or COVENQ_DATA."
        ) from error
    if data.stat().st_mode & 0o077:
        log.warning("%s can be entered by other users; `chmod 700 %s` keeps payloads private", data, data)
    return False


def make_secret(data: Path, token: Callable[[int], str] = secrets.token_hex) -> bool:
    """Write DATA/secret, 0600, 32 random bytes as hex, whole or not at all. False if it is there already."""
    path = default_file(data)
    try:
        return atomic_file.create(path, token(32).encode() + b"\n", suffix=".new")
    except OSError as error:
        raise CovenqError(
            f"{path} can't be written: {error.strerror}", hint="Check the disk's space and permissions."
        ) from error


def open_storage(
    config: Config,
    data: Path,
    address: str,
    accept_head: int | None,
    cleanup: ExitStack,
    stopped: Callable[[], bool],
    begin_state: Callable[[OpenedJournal], None] = lambda opened: None,
) -> Storage:
    """Recover the journal, close what a crash left unfinished, and open the state that is folded from it.

    After the configuration, by whose routes a delivery is completed that a crash cut short; and that before anything else is
    appended, since it is known by being the newest record. `address` is where this node takes deliveries, empty if nowhere.
    `begin_state` may put a state.db in place, from which the fold goes on.

    Raises what `open_journal` raises, and StopAsked once `stopped()`.
    """

    reserve: SpaceReserve | None = None

    def make_room() -> bool:
        return release_ballast(reserve, TO_FOLD)

    fold = _start_follower(address_of(config.journal, data), data, make_room)
    cleanup.callback(fold.stop, 0.0)
    opened = _open_locked(config, data, address, accept_head)
    cleanup.callback(opened.close)
    for warning in opened.warnings:
        log.warning("%s", warning)

    journal, reserve = opened.journal, opened.reserve
    succession = opened.succession
    if succession is None or succession.leads:
        with_room(lambda: resume.resume(journal, config), lambda: release_ballast(reserve, TO_RESUME))
    begin_state(opened)
    with_room(lambda: fold.open(journal, stopped), make_room)
    readers = Readers(data / STATE_NAME, fold.distrust)
    cleanup.callback(readers.close_readers)
    cleanup.callback(fold.stop, FOLD_STOP_S)  # while there is a journal whose head it can be told
    state = FoldedState(journal, readers, fold)
    return Storage(data, journal, reserve, opened.created, readers, fold, state, opened.node, opened.succession)


def _start_follower(journal: str | Path, data: Path, on_full: Callable[[], bool]) -> Following:
    """Before anything is opened: it imports its modules meanwhile. It touches nothing before it is told to."""
    try:
        return Following(data / STATE_NAME, journal, on_full=on_full)
    except OSError as error:
        raise CovenqError(
            f"the process that folds the journal can't be started: {error.strerror}",
            hint="Look at the limits of processes and open files of this user (`ulimit -u`, `ulimit -n`).",
        ) from error


def release_ballast(reserve: SpaceReserve | None, purpose: str) -> bool:
    """Free the ballast file, so that what is needed can still be written on a full disk; whether there was one.

    `purpose` completes the log's sentence: what asked for it, and may have got it.
    """
    try:
        released = reserve is not None and reserve.release()
    except OSError as error:
        log.error("the ballast can't be released: %s", error.strerror)
        return False
    if released:
        log.warning(_RELEASED, purpose)
    return released


def with_room(do: Callable[[], Done], on_full: Callable[[], bool]) -> Done:
    """What `do` returns; tried once more if the disk was full, and `on_full` made room."""
    try:
        return do()
    except (JournalFull, DiskFull):
        if not on_full():
            raise
    return do()


def _open_locked(
    config: Config, data: Path, address: str, accept_head: int | None, wait_s: float = LOCK_S
) -> OpenedJournal:
    """The journal, waiting `wait_s` seconds for a reader that holds its lock. Raises as `open_to_write`."""

    def opened() -> OpenedJournal:
        return open_to_write(
            config.journal,
            data,
            find_node=lambda: own_node(data, config.node, address),
            accept_head=accept_head,
            use_reserve=True,
            may_stand_by=True,
        )

    return wait_for_lock(opened, wait_s)


def inspect_journal(settings: JournalSettings, data: Path) -> None:
    """Look at the journal that another process has open, without its lock, for what would keep this one from opening it.

    Raises JournalError: for a filesystem or a format it can't be on or in, permissions, damage, and want of room.
    """
    if settings.url is not None:
        with open_reader(settings.url):
            return
    directory = data / JOURNAL_NAME
    check_filesystem(directory, force=forced())
    lock = directory / LOCK_NAME
    if not os.access(directory, os.W_OK | os.X_OK) or not os.access(lock, os.R_OK | os.W_OK):
        raise JournalReadOnly(f"{directory} can't be written by this process")
    room = Reserve(directory).room()
    free = room.free + room.set_aside
    if free < OPENING_BYTES:
        raise JournalFull(
            f"{free >> 10} KiB are left for covenq in {directory}, and a start needs {OPENING_BYTES >> 10}",
            hint="Free space on the data directory's disk, and try again; the running daemon goes on.",
        )
    damage = _damage(data)
    # It may have been read in the middle of a rewrite.
    if damage and (damage := _damage(data)):
        raise JournalDamaged(damage)


def _damage(data: Path) -> tuple[Damage, ...]:
    with files.open_reader(data / JOURNAL_NAME, witnesses=witnesses_of(data)) as reader:
        return tuple(reader.damage)
