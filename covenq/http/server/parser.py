"""One HTTP request as it is received: the checks and bounds that waitress's parser lacks.

- The body's own size is limited, exactly, and as soon as it is announced; waitress limits what is on the wire, chunk headers
  included.
- The lines around chunks are bounded; waitress joins them to themselves again with every piece.
- What two servers could take for different requests is refused: a length beside an encoding, an encoding in HTTP/1.0.
- What can't become a request is refused at once: TLS, or empty lines without end, which waitress reads forever.
- Each phase has a deadline, even if the client keeps sending, very slowly.
- The half-received bodies together have a bound.

A plain request that comes in one piece, as a delivery nearly always does, is taken as it is: it needs no buffer.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from io import BytesIO

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver, FixedStreamReceiver
from waitress.utilities import BadRequest, RequestEntityTooLarge
from waitress.utilities import Error as WaitressError

from covenq.http.server import head

HEADERS_MAX = 64 * 1024
"""Bytes of a request's headers, and of what follows the last chunk."""
CHUNK_LINE_MAX = 8 * 1024
"""Bytes of the line before a chunk; it may end one read later."""
BUFFERED_MAX = 256 << 20
"""Bytes that all bodies being received may hold, in memory (up to SPOOL_MIN each) or in temporary files; then the larger
ones wait."""
SPOOL_MIN = 64 * 1024
"""Bytes of a body from which on it is in a temporary file while it comes in."""

_TLS = b"\x16\x03"
"""The first bytes of a client that expects HTTPS on this port: a handshake record, of TLS or SSL 3."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?im)^content[-_]length[ \t]*:")
_ENCODING = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")


class ServiceUnavailable(WaitressError):
    """There is no room for the body."""

    code = 503
    reason = "Service Unavailable"


class RequestTimeout(WaitressError):
    """The request's deadline has passed."""

    code = 408
    reason = "Request Timeout"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Size and deadlines of one request."""

    body: int
    """Bytes of the body."""
    header_s: float
    """Seconds from the connection's opening, or from a later request's first byte, to the end of its headers."""
    body_s: float
    """Seconds from there to the end of the body."""


class BufferedBytes:
    """Counter of the bytes that the half-received bodies of one listener hold. From any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def full(self) -> bool:
        return self._bytes >= self._limit

    def add(self, size: int) -> None:
        with self._lock:
            self._bytes += size

    def subtract(self, size: int) -> None:
        with self._lock:
            self._bytes -= size


class WholeBody(FixedStreamReceiver):
    """A body that came in one piece with its head: the receiver that has nothing to receive, and is its own buffer."""

    completed = True

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __len__(self) -> int:
        return len(self.body)

    def getfile(self) -> BytesIO:
        return BytesIO(self.body)

    def getbuf(self) -> WholeBody:
        return self

    def close(self) -> None:
        """As waitress closes a buffer. This one holds no file."""


class Parser(HTTPRequestParser):
    """One request. Its errors are worded by `channel.JsonErrorTask`."""

    empty: bool

    def __init__(self, adj: Adjustments, limits: RequestLimits, buffered: BufferedBytes) -> None:
        super().__init__(adj)
        self.began = time.monotonic()
        self.deadline = self.began + limits.header_s
        self._limits = limits
        self._buffered = buffered
        self._counted = 0

    def received(self, data: bytes) -> int:
        if self.body_rcv is None and not self.header_plus and not self.completed:
            end = data.find(_HEAD_END) + len(_HEAD_END)
            plain = head.read(data[:end]) if len(_HEAD_END) <= end <= HEADERS_MAX else None
            if plain is not None:
                return self._use_request(plain, data, end)
        return self._received_piece(data)

    def _use_request(self, plain: head.Head, data: bytes, end: int) -> int:
        """Take a plain head that ends at `end` of `data`, and the body behind it if it is whole and small."""
        stop = end + plain.length
        if 0 < plain.length <= SPOOL_MIN and plain.length <= self._limits.body and stop <= len(data):
            self._use_head(plain, WholeBody(data[end:stop]))
            self.completed = True
        else:
            self._use_head(plain)
            self.completed = self.body_rcv is None
            if self.body_rcv is not None:
                self._check_limits(self.body_rcv)
            stop = end
        self.headers_finished = True
        return stop

    def _received_piece(self, data: bytes) -> int:
        """A part of a request, or one that is not plain: as waitress reads it."""
        if data[0] == _TLS[0] and data.startswith(_TLS) and self.body_rcv is None and not self.header_plus:
            self.fail(BadRequest("This is TLS, and plain HTTP is spoken here"))
            return len(data)
        try:
            consumed = super().received(data)
        except ValueError:  # a Content-Length of thousands of digits, half an IPv6 address
            consumed = len(data)
            self.fail(BadRequest("The request line or a length makes no sense"))
        except OSError as error:  # of the temporary file
            consumed = len(data)
            self.fail(ServiceUnavailable(f"the body can't be kept while it comes in: {error.strerror}"))
        if self.empty:
            # One empty line before a request is accepted, as RFC 9112 asks. Two of them waitress would take for an
            # empty request, with neither an answer nor a deadline.
            self.empty = False
            self.fail(BadRequest("It begins with empty lines"))
        if self.error is None and self.body_rcv is not None:
            self._check_limits(self.body_rcv)
        if self.error is not None and self.body_rcv is None:
            self._read_identity(self.header_plus + data)
        if self.completed:
            # A client that waits for "100 Continue" must not be told to go on after its request is over.
            self.expect_continue = False
            if self.error is not None:
                self.release()
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Raises ParsingError."""
        plain = head.read(header_plus)
        if plain is not None:
            self._use_head(plain)
            return
        super().parse_header(header_plus)
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("Only HTTP/1.0 and HTTP/1.1 are spoken here")
        host = self.headers.get("HOST")
        if (host is None and self.version == "1.1") or (host is not None and not head.is_host(host)):
            raise ParsingError("It has not one valid Host")
        # Looked for in the bytes, for the parser may remove it from its headers.
        if self.chunked and _LENGTH.search(header_plus):
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if self.chunked and [value.strip(b" \t").lower() for value in _ENCODING.findall(header_plus)] != [b"chunked"]:
            raise ParsingError("Transfer-Encoding is given twice")
        if "TRANSFER_ENCODING" in self.headers:  # waitress takes it out of an HTTP/1.1 request
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        self.deadline = time.monotonic() + self._limits.body_s

    def _use_head(self, plain: head.Head, body: WholeBody | None = None) -> None:
        """Set what `parse_header` would set. `body` came with it."""
        self.first_line = plain.first_line
        self.headers = plain.headers
        self.command, self.version = "POST", "1.1"
        self.request_uri = self.path = plain.path
        self.proxy_scheme = self.proxy_netloc = self.query = self.fragment = ""
        self.url_scheme = self.adj.url_scheme
        self.content_length = plain.length
        if body is not None:
            self.body_rcv = body
            return
        if plain.length > 0:
            self.body_rcv = FixedStreamReceiver(plain.length, OverflowableBuffer(self.adj.inbuf_overflow))
        self.deadline = time.monotonic() + self._limits.body_s

    def _check_limits(self, receiver: ChunkedReceiver | FixedStreamReceiver) -> None:
        size = receiver.__len__()
        announced = size + receiver.chunk_remainder if isinstance(receiver, ChunkedReceiver) else self.content_length
        if max(size, announced) > self._limits.body:
            self.fail(RequestEntityTooLarge(""))
        elif isinstance(receiver, ChunkedReceiver) and len(receiver.control_line) > CHUNK_LINE_MAX:
            self.fail(BadRequest("The line before a chunk is too long"))
        elif isinstance(receiver, ChunkedReceiver) and len(receiver.trailer) > HEADERS_MAX:
            self.fail(BadRequest("The trailer is too long"))
        elif size > self._counted:
            self._buffered.add(size - self._counted)
            self._counted = size

    @property
    def large(self) -> bool:
        """Whether its body is in a temporary file, and not received whole yet."""
        return self.body_rcv is not None and not self.completed and max(self._counted, self.content_length) > SPOOL_MIN

    def fail(self, error: WaitressError) -> None:
        """End the request with this error."""
        self._read_identity(self.header_plus)
        self.error = error
        self.completed = True
        self.expect_continue = False
        self.release()

    def _read_identity(self, received: bytes) -> None:
        """What the refused request says it is, for the log, from a head that was not parsed to its end."""
        if "X_GITHUB_DELIVERY" not in self.headers:
            for name, value in head.identity(received).items():
                self.headers.setdefault(name, value)

    def release(self) -> None:
        if self._counted:
            self._buffered.subtract(self._counted)
            self._counted = 0

    def close(self) -> None:
        self.release()
        super().close()
