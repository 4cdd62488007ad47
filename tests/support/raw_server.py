"""A server that answers in bytes of a test's own, by TCP, by TLS or on a Unix socket."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from covenq.net import unix_socket

Answer = Callable[[socket.socket], None]


@contextmanager
def raw_server(answer: Answer, context: ssl.SSLContext | None = None, path: Path | None = None) -> Iterator[int]:
    """Each connection, one after another, is handed to `answer`, then closed. Yields the port, 0 for a Unix socket at `path`."""
    server = socket.create_server(("127.0.0.1", 0)) if path is None else unix_socket.bind(path)
    with server:
        server.listen()

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    with connection if context is None else context.wrap_socket(connection, server_side=True) as made:
                        answer(made)
                except OSError:
                    continue  # it wants nothing of us: that is what is tested

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server.getsockname()[1] if path is None else 0
        server.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def head_of(connection: socket.socket) -> bytes:
    """A request's head, and what came with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    return received


def request_of(connection: socket.socket) -> bytes:
    """A request: its head, and its body if its length is told."""
    received = head_of(connection)
    head, _, _ = received.partition(b"\r\n\r\n")
    told = re.search(rb"(?mi)^content-length: *([0-9]+)", head)
    whole = len(head) + 4 + (int(told[1]) if told else 0)
    while len(received) < whole:
        received += _more(connection)
    return received


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("no more requests")
    return piece


def ok(body: bytes = b'{"ok":true}', *headers: str) -> bytes:
    """An answer of 200 with this body."""
    lines = "".join(f"{one}\r\n" for one in headers)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def drip(connection: socket.socket, piece: bytes) -> None:
    """Send this again and again, each in time, until the other side has closed."""
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(piece)
            connection.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return


def reset(connection: socket.socket) -> None:
    """Close it with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
