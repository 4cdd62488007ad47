"""A file that one process holds at a time, by a flock for as long as it works on what the file stands for.

The file is never unlinked: a process that created it again would hold another lock beside ours. That the name still means the
locked file is checked after locking. The descriptor is closed on exec, so a command that is started meanwhile holds nothing, and
the lock is free as soon as its holder has ended, however it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

MODE = 0o600


class FileHeld(Exception):
    """Another process holds the lock: `pid` is its number, 0 if that isn't known."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.process = f"process {pid}" if pid else "another process"
        super().__init__(self.process)


class FileLock:
    """The lock on the file at `path`, which is made if there is none. Raises FileHeld, and OSError where it can't be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            self._fd = os.open(path, flags, MODE)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current():
                    break
            except BlockingIOError as error:
                pid = _pid_in(self._fd)
                self.release()
                raise FileHeld(pid) from error
            except BaseException:
                self.release()
                raise
            self.release()  # somebody replaced the file between our open and our lock
        # The number is only for messages: without room for it on a full disk, the lock is held all the same.
        with contextlib.suppress(OSError):
            if stat.S_IMODE(os.fstat(self._fd).st_mode) & 0o077:
                os.fchmod(self._fd, MODE)
            number = f"{os.getpid()}\n".encode()
            os.pwrite(self._fd, number, 0)  # before it is truncated: so the block that it has is written again
            os.ftruncate(self._fd, len(number))

    def _is_current(self) -> bool:
        """Whether the name still means the file that we locked."""
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def release(self) -> None:
        """May be repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def holder(path: Path) -> int | None:
    """The process that holds the lock on the file, 0 if its number isn't known; None if nobody does, or it can't be told.

    To find out, the lock is taken for a moment where it is free: who takes it waits that long.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _pid_in(fd: int) -> int:
    owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(owner) if owner.isascii() and owner.isdecimal() else 0
