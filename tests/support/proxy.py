"""Between a client and a port of this machine: a forward proxy, whatever host it is asked for, and a server that ends TLS."""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

RELAYED = 64 * 1024
"""Bytes read at a time."""


class Proxy(ThreadingHTTPServer):
    """Keeps what it was asked for in `asked`: method, target and Proxy-Authorization. `refusal` is answered to every CONNECT."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.to = port
        self.asked: list[tuple[str, str, str]] = []
        self.refusal: tuple[int, str] | None = None
        self.silent: threading.Event | None = None
        """Where it is one: it is set by a CONNECT, which is then not answered until the client goes."""

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that doesn't believe its certificate


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def _note(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization", "")))

    def do_CONNECT(self) -> None:
        self._note()
        self.close_connection = True
        if self.server.silent is not None:
            self.server.silent.set()
            self.connection.recv(1)
            return
        if self.server.refusal is not None:
            self.send_error(*self.server.refusal)
            return
        with socket.create_connection(("127.0.0.1", self.server.to)) as there:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, there)

    def do_POST(self) -> None:
        self._note()
        parts = urlsplit(self.path)
        there = HTTPConnection("127.0.0.1", self.server.to, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "proxy-authorization"}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        there.request(self.command, f"{parts.path}?{parts.query}", body=body, headers=headers)
        answer = there.getresponse()
        said = answer.read()
        there.close()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def adding_proxy(upstream: int, passes: Callable[[str], bool], token: str) -> Iterator[int]:
    """A reverse proxy that passes GET on, for the paths that `passes` says, with a token of its own; its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("host", "authorization")
            }
            if not passes(self.path.partition("?")[0]):
                self._say(404, [], b"")
                return
            there = HTTPConnection("127.0.0.1", upstream, timeout=30)
            there.request("GET", self.path, headers={**headers, "Authorization": f"Bearer {token}"})
            answer = there.getresponse()
            self._say(answer.status, answer.getheaders(), answer.read())
            there.close()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._say(404, [], b"")

        def _say(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "date", "server", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def relay(one: socket.socket, other: socket.socket) -> None:
    """Until one of the two has no more to say."""
    while True:
        pending = getattr(one, "pending", int)()
        for ready in [one] if pending else select.select([one, other], [], [])[0]:
            piece = ready.recv(RELAYED)
            if not piece:
                return
            (other if ready is one else one).sendall(piece)


@contextmanager
def proxying(proxy: Proxy) -> Iterator[Proxy]:
    """The proxy, which answers until the end of the `with`."""
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


@contextmanager
def tls_front(context: ssl.SSLContext, port: int) -> Iterator[int]:
    """A server whose connections are decrypted and led to `port`; its own port."""

    class Front(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with (
                    context.wrap_socket(self.request, server_side=True) as one,
                    socket.create_connection(("127.0.0.1", port)) as other,
                ):
                    relay(one, other)
            except OSError:
                pass  # one of the two is gone

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Front) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
