"""A one-shot listener on the loopback interface, to which GitHub's redirect brings a code: as RFC 8252 has it for programs.

It serves two paths to this machine's browser. The page, whose path nobody can guess, goes to the browser that comes first, and
to no other: another user of the machine who sees the path in the list of processes gets no `state` of it. The redirect's code
counts with that state alone. A request must name the listener as its host, or a page elsewhere could reach it by a name of its
own (DNS rebinding).

The standard library's server: it answers a handful of requests once, within bounds on time, size and connections. Waitress, which
the daemon's faces are made of, is made for many.
"""

from __future__ import annotations

import hmac
import queue
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from socketserver import TCPServer

from covenq.cli.app_page import POLICY, sentence_page
from covenq.errors import CovenqError, UsageError

CONNECTIONS_MAX = 16
SILENCE_S = 10.0
"""Seconds without a byte after which a connection is closed: browsers open some that they never use."""
TARGET_MAX = 4096
"""Characters of a request's path and query."""
REDIRECT_PATH = "/created"
COOKIE = "covenq_init"
_POLL_S = 0.2


class RedirectListener(ThreadingHTTPServer):
    """The listener. `code_of` reads a redirect's query, and raises UsageError for one that isn't this run's."""

    daemon_threads = True

    def __init__(self, code_of: Callable[[str], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.code_of = code_of
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.page_path = f"/{secrets.token_urlsafe(16)}"
        self.page = ""
        self.policy = POLICY
        self._reader = secrets.token_urlsafe(16)
        self._taken = False
        self._lock = threading.Lock()
        self._connections = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._codes: queue.Queue[str] = queue.Queue(1)

    @property
    def page_url(self) -> str:
        return f"http://{self.host}{self.page_path}"

    @property
    def redirect_url(self) -> str:
        return f"http://{self.host}{REDIRECT_PATH}"

    def wait(self, seconds: float) -> str:
        """The first code that comes. Raises CovenqError if none does."""
        try:
            return self._codes.get(timeout=seconds)
        except queue.Empty:
            raise CovenqError(
                f"GitHub sent no browser back within {seconds / 60:.0f} minutes, and nothing was written",
                hint="Run it again; where the browser is on another machine, with --no-browser.",
            ) from None

    def take_code(self, query: str) -> None:
        """Raises UsageError for a redirect that is not this run's, and for a second one."""
        code = self.code_of(query)
        try:
            self._codes.put_nowait(code)
        except queue.Full:
            raise UsageError("A code came already.") from None

    def page_for(self, cookie: str | None) -> str | None:
        """The cookie that goes with the page, for who comes first, or has that cookie; None for anybody else."""
        ours = f"{COOKIE}={self._reader}"
        with self._lock:
            first, self._taken = not self._taken, True
        given = [one.strip() for one in (cookie or "").split(";")]
        if first or any(hmac.compare_digest(one.encode(), ours.encode()) for one in given):
            return f"{ours}; Path={self.page_path}; HttpOnly; SameSite=Lax"
        return None

    # ---- the server's own

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's asks a name service what this machine is called

    def process_request(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a browser that went away
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: RedirectListener
    timeout = SILENCE_S

    def do_GET(self) -> None:
        server = self.server
        path, _, query = self.path.partition("?")
        if self.headers.get_all("Host") != [server.host]:
            self._say(HTTPStatus.FORBIDDEN, f"This is {server.host}.")
        elif len(self.path) > TARGET_MAX:
            self._say(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")
        elif hmac.compare_digest(path.encode(), server.page_path.encode()):
            self._page()
        elif path == REDIRECT_PATH:
            self._redirected(query)
        else:
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _page(self) -> None:
        cookie = self.server.page_for(self.headers.get("Cookie"))
        if cookie is None:
            self._say(HTTPStatus.FORBIDDEN, "Another browser was here first. Start covenq init again.")
        else:
            self._send(HTTPStatus.OK, self.server.page, self.server.policy, cookie)

    def _redirected(self, query: str) -> None:
        try:
            self.server.take_code(query)
        except UsageError as error:
            self._say(HTTPStatus.FORBIDDEN, f"This is not the redirect that is waited for: {error}")
        else:
            self._say(HTTPStatus.OK, "GitHub has sent its code. How it went is said where covenq init runs.")

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        self._send(status, sentence_page(sentence), POLICY)

    def _send(self, status: HTTPStatus, page: str, policy: str, cookie: str | None = None) -> None:
        body = page.encode()
        self.send_response_only(status)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
        }
        if cookie is None:
            headers["Referrer-Policy"] = "no-referrer"  # the redirect's address has the code in it
        else:
            headers["Set-Cookie"] = cookie
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library itself refuses: malformed requests, other methods."""
        self.close_connection = True
        self._say(HTTPStatus(code), "This is not answered here.")

    def log_message(self, *_: object) -> None:
        """Nothing: a request's line may have the code in it."""


@contextmanager
def listening(listener: RedirectListener) -> Iterator[RedirectListener]:
    """Have it answer for the `with`, and close it then."""
    thread = threading.Thread(target=listener.serve_forever, args=(_POLL_S,), name="redirect", daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
