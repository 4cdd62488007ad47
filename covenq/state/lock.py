"""The lock of state.db: who folds into the file, makes it or removes it, holds DATA/state.lock as long as it has it open."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

from covenq.errors import CovenqError, DiskFull, StateLocked
from covenq.paths import STATE_LOCK_NAME
from journal import flock
from journal.flock import FileHeld, FileLock

POLL_S = 0.02


def lock_path(path: Path) -> Path:
    """The lock of the state.db at `path`."""
    return path.with_name(STATE_LOCK_NAME)


def take(
    path: Path,
    wait_s: float,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> FileLock:
    """The lock of the state.db at `path`, waited for `wait_s` seconds: a command, or a follower that ends, holds it for moments.

    Raises StateLocked after that, and CovenqError where it can't be taken at all.
    """
    deadline = monotonic() + wait_s
    while True:
        try:
            return FileLock(lock_path(path))
        except FileHeld as held:
            if monotonic() >= deadline:
                raise StateLocked(
                    f"{path} is being folded by {held.process}",
                    hint=f"Try again when it has ended{f'; `ps -p {held.pid}` shows what it is' if held.pid else ''}.",
                ) from held
        except OSError as error:
            raise _error(path, error) from error
        sleep(POLL_S)


def is_held(path: Path) -> bool:
    """Whether a process, this one among them, folds the state.db at `path`."""
    return flock.holder(lock_path(path)) is not None


def _error(path: Path, error: OSError) -> CovenqError:
    said = f"{path} can't be opened: {lock_path(path).name}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(said)
    return CovenqError(said, hint="Check this user's permission on the data directory, and what is there of that name.")
