"""Reading a file that a person named on a command line, which may be a pipe: `--config <(sops -d covenq.toml)`.

A pipe is opened without waiting for its other end, is waited for within a bound and not silently, and is read once for the whole
process: what it held is gone then, and a command may look at its configuration twice.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO

from covenq.stderr import say
from covenq.text import escape

SILENT_S = 1.0
"""Seconds after which it is said what is waited for."""
PATIENCE_S = 60.0
"""Seconds to wait for the first byte."""
_CHUNK = 1 << 16

_read_once: dict[tuple[int, int], bytes] = {}
"""What pipes held, by device and inode. Each was named on the command line, so they are few."""


def read(path: Path, limit: int) -> bytes:
    """The first `limit` bytes of the file. Raises OSError, whose text says what is wrong, as `opened` does."""
    with opened(path) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISFIFO(found.st_mode):
            return file.read(limit)
        key = (found.st_dev, found.st_ino)
        if key not in _read_once:
            _await(file, path)
            _read_once[key] = file.read(limit)
        return _read_once[key]


def opened(path: Path, *, wait: bool = False) -> BinaryIO:
    """The file, open; with `wait`, once there is something to read from it. Raises OSError, for a directory too.

    TimeoutError if a pipe gave nothing within PATIENCE_S: perhaps nobody writes to it.
    """
    fd = os.open(
        path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    )  # else it waits for a pipe's writer, for ever and silently
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        os.set_blocking(fd, True)
        file = os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise
    if wait:
        try:
            _await(file, path)
        except BaseException:
            file.close()
            raise
    return file


def is_pipe(file: BinaryIO) -> bool:
    return stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)


def _await(file: BinaryIO, path: Path) -> None:
    """Wait until there is something to read, or its end. Raises TimeoutError.

    A pipe that nobody has opened for writing yet has neither; from the first byte on it is read as standard input is.
    """
    ready = select.poll()
    ready.register(file, select.POLLIN)
    if ready.poll(SILENT_S * 1000):
        return
    say(f"waiting for {escape(str(path))}, a pipe that nothing has come from yet")
    if not ready.poll((PATIENCE_S - SILENT_S) * 1000):
        raise TimeoutError(errno.ETIMEDOUT, f"it is a pipe, and nothing came from it in {PATIENCE_S:.0f}s", str(path))
