"""HTTP over a Unix socket, by the standard library.

On a daemon's own machine there is no proxy and no TLS, and a command must start fast.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path

from covenq.net import unix_socket
from covenq.net.transport import TookTooLong, shut_down


class UnixConnection:
    """`covenq.net.transport.Connection` to the socket at a path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = HTTPConnection("covenq")
        self._sock: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        return self._connection.sock is not None  # http.client forgets it where the other side will close it

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        wait_s: float,
        whole_s: float,
        endless: bool = False,
    ) -> UnixResponse:
        """As its protocol says, but that each piece of the head may take `wait_s`: whoever listens there is this user."""
        deadline = time.monotonic() + whole_s
        if not self.is_open:
            self._connection.sock = unix_socket.connect(self._path, wait_s)
        self._sock = self._connection.sock
        self._sock.settimeout(wait_s)
        try:
            self._connection.request(method, target, body=body, headers=dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it closed, and then says why: else there is nothing to read either
        response = self._connection.getresponse()
        return UnixResponse(self, response, None if endless and response.status == 200 else deadline)

    def shutdown(self) -> None:
        if self._sock is not None:
            shut_down(self._sock)

    def close(self) -> None:
        self._connection.close()


class UnixResponse:
    """`covenq.net.transport.Response`."""

    def __init__(self, connection: UnixConnection, response: HTTPResponse, deadline: float | None) -> None:
        self.status = response.status
        self._connection = connection
        self._response = response
        self._deadline = deadline
        self._ended = False

    def header(self, name: str) -> str | None:
        return self._response.getheader(name)

    def read1(self, most: int) -> bytes:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise TookTooLong
        piece = self._response.read1(most)
        if not piece:
            if self._response.length:  # http.client takes a part for the whole here
                raise IncompleteRead(b"", self._response.length)
            self._ended = True
        return piece

    def close(self) -> None:
        self._response.close()
        if not self._ended:
            self._connection.close()
