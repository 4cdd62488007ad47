"""The directory lock: one process owns a journal's directory, by a flock held for life. And a check of its filesystem.

The lock file is never unlinked: a process that created it again would hold another lock beside ours. That the name still means
the locked file is checked after locking.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from journal.errors import JournalLocked, JournalReadOnly, JournalUnsafe

LOCK_NAME = "lock"
NETWORK = frozenset(
    "nfs nfs4 cifs smb smbfs smb3 9p afs ceph glusterfs lustre gpfs ocfs2 fuse.sshfs fuse.s3fs fuse.glusterfs "
    "fuse.rclone davfs fuse.davfs2 beegfs orangefs virtiofs".split()
)
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


class DirectoryLock:
    """The flock on `directory`/lock. Raises JournalLocked if another process holds it, with its pid if the file has it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            try:
                self._fd = os.open(self.path, flags, 0o600)
            except OSError as error:
                raise JournalReadOnly(f"{self.path} can't be opened for writing: {error.strerror}") from error
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
                os.close(self._fd)
                who = f"process {owner}" if owner.isdigit() else "another process"
                raise JournalLocked(f"{directory} is in use by {who}") from error
            if self._is_current():
                break
            os.close(self._fd)  # somebody replaced the file between our open and our lock
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _is_current(self) -> bool:
        """Whether the name still means the file that we locked."""
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def release(self) -> None:
        """May be repeated: an opening that fails late has a journal that closes first."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def holder(directory: Path) -> int | None:
    """The process that holds the lock on `directory`, 0 if its number isn't known; None if nobody does, or it can't be told.

    To find out, the lock is taken for a moment where it is free: who takes it waits that long.
    """
    try:
        fd = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        return int(owner) if owner.isascii() and owner.isdecimal() else 0
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def filesystem_of(path: Path) -> str:
    """The type of the filesystem that `path` is on, from /proc/self/mountinfo; "" where that can't be read."""
    try:
        text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return ""
    wanted = str(path.resolve())
    best, kind = "", ""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split(" ")[4].encode().decode("unicode_escape")
        inside = wanted == mount or wanted.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split(" ")[0]
    return kind


def check_filesystem(path: Path, *, force: bool) -> str | None:
    """A warning for an operator, or None. Raises JournalUnsafe for a network filesystem, unless forced."""
    kind = filesystem_of(path)
    if kind in NETWORK and not force:
        raise JournalUnsafe(f"{path} is on {kind}, a network filesystem: its locks and syncs can't be relied on")
    if kind in NETWORK:
        return f"{path} is on {kind}, a network filesystem, by force: durability is not promised"
    if kind in MEMORY:
        return f"{path} is on {kind}, in memory: everything is lost with the machine's power"
    return None
