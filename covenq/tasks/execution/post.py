"""One POST of a delivery, by the environment's proxy where that names one: its answer, or why there is none.

No redirect is followed, since a receiver must not choose who else gets the delivery, and certificates are checked. Every wait
is ended by one deadline, by a stop, or by the loss of the task. So it has a connection of its own, whose socket can be shut down.

This module imports urllib3: it is imported where something is forwarded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import SplitResult, urlsplit

from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER, parse_url

from covenq.errors import UsageError
from covenq.net.outgoing import proxy_for, proxy_parts
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.forward import BODY_MAX, Reply
from covenq.tasks.execution.shortage import is_shortage

CONNECT_S = 10.0
SOCKET_TIMEOUT_MAX_S = 2_000_000.0
"""poll(2), by which sockets wait, takes at most 24 days."""
_REASON_MAX = 200


@dataclass(frozen=True, slots=True)
class _Way:
    """How a request goes to its receiver: a connection, not yet open, what is asked for on it, and the headers for a proxy."""

    connection: HTTPConnection
    target: str
    headers: Mapping[str, str]
    proxy: str | None
    """The host of the proxy."""


def post(
    url: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    timeout_s: float,
    stops: Sequence[StopEvent],
    env: Mapping[str, str],
) -> Reply:
    """One POST. `stops` end it early; `env` names the proxy. Never raises for what a network, a proxy or a receiver does.

    Raises OSError where this process is short of descriptors, threads or memory: the receiver has seen nothing then.
    """
    try:
        way = _way(urlsplit(url), min(CONNECT_S, timeout_s), env)
    except UsageError as error:
        return Reply(error=str(error))
    try:
        with _Watchdog(way.connection, timeout_s, stops) as watch:
            try:
                return _exchange(way, headers, body, watch)
            except (OSError, HTTPException, HTTPError, ValueError) as error:
                # urllib3's errors of a connection that can't be made have the system's as their cause.
                cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
                if isinstance(cause, OSError) and watch.sock is None and is_shortage(cause):
                    raise cause from None
                if watch.fired == "deadline":
                    return Reply(error=f"it gave no whole answer within {timeout_s:g} s")
                return Reply(error=_reason(cause, way.proxy))
    finally:
        way.connection.close()


def _way(parts: SplitResult, timeout: float, env: Mapping[str, str]) -> _Way:
    """Raises UsageError for a proxy that is none, and OSError where the authorities' certificates can't be read."""
    host, target = parts.hostname or "", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = proxy_for(parts.scheme, host, env)
    if proxy is None:
        return _Way(_connection(parts, parts.scheme == "https", timeout), target, {}, None)
    address, headers = proxy_parts(proxy)
    through = urlsplit(address)
    tls = "https" in (parts.scheme, through.scheme)
    connection = _connection(through, tls, timeout, proxy=address)
    if parts.scheme == "https":
        connection.set_tunnel(host, parts.port or 443, headers, scheme=through.scheme)
        return _Way(connection, target, {}, through.hostname)
    return _Way(connection, f"{parts.scheme}://{parts.netloc}{target}", headers, through.hostname)


def _connection(to: SplitResult, tls: bool, timeout: float, proxy: str | None = None) -> HTTPConnection:
    """A connection, not yet open, to a receiver or a proxy; with `tls` for one of the two, or both."""
    host, port = to.hostname or "", to.port or (443 if to.scheme == "https" else 80)
    # OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR by itself. Reading all authorities costs most of a request: for TLS alone.
    context = ssl.create_default_context() if tls else None
    through = None if proxy is None else parse_url(proxy)
    config = None if proxy is None else ProxyConfig(context, False, None, None)
    if context is None:
        return HTTPConnection(host, port, timeout=timeout, proxy=through, proxy_config=config)
    return HTTPSConnection(host, port, timeout=timeout, ssl_context=context, proxy=through, proxy_config=config)


def _exchange(way: _Way, headers: Iterable[tuple[str, str]], body: bytes, watch: _Watchdog) -> Reply:
    connection = way.connection
    connection.connect()
    watch.sock = connection.sock
    # The watchdog ends it, and knows why; this is for the case that its shutdown wakes no read.
    connection.timeout = min(watch.remaining_s() + 1.0, SOCKET_TIMEOUT_MAX_S)
    # A receiver may answer, and close, before it has read everything: then its answer counts, not the broken pipe.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", way.target, body, _headers(headers, way.headers), preload_content=False)
    with contextlib.closing(connection.getresponse()) as response:
        if watch.fired is not None:  # a connection that was shut down looks like the end of the headers
            raise TimeoutError
        kept = bytearray()
        with contextlib.suppress(OSError, HTTPException, HTTPError):  # the status is known; the body is for people
            while len(kept) < BODY_MAX and (piece := response.read1(BODY_MAX - len(kept), decode_content=False)):
                kept += piece
    return Reply(response.status, tuple(response.headers.items()), bytes(kept))


def _headers(given: Iterable[tuple[str, str]], proxy: Mapping[str, str]) -> HTTPHeaderDict:
    """Those given and the connection's own; urllib3 adds the length of the body alone."""
    headers = HTTPHeaderDict()
    for name, value in given:
        headers.add(name, value.encode("latin-1", "replace").decode("latin-1"))
    headers.add("Connection", "close")
    if "Accept-Encoding" not in headers:
        headers.add("Accept-Encoding", SKIP_HEADER)
    headers.update(proxy)
    return headers


def _reason(error: Exception, proxy: str | None) -> str:
    """Why there was no answer, in the system's words, never in those of a receiver or a proxy."""
    refused = (
        isinstance(error, OSError) and error.errno is None and not isinstance(error, (TimeoutError, HTTPException))
    )
    if proxy is not None and refused:  # http.client says nothing but a sentence, which quotes the proxy's answer
        return f"the proxy {proxy} makes no way there"
    reason = _reason_of(error)
    return reason if proxy is None else f"{reason}, through the proxy {proxy}"


def _reason_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, socket.gaierror):
        return "its name can't be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}"[:_REASON_MAX]
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'protocol error'}"[:_REASON_MAX]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:_REASON_MAX]
    if isinstance(error, HTTPException):
        return f"it does not speak HTTP ({type(error).__name__})"
    return type(error).__name__


class _Watchdog:
    """A watchdog thread: shuts a connection down at the deadline or at a stop, which ends whatever call it blocks in."""

    def __init__(self, connection: HTTPConnection, timeout_s: float, stops: Sequence[StopEvent]) -> None:
        self._connection = connection
        self.sock: socket.socket | None = None
        """The socket of the open connection, which the connection itself forgets once the answer has begun."""
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
            if self.fired is not None and (sock := self.sock or self._connection.sock) is not None:
                with contextlib.suppress(OSError):
                    getattr(sock, "socket", sock).shutdown(socket.SHUT_RDWR)  # TLS in a proxy's TLS has it inside
