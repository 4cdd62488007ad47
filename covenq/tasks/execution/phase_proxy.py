"""The phase proxy: a Unix socket on which the commands of a pull worker report their phases. It accepts nothing else.

Commands are strangers to each other, and any of them may open connections without end. So there are CONNECTIONS at most, a thread
each, and a request has REQUEST_S to come. Where all are taken, the oldest that have not sent their request yet are closed for new
ones, as the daemon's own socket for phases does (`ListenerSettings.crowded`).
"""

from __future__ import annotations

import logging
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import orjson

from covenq.errors import Failure, NotFound, StaleFence
from covenq.net import unix_socket

BODY_MAX = 64 * 1024
CONNECTIONS = 64
"""Connections at a time, and threads: those that wait in the socket's queue come in as others end."""
REQUEST_S = 2.0
"""Seconds in which a request has to come."""
SPARED_S = 0.25
"""Seconds in which a new connection is not closed for another: what `covenq phase` sends is there at once."""
_QUEUE = 64
_FULL_S = 0.05
"""Seconds between two looks for what can be closed, where all connections are taken."""
_CLOSE_S = 5.0
_PATH = re.compile(r"/api/v1/claims/([0-9A-Za-z_-]{1,64})/phase\Z")

ReportPhase = Callable[[str, str, str, int | None], Mapping[str, object]]
"""(task, fence, phase, pull request or None) → the daemon's answer. Raises classes of covenq.errors."""

log = logging.getLogger("covenq.worker")


class PhaseProxy:
    """Listens until `close`."""

    def __init__(self, path: Path, report: ReportPhase) -> None:
        self._path = path
        self._server = _Server(report)
        self._server.socket.close()
        self._server.socket = unix_socket.bind(path)
        self._server.socket.listen(_QUEUE)
        self._thread = threading.Thread(target=self._server.serve_forever, name="phases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more, and wait for those that are being reported, for a bounded time."""
        self._server.end()
        self._thread.join(_CLOSE_S)
        self._path.unlink(missing_ok=True)


class _Server(socketserver.UnixStreamServer):
    def __init__(self, report: ReportPhase) -> None:
        super().__init__("", _Handler, bind_and_activate=False)
        self.report = report
        self._changed = threading.Condition()
        self._threads = 0
        self._sending: dict[socket.socket, float] = {}
        """Connections whose request has not come whole, oldest first: since when."""
        self._ending = False

    # On the thread that accepts

    def get_request(self) -> tuple[socket.socket, object]:
        try:
            found: tuple[socket.socket, object] = super().get_request()
        except OSError:  # no descriptor for it: it waits in the queue, and would be asked for again at once
            with self._changed:
                self._cut_off(SPARED_S, CONNECTIONS // 4)
                self._changed.wait(_FULL_S)
            raise
        return found

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket), "it is no datagram"
        with self._changed:
            while self._threads >= CONNECTIONS and not self._ending:
                self._cut_off(SPARED_S, CONNECTIONS // 4)
                self._changed.wait(_FULL_S)
            if self._ending:
                self.shutdown_request(request)
                return
            self._threads += 1
            self._sending[request] = time.monotonic()
        try:
            threading.Thread(target=self._serve, args=(request,), name="phase", daemon=True).start()
        except RuntimeError as error:  # there is no thread to be had
            log.warning("a phase was not heard: %s", error)
            self._finish(request)

    def service_actions(self) -> None:
        """Called in each round, twice a second at least."""
        with self._changed:
            self._cut_off(REQUEST_S, CONNECTIONS)

    def _cut_off(self, seconds: float, most: int) -> None:
        """End the sending of those that have been at it for so long, the oldest; with the lock held.

        Their threads read the end, and close them. Until then a connection is in `_sending`, so its descriptor is its own.
        """
        before = time.monotonic() - seconds
        for one in [one for one, since in self._sending.items() if since < before][:most]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self.shutdown()
        self.server_close()
        with self._changed:
            self._cut_off(0.0, CONNECTIONS)
            self._changed.wait_for(lambda: not self._threads, _CLOSE_S)

    # On a thread for each connection

    def _serve(self, request: socket.socket) -> None:
        try:
            self.finish_request(request, "")
        except OSError:
            pass  # who asked is gone, or was cut off
        except Exception:
            log.exception("a phase could not be passed on")
        finally:
            self._finish(request)

    def heard(self, request: socket.socket) -> None:
        """Its request has come whole: it is answered, whoever else comes."""
        with self._changed:
            self._sending.pop(request, None)

    def _finish(self, request: socket.socket) -> None:
        with self._changed:
            self._sending.pop(request, None)
            self.shutdown_request(request)
            self._threads -= 1
            self._changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_S

    def do_POST(self) -> None:
        found = _PATH.match(self.path)
        try:
            if found is None:
                raise NotFound("phases are all that this socket takes")
            size = int(self.headers.get("Content-Length", "0"))
            body: object = orjson.loads(self.rfile.read(size)) if 0 < size <= BODY_MAX else None
            if not isinstance(body, dict):
                raise TypeError(body)
            fence, phase = body["fence"], body["phase"]
            pr = body.get("pr")
            if not isinstance(fence, str) or not isinstance(phase, str) or type(pr) not in (int, type(None)):
                raise TypeError(body)
        except NotFound as error:
            self._answer(404, {"ok": False, "error": "not_found", "detail": str(error)})
            return
        except (ValueError, TypeError, KeyError):
            self._answer(400, {"ok": False, "error": "usage", "detail": "the body has no fence and phase"})
            return
        self.server.heard(self.connection)
        try:
            self._answer(200, self.server.report(found[1], fence, phase, pr))
        except StaleFence as error:
            self._answer(409, {"ok": False, "error": "stale_fence", "detail": str(error)})
        except Failure as error:
            self._answer(503, {"ok": False, "error": "not_durable", "detail": str(error)})

    def _answer(self, status: int, body: Mapping[str, object]) -> None:
        content = orjson.dumps(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "command"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: what commands report is in the journal."""
