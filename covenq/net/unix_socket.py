"""Unix sockets at paths of any length.

A socket's address holds about a hundred bytes, and a data directory's path may be longer. On Linux the directory is opened
and the socket is named through it (/proc/self/fd/N/covenq.sock). That doesn't change the working directory, so it is safe
with threads.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covenq.errors import Refused

ADDRESS_MAX = 100
"""Bytes of a path that every system's sun_path holds: 108 on Linux, 104 on macOS, with the closing NUL."""
FULL_S = 10.0
"""Seconds to wait for a place in the queue of a socket that others fill."""


@contextmanager
def address(path: Path) -> Iterator[str]:
    """A name for `path`, short enough to bind or connect to, valid within the `with`.

    Raises OSError if its directory can't be opened, Refused if the path is too long for this system.
    """
    if len(os.fsencode(path)) <= ADDRESS_MAX:
        yield str(path)
        return
    if not sys.platform.startswith("linux"):
        raise Refused(f"{path} is too long for a Unix socket", hint="Choose a shorter data directory with --data.")
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def connect(path: Path, timeout: float) -> socket.socket:
    """A connection to the socket at `path`; `timeout` in seconds, for this and for what follows.

    Raises BlockingIOError if the socket's queue stays full for FULL_S, or `timeout` if that is less; OSError.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        with address(path) as name:
            try:
                connection.connect(name)
            except BlockingIOError:
                _connect_in_turn(connection, name, min(timeout, FULL_S))
        connection.settimeout(timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_in_turn(connection: socket.socket, name: str, timeout: float) -> None:
    """Connect where the queue is full: the kernel lets those in who wait in it, and one that only tried again would seldom be.

    Raises BlockingIOError after `timeout` seconds, OSError.
    """
    connection.setblocking(True)
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        micros = max(1, int(left * 1_000_000))  # a zero would be for ever
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", *divmod(micros, 1_000_000)))
        connection.connect(name)
        try:
            connection.getpeername()
        except OSError:
            continue  # a signal interrupted it
        return
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def bind(path: Path) -> socket.socket:
    """A socket bound at `path`, 0600, not listening yet.

    The caller owns the directory (it holds the journal's lock), so a socket that is there already belongs to a dead
    process and is removed. Raises Refused if another file is at `path`, OSError.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(f"{path} is in the way: it is no socket", hint="Move it elsewhere.")
        path.unlink()
    except FileNotFoundError:
        pass
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(path) as name:
            bound.bind(name)
        path.chmod(0o600)  # before it listens, so that no other user can ever connect
    except BaseException:
        bound.close()
        raise
    return bound
