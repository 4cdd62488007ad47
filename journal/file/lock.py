"""The directory lock: one process owns a journal's directory, by a flock held for life. And a check of its filesystem."""

from __future__ import annotations

from pathlib import Path

from journal import flock
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
        try:
            self._lock = flock.FileLock(self.path)
        except flock.FileHeld as held:
            raise JournalLocked(f"{directory} is in use by {held.process}") from held
        except OSError as error:
            raise JournalReadOnly(f"{self.path} can't be opened for writing: {error.strerror}") from error

    def release(self) -> None:
        """May be repeated: an opening that fails late has a journal that closes first."""
        self._lock.release()


def holder(directory: Path) -> int | None:
    """The process that holds the lock on `directory`: as `journal.flock.holder`."""
    return flock.holder(directory / LOCK_NAME)


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
