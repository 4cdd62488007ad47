"""The daemon's data directory: creates it and the webhook's secret, locks and recovers the journal, opens the state."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from covenq import atomic_file
from covenq.config.load import Config
from covenq.config.secret_keys import default_file
from covenq.errors import CovenqError, Refused
from covenq.intake import resume
from covenq.operate.maintain.journal_lock import wait_for_lock
from covenq.operate.maintain.state_witness import state_witness
from covenq.paths import JOURNAL_NAME, STATE_NAME
from covenq.state.folded import FoldedState
from covenq.state.follow import FoldThread
from covenq.state.store import StateStore
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.interface import Engine, SpaceReserve
from journal.presence import is_directory

LOCK_S = 3.0
"""Seconds to wait for the lock: a command that reads without a daemon holds it for a moment."""

log = logging.getLogger("covenq.daemon")


@dataclass(frozen=True, slots=True)
class Storage:
    """What the data directory holds, opened."""

    data: Path
    journal: Engine
    reserve: SpaceReserve | None
    """Space that the engine sets aside; None if it has none."""
    created: bool
    """Whether the journal was not there before."""
    store: StateStore
    fold_thread: FoldThread
    """Not started yet."""
    state: FoldedState


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


def open_storage(config: Config, data: Path, accept_head: int | None, cleanup: ExitStack) -> Storage:
    """Recover the journal, close what a crash left unfinished, and open the state that is folded from it.

    After the configuration, by whose routes a delivery is completed that a crash cut short; and that before anything else is
    appended, since it is known by being the newest record.

    Raises what `open_journal` raises.
    """
    journal = _open_locked(data, accept_head=accept_head)
    cleanup.callback(journal.close)
    _log_recovery(journal)
    resume.resume(journal, config)
    store = StateStore(data / STATE_NAME, journal)
    cleanup.callback(store.close)
    fold_thread = FoldThread(store, journal)
    cleanup.callback(fold_thread.stop, 2.0)
    state = FoldedState(journal, store, fold_thread)
    return Storage(data, journal, journal.reserve, journal.recovery.created, store, fold_thread, state)


def _open_locked(data: Path, wait_s: float = LOCK_S, *, accept_head: int | None = None) -> FileJournal:
    """The journal, checked against what state.db witnesses. Waits `wait_s` seconds for a reader that holds the lock.

    Raises what `open_journal` raises.
    """

    def opened() -> FileJournal:
        seen = state_witness(data)
        return open_journal(data / JOURNAL_NAME, witnesses=[seen] if seen else [], accept_head=accept_head)

    return wait_for_lock(opened, wait_s)


def _log_recovery(journal: FileJournal) -> None:
    """Log what recovery repaired, and which deliveries may have been lost."""
    recovery = journal.recovery
    if recovery.warning:
        log.warning("%s", recovery.warning)
    if recovery.torn is not None:
        log.warning("a torn tail of %d bytes was cut off the journal and saved", recovery.torn.length)
    for id in recovery.possibly:
        log.warning("%s was in the torn tail and may have been acknowledged: redeliver it from GitHub", id)
