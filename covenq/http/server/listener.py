"""Listeners: a socket, a waitress server of its own, its loop's thread and its thread pool; started, drained, closed.

Each has a server of its own (waitress refuses TCP and Unix sockets in one), so neither streams nor slow reads of the API can take
a thread from the intake.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer, UnixWSGIServer
from waitress.task import ThreadedTaskDispatcher

from covenq.errors import PortBusy, Refused
from covenq.http.server.channel import Channel, ChannelServer, OnRefusal
from covenq.http.server.deferred import Address, FastPath
from covenq.http.server.held import HeldRequests
from covenq.http.server.parser import BUFFERED_MAX, HEADERS_MAX, SPOOL_MIN, BufferedBytes, RequestLimits

BACKLOG = 1024
CONNECTIONS = 1000
_NO_CONNECTIONS = 2
"""What waitress counts as connections against its limit: the listening socket, and the trigger that wakes the loop."""
_ACCEPT_AGAIN_S = 0.5
"""Seconds for which no connection is accepted after there was no descriptor for one."""
UNPAUSED = 4
"""How many large bodies, the oldest, are still received while all others are paused for room."""
_LOOP_S = 1.0
_HOLD_LOOP_S = 0.1
_DRAIN_LOOP_S = 0.02
CROWDED_S = 0.05
"""Seconds between two evictions where connections are contended for, and for which each is spared."""
SAID_S = 60.0
_REFUSE_S = 2.0
"""Seconds in which held requests are refused when the start fails."""

PassOn = Callable[[list[socket.socket]], None]
"""Gives connections to another process, and closes them here. Called on the listener's thread."""


class _Seldom:
    """Lets a warning of each kind through once in SAID_S: waitress warns each time that a listener is full, as after evictions.

    A kind is the place in the code that logs it. Errors are let through.
    """

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING:
            return True
        kind, now = (record.pathname, record.lineno), time.monotonic()
        if now < self._next.get(kind, 0.0):
            return False
        self._next[kind] = now + SAID_S
        return True


class _ServerMixin(ChannelServer):
    """What both kinds of server add to waitress's own."""

    channel_class = Channel
    active_channels: dict[int, Channel]
    next_check = 0.0
    check_s = _LOOP_S
    accept_at = 0.0

    def readable(self) -> bool:
        # The loop asks the server before its channels, which were opened later.
        self.unpaused = self._oldest() if self.buffered.full else ()
        return super().readable() and (not self.accept_at or time.monotonic() >= self.accept_at)

    def accept(self) -> tuple[socket.socket, Address] | None:
        # waitress drops the error and asks again at once, and again: the connection that waits is still there.
        try:
            self.accept_at = 0.0
            return super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self.accept_at = time.monotonic() + _ACCEPT_AGAIN_S
                self._evict()
            raise

    def _oldest(self) -> tuple[Channel, ...]:
        """Those that go on: the ones that stalled after all others, which else would wait for them in vain."""
        found = []
        for one in self.active_channels.values():
            if one.request and one.request.large:
                one.note_progress()
                found.append((one.stalled, one.request.began, id(one), one))
        return tuple(channel for *_, channel in sorted(found)[:UNPAUSED])

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that another process accepted. It is closed if it is broken."""
        try:
            address = connection.getpeername()
            self.set_socket_options(connection)
        except OSError:
            connection.close()
            return
        self.channel_class(self, connection, self.fix_addr(address), self.adj, map=self._map)

    def close_overdue(self) -> None:
        """Close the connections whose deadline has passed. Once in `check_s`, between two rounds of the loop.

        Not in `maintenance`, which the loop calls while it gathers what to poll: the descriptor of a connection that is closed
        then would still be polled, and its error be taken for that of a new connection, which got the same number.
        """
        now = time.monotonic()
        if now < self.next_check:
            return
        self.next_check = now + self.check_s
        for channel in list(self.active_channels.values()):
            channel.check_deadlines(now)
        if self.nearly_full:
            self._evict()

    @property
    def nearly_full(self) -> bool:
        return len(self.active_channels) >= max(1, self._connections_max * 9 // 10)

    @property
    def _connections_max(self) -> int:
        return self.adj.connection_limit - _NO_CONNECTIONS

    def _evict(self) -> None:
        """Evict up to a quarter of the connections, one at least: the idle, then those that send a request for longest.

        At the limit no new connection is accepted, however slow those are that hold it.
        """
        found = [(channel.eviction_key, id(channel), channel) for channel in self.active_channels.values()]
        for _, _, channel in sorted(one for one in found if one[0])[: max(1, self._connections_max // 4)]:
            channel.evict()


class _TcpServer(_ServerMixin, TcpWSGIServer):
    pass


class _UnixServer(_ServerMixin, UnixWSGIServer):
    pass


@dataclass(frozen=True, slots=True)
class ListenerStats:
    """What a listener is doing at the moment."""

    connections: int
    threads: int
    busy: int
    """Threads that answer a request."""
    waiting: int
    """Requests that wait for a thread, or for the daemon to be ready."""
    body_bytes: int
    """Of bodies that are being received."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """`streams`: some answers are event streams, so disconnects are noticed."""

    name: str
    threads: int
    limits: RequestLimits
    streams: bool = False
    connections: int = CONNECTIONS
    """The most that it holds."""
    crowded: bool = False
    """Whether clients of this machine contend for few connections: when most are taken, those that have not sent their request
    are closed within moments, and none lingers."""
    kept: bool = False
    """Whether a service manager keeps the socket open too, with what waits in its queue."""


class Listener:
    """A bound socket, and the server that answers on it."""

    def __init__(
        self,
        app: WSGIApplication,
        bound: socket.socket,
        settings: ListenerSettings,
        *,
        on_refusal: OnRefusal,
        fast_path: FastPath | None = None,
    ) -> None:
        """`fast_path` is tried before the application."""
        adj = Adjustments(
            sockets=[bound],
            threads=settings.threads,
            backlog=BACKLOG,
            connection_limit=settings.connections + _NO_CONNECTIONS,
            channel_timeout=60,
            cleanup_interval=1,
            ident="covenq",
            log_socket_errors=False,
            max_request_header_size=HEADERS_MAX + 1,  # waitress refuses from there on
            # The exact limit of a body is Parser's; this one bounds a chunked request's bytes on the wire.
            max_request_body_size=2 * settings.limits.body + (1 << 20),
            inbuf_overflow=SPOOL_MIN,
            recv_bytes=65536,
            clear_untrusted_proxy_headers=False,
            channel_request_lookahead=1 if settings.streams else 0,
            outbuf_high_watermark=1 << 20,
        )
        self.name = settings.name
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.queue_logger = logging.getLogger("covenq.http.queue")
        # It warns of every request that waits for a thread, however briefly. /metrics has their number.
        self._dispatcher.queue_logger.setLevel(logging.ERROR)
        self._map: dict[int, wasyncore.dispatcher] = {}
        kind = _UnixServer if bound.family == socket.AF_UNIX else _TcpServer
        info = (bound.family, bound.type, bound.proto, bound.getsockname())
        self._server: _ServerMixin = kind(app, self._map, bound, self._dispatcher, adj, info)
        self._server.limits = settings.limits
        self._server.fast_path = fast_path
        self._server.on_refusal = on_refusal
        self._server.buffered = BufferedBytes(BUFFERED_MAX)
        if settings.crowded:
            self._server.check_s = self._server.spared_s = CROWDED_S
            self._server.lingers = False
            self._server.logger = _logger_of_its_own(settings.name)
        self._threads = settings.threads
        self._adopted: deque[socket.socket] = deque()
        self._kept = settings.kept
        self._accepts_queued = not settings.kept
        self._pass_on: PassOn | None = None
        self._draining = threading.Event()
        self._drained = threading.Event()
        self._closing = threading.Event()
        self._loop = threading.Thread(target=self._run, name=f"{self.name}-loop", daemon=True)

    def start(self) -> None:
        """Listen, and answer; or answer from now on. Raises PortBusy: only listening may show that the address is taken."""
        held = self._server.held
        if held is None:
            self._listen()
        else:
            held.released = True
            self._wake()

    def hold(self) -> None:
        """Listen, and hold requests until `start` (`covenq.http.server.held`). Raises PortBusy."""
        self._server.held = HeldRequests()
        self._listen()

    def serve(self, app: WSGIApplication, fast_path: FastPath | None = None) -> None:
        """Set what answers, in place of what it was made with. Before `start`."""
        self._server.application = app
        self._server.fast_path = fast_path

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that another process accepted. Between `hold` and `start`, from any thread."""
        self._adopted.append(connection)
        self._wake()

    def _listen(self) -> None:
        try:
            self._server.accept_connections()
        except OSError as error:
            raise _not_bound(str(self._server.sockinfo[3]), error) from error
        self._dispatcher.set_thread_count(self._threads)
        self._loop.start()

    def stats(self) -> ListenerStats:
        """From any thread."""
        dispatcher, held = self._dispatcher, self._server.held
        return ListenerStats(
            connections=len(self._server.active_channels),
            threads=self._threads,
            busy=dispatcher.active_count,
            waiting=len(dispatcher.queue) + (0 if held is None else len(held)),
            body_bytes=self._server.buffered.bytes,
        )

    @property
    def alive(self) -> bool:
        """Whether the loop runs."""
        return self._loop.is_alive()

    def drain(self, timeout: float, *, accept_queued: bool = True, pass_on: PassOn | None = None) -> bool:
        """Accept no more connections, answer what is in flight, close what is idle. False if `timeout` seconds were too few.

        A request that has begun to arrive is in flight: it is read to its end and answered. What waits in the kernel's queue is
        accepted first, unless the socket is open elsewhere too, and the queue with it: it is kept, or not `accept_queued`.
        `pass_on` gets what would be closed as idle. It may be called again, for more time.
        """
        self._accepts_queued = accept_queued and pass_on is None and not self._kept
        self._pass_on = pass_on
        self._server.draining = True
        self._draining.set()
        self._wake()
        return self._drained.wait(timeout)

    def close(self) -> None:
        """End the threads and close every connection, answered or not."""
        if self._server.held is not None and self._loop.is_alive():
            self.drain(_REFUSE_S)
        self._closing.set()
        if self._loop.is_alive():
            self._wake()
            self._loop.join()
        else:
            self._close_all()
        self._dispatcher.shutdown(cancel_pending=True, timeout=1)

    def _wake(self) -> None:
        try:
            self._server.pull_trigger()
        except OSError:
            pass  # the loop has ended, and its trigger with it

    def _run(self) -> None:
        while not self._closing.is_set():
            draining, holding = self._draining.is_set(), self._server.held is not None
            seconds = _DRAIN_LOOP_S if draining else _HOLD_LOOP_S if holding else _LOOP_S
            if self._server.nearly_full:
                seconds = min(seconds, self._server.check_s)
            wasyncore.loop(seconds, use_poll=True, map=self._map, count=1)
            if holding:
                while self._adopted:
                    self._server.adopt(self._adopted.popleft())
                self._server.check_held(ending=draining)
            self._server.write_answers()
            self._server.close_overdue()
            if draining:
                self._drain()
        self._close_all()

    def _drain(self) -> None:
        server = self._server
        if server.accepting:
            before = -1 if self._accepts_queued else len(server.active_channels)
            while len(server.active_channels) != before:  # those the kernel had accepted already are ours to answer
                before = len(server.active_channels)
                server.handle_accept()
            wasyncore.dispatcher.close(server)
        now = time.time()
        passed = []
        for channel in list(server.active_channels.values()):
            if self._pass_on is not None and channel.between_requests:
                with contextlib.suppress(OSError):  # without a descriptor it is closed as idle, as at any stop
                    passed.append(channel.socket.dup())
                channel.handle_close()
            elif channel.idle(now):
                channel.handle_close()
        if passed and self._pass_on is not None:
            self._pass_on(passed)
        if not server.active_channels:
            self._drained.set()

    def _close_all(self) -> None:
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()  # wakes a thread that waits for its client to read
        self._server.close()
        wasyncore.close_all(self._map)


def _logger_of_its_own(name: str) -> logging.Logger:
    """Made by hand, for all servers share waitress's, and one of `logging.getLogger` stays for ever.

    A filter on either would be every listener's, or be there once more with each listener of that name. It logs where covenq.http
    does.
    """
    made = logging.Logger(f"covenq.http.{name}", logging.WARNING)
    made.parent = logging.getLogger("covenq.http")
    made.addFilter(_Seldom())
    return made


def bind_tcp(host: str, port: int, *, listens: bool = True) -> socket.socket:
    """A socket bound to the address. Raises PortBusy, and Refused for an address that can't be bound.

    If it `listens`, it is known that nobody else does there, and connections wait for the start of what answers them; otherwise
    they are refused until then.
    """
    where = _shown(host, port)
    family, kind, proto, address = _resolved(host, port)
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        if listens:
            bound.listen(BACKLOG)  # with SO_REUSEADDR two may bind; only one of them may listen
    except OSError as error:
        bound.close()
        raise _not_bound(where, error) from error
    return bound


def take_bound(passed: list[socket.socket], host: str, port: int) -> socket.socket | None:
    """Take the socket out of `passed` that is bound to the address, to any port of the host if it is 0; None if none is.

    Raises Refused for an address that can't be bound.
    """
    family, _, _, address = _resolved(host, port)
    for found in passed:
        name = found.getsockname()
        if found.family == family and name[0] == address[0] and port in (0, name[1]):
            passed.remove(found)
            return found
    return None


def _resolved(host: str, port: int) -> tuple[int, int, int, tuple[str | bytes | int, ...]]:
    """Family, type, protocol and address, the first that is found. Raises Refused."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        where = _shown(host, port)
        raise Refused(f"{where} is no address to listen on: {error.strerror}", hint=PortBusy.hint) from error
    family, kind, proto, _, address = found[0]
    return family, kind, proto, address


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(bound: socket.socket) -> str:
    """The bound address as `host:port`, the port the system chose in place of 0."""
    return _shown(*bound.getsockname()[:2])


def _not_bound(where: str, error: OSError) -> PortBusy | Refused:
    if error.errno == errno.EADDRINUSE:
        return PortBusy(f"{where} is taken by another program")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(
            f"this user may not listen on {where}", hint="Ports below 1024 are root's; choose another with --bind."
        )
    return Refused(
        f"can't listen on {where}: {error.strerror}", hint="Choose another address with --bind or COVENQ_BIND."
    )
