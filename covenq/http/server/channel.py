"""One connection: waitress's channel and tasks, overridden where its settings don't reach.

- Its own refusals (400, 413, 431, 501) come from below WSGI as plain text that nobody counts: here they are covenq's JSON,
  reported to `on_refusal`.
- It closes a refused connection while the client still sends, and the reset that follows can destroy the answer before the
  client has read it: here the connection lingers, reading and dropping for a bounded while.
- Its idle timeout never ends a client that sends very slowly, nor one that doesn't read its answer and so holds a thread: here a
  request's headers, its body, and the reading of an answer have deadlines.
- Its shutdown drops what waits for a thread: here a listener drains.
- A request that waits for something holds a thread: here the plain delivery doesn't (`deferred`).

Everything of waitress that is overridden is in this package.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from wsgiref.types import WSGIEnvironment

import falcon
import orjson
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import build_http_date

from covenq.http.answers import RETRY_AFTER_S, error_body
from covenq.http.server.deferred import Address, DeferredChannel, DeferredServer, PendingAnswer
from covenq.http.server.held import NotStarted
from covenq.http.server.parser import BufferedBytes, Parser, RequestLimits, RequestTimeout, ServiceUnavailable
from covenq.intake.refusal_evidence import Header

ANSWER_S = 30.0
ANSWER_BYTES = 64 << 10
"""A client that reads fewer bytes than this of a pending answer, in so many seconds, is disconnected."""
STALLED_S = 2.0
"""Seconds without a byte of a large body, after which others are received in its place while room is short."""
SENDING_S = 0.001
"""How long the loop waits for a thread that is sending."""
LINGER_S = 5.0
LINGER_BYTES = 64 << 20
"""How long, and how much, a refused client may go on sending while it is read and dropped."""
BEGAN = "covenq.began"
"""In the WSGI environment: when the first byte of the request came, by the monotonic clock."""
FIRST_BYTE_S = 0.5
"""Seconds a fresh connection has to send its first byte before a drain closes it."""

OnRefusal = Callable[[str, int, str, str, str, Header], None]
"""(word, status, detail, path, client's address, headers) of a request that never reached the application."""

_WORDS = {
    400: ("request_malformed", "The request is not well-formed HTTP"),
    408: ("request_timeout", "The request did not come to its end in time"),
    413: ("body_too_large", "The body is over the limit"),
    431: ("headers_too_large", "The request's headers are too large"),
    501: ("transfer_encoding", "Only the chunked transfer encoding is understood"),
    503: ("busy", "Too much is being received at once"),
}
_WORDS_AT_START = {
    503: ("starting", "covenq is starting"),
}
"""Of a request that was held for too long."""


class JsonErrorTask(ErrorTask):
    """waitress's own refusal, or a failed application, as covenq's JSON."""

    channel: Channel
    request: Parser

    def execute(self) -> None:
        error = self.request.error
        assert error is not None, "waitress makes this task of a request that has one"
        code = error.code
        words = _WORDS_AT_START if isinstance(error, NotStarted) else _WORDS
        word, sentence = words.get(code, ("internal", "covenq failed to answer; its log says why"))
        why = str(error.body) if code in (400, 501, 503) else ""
        detail = f"{sentence}: {why.rstrip('.')}." if why else f"{sentence}."
        if code == 413:
            detail = f"{sentence} of {self.channel.limits.body} bytes."
        if code in _WORDS:
            path = str(getattr(self.request, "path", ""))
            client = str(self.channel.addr[0])
            self.channel.on_refusal(word, code, detail, path, client, self.request.headers.get)
        body = orjson.dumps(error_body(word, detail))
        self.status = f"{code} {error.reason}"
        self.response_headers += [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        if code == 503:
            self.response_headers.append(("Retry-After", str(RETRY_AFTER_S)))
        # A slow client has had its time: no lingering.
        self.channel.refused = code != RequestTimeout.code and self.channel.server.lingers
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)


class Task(WSGITask):
    """One request to the application."""

    channel: Channel
    request: Parser

    def get_environment(self) -> WSGIEnvironment:
        return {**super().get_environment(), BEGAN: self.request.began}

    def start(self) -> None:
        super().start()
        if self.channel.server.draining:
            self.set_close_on_finish()  # says so to the client: there will be no next request


class DeferredTask(Task):
    """One request that the fast path answered, without the application unless that is to answer after all."""

    pending: PendingAnswer

    def execute(self) -> None:
        answer = self.pending.answer()
        if answer is None:
            super().execute()
            return
        body = orjson.dumps(answer.body)
        self.status = falcon.code_to_http_status(answer.status)
        self.response_headers += [("Content-Type", "application/json"), *answer.headers.items()]
        self.content_length = len(body)
        head = self._head(len(body)) or self.build_response_header()
        self.complete = self.wrote_header = True
        self.channel.write_now(head + body)  # in one piece: one packet, one system call

    def _head(self, length: int) -> bytes:
        """What `build_response_header` gives in the plain case, for a tenth of the cost; empty in any other."""
        headers = self.request.headers
        if self.version != "1.1" or self.close_on_finish or len(self.response_headers) > 1 or "CONNECTION" in headers:
            return b""
        return (
            f"HTTP/1.1 {self.status}\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n"
            f"Date: {_date(int(self.start_time))}\r\nServer: {self.channel.server.adj.ident}\r\n\r\n"
        ).encode()


@lru_cache(2)
def _date(second: int) -> str:
    return str(build_http_date(second))


class ChannelServer(DeferredServer):
    """The server of channels, as they know it."""

    draining = False
    lingers = True
    """Whether a refused connection is kept for a while, so that its client can read the answer."""
    spared_s = FIRST_BYTE_S
    """Seconds for which a connection is not evicted."""
    limits: RequestLimits
    on_refusal: OnRefusal
    buffered: BufferedBytes
    unpaused: tuple[Channel, ...] = ()
    """Those that may receive large bodies while all others are paused for room."""


class Channel(DeferredChannel):
    """One connection."""

    error_task_class = JsonErrorTask

    server: ChannelServer
    request: Parser | None
    """The one that is being received."""

    def __init__(
        self,
        server: ChannelServer,
        sock: socket.socket,
        addr: Address,
        adj: Adjustments,
        map: dict[int, wasyncore.dispatcher] | None = None,
    ) -> None:
        self.limits = server.limits
        self.on_refusal = server.on_refusal
        self.refused = False
        self._lingers_until: float | None = None
        self._dropped = 0
        self._buffered = server.buffered
        self._opened = time.monotonic()
        self._paused_at: float | None = None
        self.stalled = False
        """Whether nothing came of its large body for STALLED_S when it was last received and room was short."""
        self._sent = 0
        self._progress = (0.0, 0)
        super().__init__(server, sock, addr, adj, map=map)

    def task_class(self, channel: Channel, request: Parser) -> Task:
        if self.pending is None:
            return Task(channel, request)
        task = DeferredTask(channel, request)
        task.pending, self.pending = self.pending, None
        return task

    def parser_class(self, adj: Adjustments) -> Parser:
        return Parser(adj, self.limits, self._buffered)

    # On the listener's own thread

    def readable(self) -> bool:
        if self._lingers_until is not None:
            return True
        if self.requests and not self.adj.channel_request_lookahead:
            return False  # it waits for its answer, as most do
        if (self._buffered.full or self._paused_at is not None) and self._pauses_reading():
            return False
        return super().readable()

    def writable(self) -> bool:
        # While a thread sends, the loop can't. waitress would find the lock taken and try again at once, over and over, and keep
        # the interpreter's lock from that very thread. So the loop waits until it has sent.
        if self.requests and self.total_outbufs_len and self.outbuf_lock.acquire(timeout=SENDING_S):
            self.outbuf_lock.release()
        return bool(super().writable())

    def _pauses_reading(self) -> bool:
        """Whether receiving its body is paused, since too much is buffered. A pause does not count against its deadline,
        unless it had stalled before."""
        partial = self.request
        if self._buffered.full and partial is not None and partial.large and self not in self.server.unpaused:
            if self._paused_at is None:
                self._paused_at = time.monotonic()
            if not self.stalled:
                self.last_activity = time.time()  # it would send: waitress takes it for idle else
            return True
        if self._paused_at is not None:
            if partial is not None and not self.stalled:
                partial.deadline += time.monotonic() - self._paused_at
            self._paused_at = None
            self.last_activity = time.time()
        return False

    def note_progress(self) -> None:
        """Note whether its body still comes, if it is received at all."""
        if self._paused_at is None:
            self.stalled = time.time() - self.last_activity > STALLED_S

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent = super().send(data, do_close)
        self._sent += sent
        return sent

    def write_now(self, data: bytes) -> None:
        """`write_soon`, but without a buffer for what can be sent at once."""
        sent = 0
        if self.connected and not self.total_outbufs_len:
            with suppress(OSError):  # waitress meets it again
                sent = self.send(data, do_close=False)
        if sent < len(data):
            self.write_soon(data[sent:])

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
        lingers = self.refused and self.close_when_flushed and not self.will_close
        if not lingers:
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

    def check_deadlines(self, now: float) -> None:
        """Close it if a deadline has passed: for sending a request, for reading an answer, for lingering."""
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self.handle_close()
        elif self.total_outbufs_len:
            since, sent = self._progress
            if not since or self._sent - sent >= ANSWER_BYTES:
                self._progress = (now, self._sent)
            elif now - since > ANSWER_S:
                self.handle_close()  # will_close would wait for a socket that can be written to
        else:
            self._progress = (0.0, 0)
            self._check_request(now)

    @property
    def eviction_key(self) -> tuple[int, float] | None:
        """Sorts the connections that may be evicted, idle and oldest first; None while a request is unanswered, or just begun."""
        if self.requests or self.total_outbufs_len or self.close_when_flushed:
            return None
        partial = self.request
        began = self._opened if partial is None else partial.began
        return (int(partial is not None), began) if time.monotonic() - began > self.server.spared_s else None

    def evict(self) -> None:
        """Close it to make room for others; a request that was being received is answered 503."""
        with self.requests_lock:
            if self.request is None:
                self.handle_close()
            else:
                self._end_request(ServiceUnavailable("there are more connections than can be held"))

    def _check_request(self, now: float) -> None:
        with self.requests_lock:
            if self.requests or self.close_when_flushed:
                return
            partial = self.request
            if partial is None:
                if self.last_activity == self.creation_time and now - self._opened > self.limits.header_s:
                    self.handle_close()
            elif now > partial.deadline and (self._paused_at is None or self.stalled):
                self._end_request(RequestTimeout(""))

    def _end_request(self, error: RequestTimeout | ServiceUnavailable) -> None:
        """Answer the request that is still being received; with the lock held."""
        partial = self.request
        if partial is not None:
            partial.fail(error)
            self.request = None
            self.requests.append(partial)
            self.server.add_task(self)

    @property
    def between_requests(self) -> bool:
        """Whether all that was received is answered, so that another process can go on with the connection.

        What the client has sent meanwhile is still in the socket, and goes with it.
        """
        if self.requests or self.request is not None or self.total_outbufs_len:
            return False
        return self.connected and self._lingers_until is None and not (self.close_when_flushed or self.will_close)

    def idle(self, now: float) -> bool:
        """Whether no request is unanswered, so that closing it now loses nothing."""
        if self.requests or self.request is not None or self.total_outbufs_len or self.close_when_flushed:
            return False
        if self.last_activity == self.creation_time and now - self.creation_time < FIRST_BYTE_S:
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return True  # it is broken
