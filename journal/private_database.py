"""The files of a SQLite database as its user's alone, whatever the umask, and whoever may enter their directory.

SQLite creates a database with the umask's mode, and gives its -wal and -shm the database's own. So the file is created before
SQLite opens it. An existing file is never opened here: closing it would give up the locks that this process holds on it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

MODE = 0o600
_SHARED_MEMORY = 32 << 10
"""Bytes of a -shm file when it is made."""
_SUFFIXES = ("", "-wal", "-shm", "-journal")


def make_private(path: Path) -> None:
    """Create the database at `path`, empty, if there is none; take from others what they may do with its files.

    What can't be changed, since it is another user's, stays: whether it can be used is SQLite's to say.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))
    for suffix in _SUFFIXES:
        file = path.with_name(path.name + suffix)
        with contextlib.suppress(OSError):
            mode = file.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                file.chmod(MODE)


def is_full(error: sqlite3.Error, path: Path) -> bool:
    """Whether it is that the disk has no room for what was to be written for the database at `path`.

    That there is none for its shared memory, SQLite calls an I/O error.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        with contextlib.suppress(OSError):
            space = os.statvfs(path.parent)
            return space.f_bavail * space.f_frsize < _SHARED_MEMORY
    return bool(code == sqlite3.SQLITE_FULL)
