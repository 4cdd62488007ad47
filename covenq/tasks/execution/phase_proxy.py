"""The phase proxy: a Unix socket on which the commands of a pull worker report their phases. It accepts nothing else."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import orjson

from covenq.errors import Failure, NotFound, StaleFence
from covenq.net import unix_socket

BODY_MAX = 64 * 1024
_PATH = re.compile(r"/api/v1/claims/([0-9A-Za-z_-]{1,64})/phase\Z")

ReportPhase = Callable[[str, str, str], Mapping[str, object]]
"""(task, fence, phase) → the daemon's answer. Raises classes of covenq.errors."""


class PhaseProxy:
    """Listens until `close`."""

    def __init__(self, path: Path, report: ReportPhase) -> None:
        self._path = path
        self._server = _Server(report)
        self._server.socket.close()
        self._server.socket = unix_socket.bind(path)
        self._server.socket.listen(64)
        self._thread = threading.Thread(target=self._server.serve_forever, name="phases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)
        self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, report: ReportPhase) -> None:
        super().__init__("", _Handler, bind_and_activate=False)
        self.report = report


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10.0

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
            if not isinstance(fence, str) or not isinstance(phase, str):
                raise TypeError(body)
        except NotFound as error:
            self._answer(404, {"ok": False, "error": "not_found", "detail": str(error)})
            return
        except (ValueError, TypeError, KeyError):
            self._answer(400, {"ok": False, "error": "usage", "detail": "the body has no fence and phase"})
            return
        try:
            self._answer(200, self.server.report(found[1], fence, phase))
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
