"""The lock on a delivery log that is followed: of the covenqs of one user on this machine one takes deliveries out of it.

Two that do run every task twice, and their data directories can't tell them of each other. So the lock is a file in the user's
state directory, by the digest of the log's identity. Of a covenq elsewhere, or of another user, it knows nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from covenq import atomic_file
from journal.flock import FileHeld, FileLock

DIRECTORY = "covenq-followed"
_NOTE_MAX = 4096

log = logging.getLogger("covenq.reconcile")


def lock_directory(env: Mapping[str, str]) -> Path | None:
    """Where the locks are, by the XDG specification; None where the environment names no place."""
    state, home = env.get("XDG_STATE_HOME", ""), env.get("HOME", "")
    if state.startswith("/"):
        return Path(state) / DIRECTORY
    return Path(home) / ".local" / "state" / DIRECTORY if home.startswith("/") else None


class LogLocks:
    """The locks that this process holds, by the log's digest. For one thread."""

    def __init__(self, directory: Path | None, data: Path) -> None:
        self._directory = directory
        self._said = str(data.resolve())
        self._held: dict[str, FileLock | None] = {}
        """None where a lock can't be had at all, which was logged."""

    def take(self, digest: str, name: str) -> str | None:
        """Take a log's, or go on holding it; else who has it, in words. Where none can be had, it is as if it were held."""
        if digest in self._held:
            return None
        if self._directory is None:
            self._without(digest, name, "neither XDG_STATE_HOME nor HOME says where")
            return None
        path = self._directory / f"{digest}.lock"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(path)
        except FileHeld as held:
            return f"{held.process}{_of_data(path.with_suffix('.data'))}"
        except OSError as error:
            self._without(digest, name, f"{path}: {error.strerror}")
            return None
        self._held[digest] = lock
        note = path.with_suffix(".data")
        with contextlib.suppress(OSError):  # whoever finds the lock held then knows less
            note.unlink(missing_ok=True)  # that of another one must not be taken for this one's, where there is no room
            atomic_file.replace(note, self._said.encode(errors="replace"), durable=False)
        return None

    def is_ending(self, digest: str) -> bool:
        """Whether who has a log's worked on this process's own data: it ends, for a data directory is one process's at a time."""
        return self._directory is not None and _data_of(self._directory / f"{digest}.data") == self._said

    def keep(self, digests: Collection[str]) -> None:
        """Release all others."""
        for digest in [one for one in self._held if one not in digests]:
            lock = self._held.pop(digest)
            if lock is not None:
                lock.release()

    def _without(self, digest: str, name: str, why: str) -> None:
        self._held[digest] = None
        log.warning("%s: whether another covenq of this machine follows it can't be told: %s", name, why)


def _of_data(note: Path) -> str:
    said = _data_of(note)
    return f" (data {said})" if said else ""


def _data_of(note: Path) -> str:
    try:
        with note.open("rb") as file:
            return file.read(_NOTE_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
