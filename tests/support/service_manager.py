"""A service manager such as systemd: the datagram socket that a daemon notifies."""

from __future__ import annotations

import socket
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
