"""Atomic file writes: under its name a file is the old one, the new one, or not there; never a part of one.

The content is written to a temporary file of the same directory, synced, and given its name by one system call that is
atomic within a file system. In that order nothing else can be found after a power cut: the bytes are durable before a
name leads to them, and the name is durable once its directory is synced, which is done before the call returns.

A crash before the name is given leaves the temporary file (the name and `suffix`), which nothing reads and which the next
write removes. A crash after it leaves the new content; after a power cut either content, until the directory was synced.
An error leaves no temporary file, if it can be removed. A symbolic link or a file at the temporary name is removed,
never written through; at the final name `replace` takes a link's place and leaves its target alone, and a directory
there is an error.

Two writers of the same name must exclude each other, or use different suffixes.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600


def replace(
    path: Path,
    content: bytes,
    *,
    suffix: str = ".tmp",
    mode: int = PRIVATE,
    durable: bool = True,
    owners: tuple[int, int] | None = None,
) -> None:
    """Write the file, in place of one that is there. `mode` is subject to the umask, unless `owners` (uid, gid) are given.

    With `durable` the content and the name are on the medium on return; without, nothing is synced: for content that may be
    lost, or that the caller syncs. Raises OSError; if it was the sync of the directory, the new content is in place.
    """
    temporary = _write(path, content, suffix, mode, durable, owners)
    try:
        temporary.rename(path)
    except BaseException:  # an interrupt may come when the file has its name already
        _remove(temporary)
        raise
    if durable:
        sync_directory(path.parent)


def rewrite(path: Path, content: bytes, *, suffix: str) -> None:
    """Write a file that is there anew, durably, with its owner and its mode; of a link, what that leads to. Raises OSError."""
    place = path.resolve()
    found = place.stat()
    replace(place, content, suffix=suffix, mode=stat.S_IMODE(found.st_mode), owners=(found.st_uid, found.st_gid))


def create(
    path: Path,
    content: bytes,
    *,
    suffix: str = ".tmp",
    mode: int = PRIVATE,
    owners: tuple[int, int] | None = None,
) -> bool:
    """Write the file durably if nothing has its name, not even a dangling link; False, and nothing is changed, otherwise.

    `mode` and `owners` as of `replace`. Of several at a time one is True. Raises OSError; if it was the sync of the directory,
    the file is there.
    """
    temporary = _write(path, content, suffix, mode, True, owners)
    try:
        path.hardlink_to(temporary)  # unlike a rename, it never replaces anything
    except FileExistsError:
        return False
    finally:
        _remove(temporary)
    sync_directory(path.parent)
    return True


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(path: Path, content: bytes, suffix: str, mode: int, durable: bool, owners: tuple[int, int] | None) -> Path:
    temporary = path.with_name(path.name + suffix)
    temporary.unlink(missing_ok=True)
    try:  # from the open on: a signal may come when it is made and not yet known
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb", buffering=0) as file:
            if owners is not None:  # before a byte is in it; and a change of owner may take bits of the mode away
                os.fchown(fd, *owners)
                os.fchmod(fd, mode)
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]
            if durable:
                _sync(fd)
    except BaseException:
        _remove(temporary)
        raise
    return temporary


def _remove(temporary: Path) -> None:
    """Remove it if it can be: what went wrong before is what the caller has to hear, and the next write removes it too."""
    with suppress(OSError):
        temporary.unlink()


def _sync(fd: int) -> None:
    """macOS's fsync stops at the drive's cache; F_FULLFSYNC waits for the medium."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)
