"""Opening files where a command may have put anything: a link, a named pipe, a device, a directory, gigabytes.

All that covenq opens below attempts/ is opened here. No call waits for another process, follows a link below the directory
that it is given, or returns what is no regular file. Each of these is an OSError instead, and concerns that file alone.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

_SEARCH = os.O_PATH if sys.platform == "linux" else os.O_RDONLY
"""How a directory is opened that is only passed through: it needs no permission to read it, where the system can do that."""


@contextmanager
def opened_directory(base: Path, *names: str) -> Iterator[int]:
    """A descriptor of base/names…, to be used as `dir_fd`. Only `base` itself may be reached by links. Raises OSError."""
    fd = os.open(base, _SEARCH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            below = os.open(name, _SEARCH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def open_file(base: Path, *names: str, flags: int = os.O_RDONLY) -> FileIO:
    """The regular file base/names…, open, and created with mode 0600 if `flags` say so. Raises OSError."""
    *directories, name = names
    with opened_directory(base, *directories) as directory:
        # Non-blocking, since opening a named pipe waits for its other end.
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", name)
        os.set_blocking(fd, True)  # a command gets one as its stdin
    except BaseException:
        os.close(fd)
        raise
    return FileIO(fd, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "wb")


def read_file(base: Path, *names: str, limit: int) -> bytes:
    """The content of the regular file base/names…. Raises OSError; EFBIG, before it is read, if it has over `limit` bytes."""
    with open_file(base, *names) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(content) > limit:
        raise OSError(errno.EFBIG, f"it has {max(size, len(content))} bytes, more than {limit}", names[-1])
    return content
