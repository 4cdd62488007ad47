"""One POST of a delivery, by the environment's proxy where that names one: its answer, or why there is none.

No redirect is followed, since a receiver must not choose who else gets the delivery, and certificates are checked. Every wait
is ended by one deadline, by a stop, or by the loss of the task. So it has a connection of its own, whose socket can be shut down.

This module imports urllib3: it is imported where something is forwarded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPException
from urllib.parse import urlsplit

from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

from covenq.errors import UsageError
from covenq.net.no_answer import reason
from covenq.net.outgoing import Route, answering
from covenq.net.transport import TookTooLong
from covenq.net.watchdog import Watchdog
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.forward import BODY_MAX, Reply
from covenq.tasks.execution.shortage import is_shortage

CONNECT_S = 10.0
SOCKET_TIMEOUT_MAX_S = 2_000_000.0
"""poll(2), by which sockets wait, takes at most 24 days."""


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
    parts = urlsplit(url)
    try:
        route = Route(parts, env)
    except UsageError as error:
        return Reply(error=str(error))
    target = route.target((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    connection = route.connection(min(CONNECT_S, timeout_s))
    try:
        with Watchdog(connection, timeout_s, [one.fd for one in stops]) as watch:
            try:
                return _exchange(connection, route, target, headers, body, watch)
            except TookTooLong:
                return Reply(error=f"it gave no whole answer within {timeout_s:g} s")
            except (OSError, HTTPException, ValueError) as error:
                if isinstance(error, OSError) and watch.sock is None and is_shortage(error):
                    raise
                return Reply(error=reason(error, route.proxy))
    finally:
        connection.close()


def _exchange(
    connection: HTTPConnection,
    route: Route,
    target: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    watch: Watchdog,
) -> Reply:
    with answering(watch):
        connection.connect()
        watch.sock = connection.sock
        # The watchdog ends it, and knows why; this is for the case that its shutdown wakes no read.
        connection.timeout = min(watch.remaining_s() + 1.0, SOCKET_TIMEOUT_MAX_S)
        # A receiver may answer, and close, before it has read everything: then its answer counts, not the broken pipe.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", target, body, _headers(headers, route.headers), preload_content=False)
        response = connection.getresponse()
    with contextlib.closing(response):
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
