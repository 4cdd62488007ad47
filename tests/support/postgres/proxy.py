"""A proxy between a daemon and a server, or two servers: it cuts connections in the middle of what they say, and slows them down.

On Unix sockets, as the servers listen; a thread for each direction of each connection.
"""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path


class Proxy:
    """Listens in `directory` under the server's port. `slow_s` is how long each piece waits on its way."""

    def __init__(self, directory: Path, server: Path, port: int, seed: int) -> None:
        self._server = server / f".s.PGSQL.{port}"
        self._chance = random.Random(seed)
        self.slow_s = 0.0
        self._answers_left: int | None = None
        """How many pieces of answers still pass before all is cut; None: all do."""
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        directory.mkdir(exist_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / f".s.PGSQL.{port}"))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        """How many it passes, or has passed since it was cut last."""
        return len(self._open) // 2

    def cut(self) -> None:
        """End all connections now, whatever is on its way."""
        with self._lock:
            ended, self._open = self._open, set()
        for one in ended:
            with _ignored():
                one.shutdown(socket.SHUT_RDWR)

    def cut_answers(self) -> None:
        """End all connections when some more pieces of answers have passed: what was asked by then has been done, unanswered."""
        self._answers_left = self._chance.randrange(1, 6)

    def close(self) -> None:
        self._closed.set()
        with _ignored():
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._server))
            except OSError:
                client.close()
                server.close()
                continue
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with source, _ignored():
            while piece := source.recv(1 << 16):
                if self.slow_s:
                    self._closed.wait(self.slow_s * self._chance.random())
                if answers and self._answers_left is not None:
                    self._answers_left -= 1
                    if self._answers_left <= 0:
                        self._answers_left = None
                        self.cut()
                        return
                target.sendall(piece)
        with _ignored():
            target.shutdown(socket.SHUT_RDWR)


class _ignored:
    """Errors of a socket whose other end has gone, which is what this is for."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)
