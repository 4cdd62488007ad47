"""Reading a small file that an operator named (a secret, the tokens), without blocking on what is not a regular file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read(path: Path, limit: int) -> tuple[bytes, int]:
    """The first `limit` bytes, and the mode.

    Raises OSError, also for what is not a regular file: opening a named pipe would block until a program writes to it, at the
    start or at a reload.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(limit), mode
    finally:
        os.close(fd)
