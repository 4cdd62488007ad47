"""A service manager such as systemd: the datagram socket that a daemon notifies."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Manager:
    """Receives the notifications of one daemon."""

    def __init__(self, address: str | bytes) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.heard: list[str] = []

    def listen(self, timeout: float) -> str | None:
        """The next message; None if there is none for `timeout` seconds."""
        self.sock.settimeout(timeout)
        try:
            self.heard.append(self.sock.recv(4096).decode())
        except (TimeoutError, BlockingIOError):
            return None
        return self.heard[-1]

    def until(self, word: str) -> str:
        """The next message that holds `word`."""
        for _ in range(1000):
            said = self.listen(30.0)
            assert said is not None, f"nothing said {word}; heard {self.heard}"
            if word in said:
                return said
        raise AssertionError(self.heard)


@contextmanager
def manager(address: str | bytes) -> Iterator[Manager]:
    found = Manager(address)
    try:
        yield found
    finally:
        found.sock.close()


def activated(*listening: socket.socket) -> list[str]:
    """The words before a command that start it as systemd does: the sockets as descriptors from 3 on, and told of by number.

    The descriptors of `listening` must be passed to the process (`pass_fds`).
    """
    numbers = ", ".join(str(one.fileno()) for one in listening)
    program = (
        "import os, sys\n"
        f"kept = [os.dup2(number, 200 + at) for at, number in enumerate([{numbers}])]\n"
        "for at, number in enumerate(kept):\n"
        "    os.dup2(number, 3 + at)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': str(len(kept)), 'LISTEN_FDNAMES': 'covenq.socket'}\n"
        "os.closerange(3 + len(kept), 300)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    return [sys.executable, "-c", program]
