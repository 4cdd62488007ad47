"""A pooler in front of a server, as PgBouncer is one: a client's session is a connection of the pool's.

It keeps one for each client until that ends, or, with `shared`, gives each transaction the one that was used last. On Unix
sockets, as the servers listen, without passwords; a thread for each client.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path


class Pooler:
    """Listens in `directory` under the server's port."""

    def __init__(self, directory: Path, server: Path, port: int, *, shared: bool) -> None:
        self._server, self._shared = str(server / f".s.PGSQL.{port}"), shared
        self._idle: list[socket.socket] = []
        self._settings: dict[bytes, None] = {}
        """What the server says of itself at the log-in, which clients are told in turn."""
        self._lock = threading.Lock()
        directory.mkdir(exist_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / f".s.PGSQL.{port}"))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            for one in self._idle:
                one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: socket.socket | None = None
        try:
            size = _exactly(client, 4)
            startup = size + _exactly(client, struct.unpack("!i", size)[0] - 4)
            server = self._take(startup)
            # The log-in is answered with a number of the pooler's own, as the process that a cancellation would name.
            client.sendall(b"R" + struct.pack("!ii", 8, 0) + b"".join(self._settings))
            client.sendall(b"K" + struct.pack("!i", 12) + os.urandom(8) + b"Z" + struct.pack("!i", 5) + b"I")
            if self._shared:
                server = self._give_back(server)
            while (message := _message(client))[:1] != b"X":
                server = server or self._take(startup)
                server.sendall(message)
                if message[:1] in b"QS":  # a query, or the end of several messages: answered until the server is ready
                    while (answer := _message(server))[:1] != b"Z":
                        client.sendall(answer)
                    if self._shared and answer[-1:] == b"I":
                        server = self._give_back(server)
                    client.sendall(answer)
        except OSError:
            pass
        finally:
            client.close()
            if server is not None:
                server.close()

    def _take(self, startup: bytes) -> socket.socket:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        server.sendall(startup)
        while (message := _message(server))[:1] != b"Z":
            if message[:1] == b"S":
                self._settings[message] = None
        return server

    def _give_back(self, server: socket.socket) -> None:
        with self._lock:
            self._idle.append(server)


def _message(source: socket.socket) -> bytes:
    start = _exactly(source, 5)
    return start + _exactly(source, struct.unpack("!i", start[1:])[0] - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = source.recv(size - len(found))
        if not piece:
            raise ConnectionResetError
        found += piece
    return found
