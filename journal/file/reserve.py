"""Disk space kept in reserve, so that running work can still record its end when the data directory's disk is full.

Two mechanisms. The **threshold**: when less than this is free, admission of new work should stop. The
**ballast**: a file of real bytes beside the log; when the log can't be written all the same (somebody else filled the disk),
`release` gives its blocks back at once, for the records that end running work. It is allocated again when there is space.
"""

from __future__ import annotations

import os
from pathlib import Path

from journal.file.files import Files, OsFiles, write_all
from journal.health import Room

BALLAST_NAME = "ballast"
_MIB = 1 << 20


def ballast_of(total: int) -> int:
    """Bytes of the ballast on a disk of `total` bytes: 1 % of it, at most 16 MiB."""
    return max(64 << 10, min(16 * _MIB, total // 100))


def threshold_of(total: int) -> int:
    """Bytes that new work may not touch on a disk of `total` bytes: 5 % of it, at most 64 MiB."""
    return max(256 << 10, min(64 * _MIB, total // 20))


class Reserve:
    """The ballast of a directory, and the room there is beside it. Sizes in bytes; both shrink with the disk.

    `journal.interface.SpaceReserve` is what a daemon uses of it.
    """

    def __init__(self, directory: Path, *, files: Files | None = None) -> None:
        """Raises OSError."""
        self.directory = directory
        self.path = directory / BALLAST_NAME
        self._files = files or OsFiles()
        _, total = self._files.space(directory)
        self.ballast = ballast_of(total)
        self.threshold = threshold_of(total)

    def room(self) -> Room:
        """The room now, not counting the ballast's bytes as free. Raises OSError."""
        free, total = self._files.space(self.directory)
        allocated = self.allocated()
        return Room(
            free,
            threshold_of(total),
            set_aside=self.ballast if allocated else 0,
            missing=0 if allocated else self.ballast,
        )

    def restore(self) -> None:
        """See `journal.interface.SpaceReserve.restore`."""
        if not self.allocated():
            room = self.room()
            if room.free >= room.to_reopen:
                self.allocate()

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
        free, _ = self._files.space(self.directory)
        if free < self.threshold + self.ballast:
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

    def release_if_full(self) -> bool:
        """See `journal.interface.SpaceReserve.release_if_full`."""
        room = self.room()
        return room.free < room.set_aside and self.release()
