"""Every file call of the engine: the interface that tests replace to inject faults.

Everything that could lose data goes through `Files`, for which tests substitute a recording or failing double. Reading and
listing go through it as well, so that a double has one consistent file system.

The engine relies on this and no more: bytes handed to `pwrite` are durable after `fdatasync` of that descriptor returns
without error; a created, renamed or removed name is durable after `fsync_dir` of its directory; a rename within a directory
is atomic. Un-synced writes may survive in any part and any order.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import Protocol

from journal.errors import JournalError, JournalFull, JournalGone, JournalReadOnly, JournalWriteFailed


class Files(Protocol):
    """See `OsFiles` for what each does. All raise OSError."""

    def open(self, path: Path, *, write: bool) -> int: ...
    def create(self, path: Path) -> int: ...
    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, size: int, offset: int) -> bytes: ...
    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int: ...
    def size(self, fd: int) -> int: ...
    def identity(self, fd: int) -> tuple[int, int]: ...
    def identity_at(self, path: Path) -> tuple[int, int]: ...
    def fdatasync(self, fd: int) -> None: ...
    def fsync_dir(self, path: Path) -> None: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def listdir(self, path: Path) -> list[str]: ...
    def space(self, path: Path) -> tuple[int, int]: ...


class OsFiles:
    """The system's own calls."""

    def open(self, path: Path, *, write: bool) -> int:
        # Without O_NONBLOCK the open of a named pipe with a file's name would block forever.
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | flags)

    def create(self, path: Path) -> int:
        """A new, empty file, 0600. FileExistsError if there is one."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """May write fewer bytes than asked. EINTR is retried by Python itself (PEP 475)."""
        return os.pwrite(fd, data, offset)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def identity(self, fd: int) -> tuple[int, int]:
        """(device, inode) of an open file: shows whether a name still means it."""
        found = os.fstat(fd)
        return found.st_dev, found.st_ino

    def identity_at(self, path: Path) -> tuple[int, int]:
        found = os.stat(path)
        return found.st_dev, found.st_ino

    def fdatasync(self, fd: int) -> None:
        """The file's bytes, and the size needed to read them, on the medium.

        macOS has no fdatasync, and its fsync stops at the drive's cache: F_FULLFSYNC is what waits for the medium there.
        """
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def fsync_dir(self, path: Path) -> None:
        """The names in the directory, on the medium."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def listdir(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def space(self, path: Path) -> tuple[int, int]:
        """(bytes that an unprivileged process may still write, bytes in all) of the path's filesystem."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def write_all(files: Files, fd: int, data: bytes, offset: int) -> None:
    """Write every byte at `offset`, through short writes. Raises OSError; a write of 0 bytes counts as a full disk."""
    view = memoryview(data)
    while view:
        written = files.pwrite(fd, view, offset)
        if written <= 0:
            raise OSError(errno.ENOSPC, "the disk took no bytes")
        view = view[written:]
        offset += written


def read_all(files: Files, fd: int, offset: int, end: int, chunk: int = 1 << 20) -> bytes:
    """The bytes from `offset` up to `end`, or to the end of the file if that comes first."""
    parts = []
    while offset < end:
        part = files.pread(fd, min(chunk, end - offset), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


class SyncFailed(OSError):
    """A file's sync failed. It is never tried again: the next one may pass without the bytes being there."""


def _sync(files: Files, fd: int) -> None:
    try:
        files.fdatasync(fd)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


def publish(files: Files, path: Path, content: bytes) -> None:
    """A file that is there whole or not at all: written as `.tmp`, synced, renamed, the directory synced.

    Durable on return: the bytes by the sync before the rename, the name by the directory's sync after it. Raises OSError;
    SyncFailed if it was the sync of the bytes: the page cache can no longer be trusted then.
    """
    temporary = path.with_name(path.name + ".tmp")
    if temporary.name in files.listdir(path.parent):
        files.unlink(temporary)
    fd = files.create(temporary)
    try:
        write_all(files, fd, content, 0)
        _sync(files, fd)
    except OSError:
        files.close(fd)
        fd = -1
        files.unlink(temporary)
        raise
    finally:
        if fd >= 0:
            files.close(fd)
    files.rename(temporary, path)
    files.fsync_dir(path.parent)


def journal_error(error: OSError, directory: Path) -> JournalError:
    """A system call's error as the journal's own, whose hint says what to do."""
    reason = error.strerror or os.strerror(error.errno or errno.EIO)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JournalFull(f"no room for the journal in {directory}: {reason}")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return JournalReadOnly(f"{directory} can't be written: {reason}")
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return JournalGone(f"{directory} vanished: {reason}")
    return JournalWriteFailed(f"writing to {directory} failed: {reason}")
