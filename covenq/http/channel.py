"""waitress, where its settings don't reach.

- Its own refusals (413, 400, 431, 501) come from below WSGI as plain text that nobody counts: here they are covenq's JSON,
  and told to `on_refusal`.
- It closes a refused connection while the client still sends, and the reset that follows can destroy the answer before the
  client has read it: here the connection lingers, reading and dropping for a bounded while.
- It limits the size on the wire, chunk headers included: here the body's own size is what counts, exactly.
- A client that drips never meets its idle timeout: here a whole request has a deadline.
- Nothing bounds what all half-received bodies hold together: here something does.
- Its shutdown drops what waits for a thread: here a listener drains.

Everything of waitress that is overridden is in this module and in `server`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import BadRequest, RequestEntityTooLarge
from waitress.utilities import Error as WaitressError

from covenq.http.answers import RETRY_AFTER_S, error_body

REQUEST_S = 60.0
"""Seconds from a request's first byte to its last. GitHub itself gives up after ten."""
LINGER_S = 5.0
LINGER_BYTES = 64 << 20
"""How long, and how much, a refused client may go on sending into nothing."""
NEW_S = 0.5
"""Seconds a fresh connection has to send its first byte before a drain closes it."""
BUFFERED_MAX = 256 << 20
"""Bytes that all bodies being received may hold together, in memory and (over 512 KiB each) in temporary files."""

OnRefusal = Callable[[str, int, str, str, str], None]
"""(word, status, detail, path, client's address) of a request that never reached the application."""

_WORDS = {
    400: ("request_malformed", "The request is not well-formed HTTP"),
    413: ("body_too_large", "The body is over the limit"),
    431: ("headers_too_large", "The request's headers are too large"),
    501: ("transfer_encoding", "Only the chunked transfer encoding is understood"),
    503: ("busy", "Too much is being received at once"),
}


class Busy(WaitressError):  # type: ignore[misc]
    """Too much is being received at once."""

    code = 503
    reason = "Service Unavailable"


class Buffered:
    """How much the bodies of one listener hold. From any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._bytes = 0

    def take(self, size: int) -> bool:
        """False, and nothing taken, if that would be too much. Something fits always: one request alone is never busy."""
        with self._lock:
            if self._bytes and self._bytes + size > self._limit:
                return False
            self._bytes += size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._bytes -= size


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """One request as it comes in. Its body's size is limited exactly, its errors are ours to word."""

    def __init__(self, adj: Any, body_limit: int, buffered: Buffered) -> None:
        super().__init__(adj)
        self.began = time.monotonic()
        self._body_limit = body_limit
        self._buffered = buffered
        self._held = 0

    def received(self, data: bytes) -> int:
        try:
            consumed: int = super().received(data)
        except ValueError:  # a Content-Length of thousands of digits
            consumed = len(data)
            self._fail(BadRequest("A number is too long"))
        if self.error is None and self.body_rcv is not None:
            self._check()
        if self.completed:
            # A client that waits for "100 Continue" must not be told to go on after its request is over.
            self.expect_continue = False
        if self.error is not None:
            self.release()
        return consumed

    def _check(self) -> None:
        size = self.body_rcv.__len__()
        if max(size, self.content_length) > self._body_limit:
            self._fail(RequestEntityTooLarge(""))
        elif size > self._held:
            if self._buffered.take(size - self._held):
                self._held = size
            else:
                self._fail(Busy(""))

    def _fail(self, error: WaitressError) -> None:
        self.error = error
        self.completed = True

    def release(self) -> None:
        self._buffered.give(self._held)
        self._held = 0

    def close(self) -> None:
        self.release()
        super().close()


class JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """waitress refuses, or the application broke: the answer is ours."""

    def execute(self) -> None:
        error = self.request.error
        code: int = error.code
        word, sentence = _WORDS.get(code, ("internal", "covenq failed to answer; its log says why"))
        why = str(error.body) if code in (400, 501) else ""
        detail = f"{sentence}: {why.rstrip('.')}." if why else f"{sentence}."
        if code == 413:
            detail = f"{sentence} of {self.channel.body_limit} bytes."
        if code in _WORDS:
            path = str(getattr(self.request, "path", ""))
            self.channel.on_refusal(word, code, detail, path, str(self.channel.addr[0]))
        body = orjson.dumps(error_body(word, detail))
        self.status = f"{code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        if code == 503:
            self.response_headers.append(("Retry-After", str(RETRY_AFTER_S)))
        self.channel.refused = True
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Task(WSGITask):  # type: ignore[misc]
    """One request to the application."""

    def start(self) -> None:
        super().start()
        if self.channel.server.draining:
            self.set_close_on_finish()  # says so to the client: there will be no next request


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = Task
    error_task_class = JsonErrorTask

    close_when_flushed: bool

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:
        self.body_limit: int = server.body_limit
        self.on_refusal: OnRefusal = server.on_refusal
        self.refused = False
        self._lingers_until: float | None = None
        self._dropped = 0
        self._buffered: Buffered = server.buffered
        super().__init__(server, sock, addr, adj, map=map)

    def parser_class(self, adj: Any) -> Parser:
        return Parser(adj, self.body_limit, self._buffered)

    # In the listener's own thread

    def readable(self) -> bool:
        return self._lingers_until is not None or bool(super().readable())

    def handle_read(self) -> None:
        if self._lingers_until is None:
            super().handle_read()
            return
        try:
            data = self.recv(self.adj.recv_bytes)  # closes the channel at the end of the stream
        except OSError:
            self.handle_close()
            return
        self._dropped += len(data)
        if self._dropped > LINGER_BYTES:
            self.handle_close()

    def handle_write(self) -> None:
        if not (self.refused and self.close_when_flushed and not self.will_close):
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.will_close:
            self.handle_close()
        elif self.connected and not self.total_outbufs_len:
            self.close_when_flushed = False
            self._lingers_until = time.monotonic() + LINGER_S
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.handle_close()

    def handle_close(self) -> None:
        # Without the lock: this can be called by waitress while it holds it. The buffer goes with the channel.
        partial = self.request
        if partial is not None:
            partial.release()
        super().handle_close()

    def overdue(self, now: float) -> bool:
        """Whether its time is up: to finish sending a request, or to stop sending one that was refused."""
        if self._lingers_until is not None:
            return now > self._lingers_until
        partial = self.request
        return partial is not None and not self.requests and now - partial.began > REQUEST_S

    def idle(self, now: float) -> bool:
        """Whether nothing was asked that is not answered, so that closing it now loses nothing."""
        if self.requests or self.request is not None or self.total_outbufs_len or self.close_when_flushed:
            return False
        if self.last_activity == self.creation_time and now - self.creation_time < NEW_S:
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return True  # it is broken
