"""The work directory of a pull worker: locked for one process; attempts in `attempts/`, the oldest failed ones pruned."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covenq.errors import Refused
from covenq.paths import ATTEMPTS_NAME
from covenq.tasks.execution import running
from covenq.tasks.execution.process_tree import kill_leftovers
from covenq.tasks.execution.removal import remove_tree
from covenq.tasks.execution.workdir import AttemptDirectory

log = logging.getLogger("covenq.worker")

FAILED_MAX = 50
"""Directories of failed tasks that are kept, the newest."""


@contextmanager
def locked_work_directory(base: Path) -> Iterator[Path]:
    """A directory below `base`, locked so that no other worker uses it meanwhile. Raises Refused."""
    for number in range(1, 1000):
        path = base / str(number)
        try:
            fd = _lock(path)
        except OSError as error:
            raise Refused(
                f"{base} can't be a worker's directory: {error.strerror}", hint="Choose another with --work."
            ) from error
        if fd is None:
            continue
        try:
            yield path
        finally:
            os.close(fd)
        return
    raise Refused(f"{base} has a thousand workers", hint="Choose another directory with --work.")


def _lock(path: Path) -> int | None:
    """The descriptor that holds the lock on the directory, which is made; None if another worker has it. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


def kill_earlier_leftovers(work: Path) -> None:
    """Kill what an earlier worker in this directory left running: its leases may have been granted to others."""
    marks = running.noted(work)
    if marks and (killed := kill_leftovers(marks)):
        log.warning("ended %d processes that an earlier worker had left running", len(killed))
    running.clear(work)


def prune_failed(work: Path, most: int = FAILED_MAX) -> None:
    """Remove the directories of tasks that are kept, but for the newest `most`."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError), os.scandir(work / ATTEMPTS_NAME) as listing:
        for one in listing:
            with contextlib.suppress(OSError):  # gone meanwhile
                found.append((one.stat(follow_symlinks=False).st_mtime, Path(one.path)))
    for _, path in sorted(found, reverse=True)[most:]:
        remove_directory(path)


def remove_if_not_kept(work: Path, attempt: AttemptDirectory, keep: str, *, failed: bool) -> None:
    """Of an attempt that ended, and of earlier ones, by `--keep`."""
    if keep != "all" and not (keep == "failed" and failed):
        remove_directory(attempt.path.parent)
    prune_failed(work)


def remove_directory(path: Path) -> None:
    """Remove the directory of a task with all that its command left; what stays is logged, and takes room until it is removed."""
    if left := remove_tree(path):
        log.warning("%s could not be removed wholly: %s stays, %d paths at least", path, left[0], len(left))
