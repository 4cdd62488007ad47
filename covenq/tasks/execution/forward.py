"""Forwarding: posts a delivery to a URL as it came, with the original headers and bytes.

So the receiver checks GitHub's signature itself, or one that is made anew with a secret of ours, where the route says so.

No redirect is followed, since a receiver must not choose who else gets the delivery. The status of the answer decides; a
bounded part of its body is kept. Every wait is ended by one deadline, by a stop, or by the loss of the task.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from covenq import __version__
from covenq.model import Category
from covenq.net.address import shown_address
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.shortage import is_shortage
from covenq.tasks.scheduling.outcome import Outcome, is_retried_status
from covenq.text import one_line

CONNECT_S = 10.0
SOCKET_TIMEOUT_MAX_S = 2_000_000.0
"""poll(2), by which sockets wait, takes at most 24 days."""
BODY_MAX = 64 * 1024
"""Bytes kept of an answer's body. The rest is not read."""

_CONNECTION_HEADERS = frozenset(
    {"host", "content-length", "connection", "transfer-encoding", "expect", "te", "upgrade"}
)
"""Headers that belong to a connection: not those of the one by which the delivery came are sent, but this one's own."""
_REASON_MAX = 200
_ADDRESS_MAX = 300
_TYPE_MAX = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a POST. `status` None: no answer, for the reason in `error`. `body` has at most BODY_MAX bytes."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def receiver_failed(self) -> bool:
        """Whether the receiver itself failed, whatever it was sent: what a circuit breaker counts."""
        return self.status is None or self.status >= 500 or self.status in (408, 429)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def target_of(url: str) -> str:
    """The receiver that a URL names: scheme, host and port. There is one circuit breaker for each.

    What is no URL is its own name: the attempt that would use it fails, and nothing before.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return url
    host = parts.hostname or ""
    return f"{parts.scheme}://[{host}]:{port}" if ":" in host else f"{parts.scheme}://{host}:{port}"


def headers_for(original: Iterable[Sequence[str]], more: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers to send: the recorded ones in their order, without the connection's own, and `more`."""
    kept = [
        (str(one[0]), str(one[1]))
        for one in original
        if len(one) == 2 and str(one[0]).lower() not in _CONNECTION_HEADERS
    ]
    named = any(name.lower() == "user-agent" for name, _ in kept)
    return [*kept, *([] if named else [("User-Agent", f"covenq/{__version__}")]), *more]


def post(
    url: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    timeout_s: float,
    stops: Sequence[StopEvent],
    *,
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
) -> Reply:
    """One POST. `stops` end it early. Never raises for what a network or a receiver does.

    Raises OSError where this process is short of descriptors, threads or memory: the receiver has seen nothing then.
    """
    parts = urlsplit(url)
    connection = _connection(parts, min(CONNECT_S, timeout_s), context)
    try:
        with _Watchdog(connection, timeout_s, stops) as watch:
            try:
                return _exchange(connection, parts, headers, body, watch)
            except ssl.SSLCertVerificationError as error:
                return Reply(error=f"its certificate does not hold: {error.verify_message}"[:_REASON_MAX])
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, OSError) and connection.sock is None and is_shortage(error):
                    raise
                if watch.fired == "deadline":
                    return Reply(error=f"it gave no whole answer within {timeout_s:g} s")
                return Reply(error=_reason(error))
    finally:
        connection.close()


def outcome_of(reply: Reply, url: str, now: float) -> Outcome:
    """The outcome of an attempt by its reply. 5xx, 408, 425, 429 and no answer may be retried; others would come again."""
    if reply.status is None:
        return Outcome(Category.HTTP, detail=f"no answer from {_shown(url)}: {reply.error}")
    if reply.ok:
        return Outcome(None, http_status=reply.status)
    again = is_retried_status(reply.status)
    detail = f"the receiver at {_shown(url)} answered {reply.status}"
    if 300 <= reply.status < 400:
        detail += "; a redirect is not followed"
    wait = retry_after(reply.header("Retry-After"), now) if again else None
    return Outcome(Category.HTTP, detail=detail, http_status=reply.status, final=not again, retry_after_s=wait)


def _shown(url: str) -> str:
    return one_line(shown_address(url), _ADDRESS_MAX)


def answer_of(reply: Reply) -> bytes:
    """What is kept of an answer as the attempt's output: status, content type and body, in the form of HTTP."""
    kind = reply.header("Content-Type")
    head = f"HTTP {reply.status}\n" + (f"Content-Type: {one_line(kind, _TYPE_MAX)}\n" if kind else "")
    return head.encode("utf-8", "replace") + b"\n" + reply.body


def retry_after(value: str | None, now: float) -> float | None:
    """`Retry-After` in seconds from `now`: a number, or a date. None for anything else."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal() and len(text) <= 9:
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _connection(
    parts: SplitResult, timeout: float, context: Callable[[], ssl.SSLContext]
) -> http.client.HTTPConnection:
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context())
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)


def _exchange(
    connection: http.client.HTTPConnection,
    parts: SplitResult,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    watch: _Watchdog,
) -> Reply:
    connection.connect()
    # The watchdog ends it, and knows why; this is for the case that its shutdown wakes no read.
    connection.sock.settimeout(min(watch.remaining_s() + 1.0, SOCKET_TIMEOUT_MAX_S))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.putrequest("POST", target, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value.encode("latin-1", "replace"))
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Connection", "close")
    # A receiver may answer, and close, before it has read everything: then its answer counts, not the broken pipe.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.endheaders(body)
    response = connection.getresponse()
    if watch.fired is not None:  # a connection that was shut down looks like the end of the headers
        raise TimeoutError
    kept = bytearray()
    with contextlib.suppress(OSError, http.client.HTTPException):  # the status is known; the body is for people
        while len(kept) < BODY_MAX and (piece := response.read1(BODY_MAX - len(kept))):
            kept += piece
    return Reply(response.status, tuple(response.getheaders()), bytes(kept))


def _reason(error: Exception) -> str:
    """Why there was no answer, in the system's words, never in those of a receiver."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, socket.gaierror):
        return "its name can't be resolved"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'protocol error'}"[:_REASON_MAX]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:_REASON_MAX]
    if isinstance(error, http.client.HTTPException):
        return f"it does not speak HTTP ({type(error).__name__})"
    return type(error).__name__


class _Watchdog:
    """A watchdog thread: shuts a connection down at the deadline or at a stop, which ends whatever call it blocks in."""

    def __init__(self, connection: http.client.HTTPConnection, timeout_s: float, stops: Sequence[StopEvent]) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + timeout_s
        self._stops = [one.fd for one in stops]
        self._done, self._tell = os.pipe()
        self._thread = threading.Thread(target=self._run, name="forward-watch", daemon=True)
        self.fired: str | None = None

    def remaining_s(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def __enter__(self) -> _Watchdog:
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._tell)
            os.close(self._done)
            raise OSError(errno.EAGAIN, "no thread can be started") from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._tell)
        self._thread.join()
        os.close(self._done)

    def _run(self) -> None:
        poll = select.poll()
        for fd in (self._done, *self._stops):
            poll.register(fd, select.POLLIN | select.POLLHUP)
        while True:
            # Once it has fired, repeat the shutdown: the socket may not have existed yet.
            wait = self.remaining_s() if self.fired is None else 0.05
            ready = [fd for fd, _ in poll.poll(min(wait, 3600.0) * 1000)]
            if self._done in ready:
                return
            if self.fired is None and (ready or self.remaining_s() <= 0.001):
                self.fired = "sign" if ready else "deadline"
                for fd in self._stops:
                    poll.unregister(fd)
            if self.fired is not None and (sock := self._connection.sock) is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
