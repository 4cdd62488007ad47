"""Disk space kept in reserve, so that running work can still record its end when the data directory's disk is full.

Two mechanisms. The **threshold**: when less than this is free, admission of new work should stop (`low`). The
**ballast**: a file of real bytes beside the log; when the log can't be written all the same (somebody else filled the disk),
`release` gives its blocks back at once, for the records that end running work. It is allocated again when there is space.
"""

from __future__ import annotations

import os
from pathlib import Path

from journal.file.files import Files, OsFiles, write_all

BALLAST_NAME = "ballast"
_MIB = 1 << 20


def ballast_of(total: int) -> int:
    """Bytes of the ballast on a disk of `total` bytes: 1 % of it, at most 16 MiB."""
    return max(64 << 10, min(16 * _MIB, total // 100))


def threshold_of(total: int) -> int:
    """Bytes that new work may not touch on a disk of `total` bytes: 5 % of it, at most 64 MiB."""
    return max(256 << 10, min(64 * _MIB, total // 20))


class Reserve:
    """Sizes in bytes. Both shrink with the disk: 1 % of it for the ballast, 5 % for the threshold, at most 16 and 64 MiB."""

    def __init__(self, directory: Path, *, total: int | None = None, files: Files | None = None) -> None:
        self.directory = directory
        self.path = directory / BALLAST_NAME
        self._files = files or OsFiles()
        if total is None:
            found = os.statvfs(directory)
            total = found.f_blocks * found.f_frsize
        self.ballast = ballast_of(total)
        self.threshold = threshold_of(total)

    def free(self) -> int:
        """Bytes that may still be written, not counting the ballast's."""
        return self._files.free_bytes(self.directory)

    def low(self) -> bool:
        """Whether new work should be refused. Once it is, admission opens again at one and a half thresholds (`recovered`)."""
        return self.free() < self.threshold

    def recovered(self) -> bool:
        """Whether there is space enough to admit work again, with the ballast allocated."""
        return self.free() >= self.threshold + self.threshold // 2 + self.missing()

    def missing(self) -> int:
        """The ballast's bytes if it has to be allocated; 0 if it is there."""
        return 0 if self.allocated() else self.ballast

    def allocated(self) -> bool:
        """Whether it is there in full: a crash may have left a part of it."""
        try:
            return self.path.stat().st_size >= self.ballast
        except FileNotFoundError:
            return False

    def allocate(self) -> bool:
        """Allocate the ballast, synced, if there is space; True if it is there afterwards. Raises nothing for a full disk."""
        if self.allocated():
            return True
        if self.free() < self.threshold + self.ballast:
            return False
        self.release()
        fd = self._files.create(self.path)
        try:
            # Real bytes, not a hole and not one repeated block: filesystems that compress would reserve nothing for zeros.
            write_all(self._files, fd, os.urandom(self.ballast), 0)
            self._files.fdatasync(fd)
        except OSError:
            self._files.unlink(self.path)
            return False
        finally:
            self._files.close(fd)
        return True

    def release(self) -> bool:
        """Give the ballast's blocks back; True if there was one."""
        try:
            self._files.unlink(self.path)
        except FileNotFoundError:
            return False
        self._files.fsync_dir(self.directory)
        return True
