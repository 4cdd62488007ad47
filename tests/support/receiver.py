"""A receiver of forwards: like a GitHub App, it believes no request whose signature doesn't fit the raw body."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

from tests.support.requests import SECRET, sign

Said = tuple[int, dict[str, str], bytes]
"""Status, headers and body of an answer."""


class Receiver(ThreadingHTTPServer):
    """Keeps what it got in `seen`: headers by lower-case name (`:path` is the path), body, and whether `secret` signed it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secret = SECRET
        self.seen: list[tuple[dict[str, str], bytes, bool]] = []
        self.answer: Callable[[int], Said] = lambda number: (200, {}, b"thanks")
        """Makes the answer to the request of that number, from 1."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?app=1"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.headers.get("X-Hub-Signature-256") == sign(body, self.server.secret)
        self.server.seen.append(({k.lower(): v for k, v in self.headers.items()} | {":path": self.path}, body, good))
        status, headers, said = self.server.answer(len(self.server.seen))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(said)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


R = TypeVar("R", bound=Receiver)


@contextmanager
def receiving(server: R) -> Iterator[R]:
    """The receiver, which answers until the end of the `with`."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
