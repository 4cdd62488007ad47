"""Held requests: what a listener does with them while the daemon is not ready to answer, but about to be.

A process that takes over, or that a service manager passed its socket, accepts connections before it has the journal. A request
that has come whole waits here, without a thread (as those of `deferred` do), and is answered like any other once the daemon is
ready. One that has waited for HELD_S, or for which there is no room, is answered 503: its sender would give up soon, and is
told in time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from waitress.utilities import Error as WaitressError

from covenq.http.server.parser import Parser

HELD_S = 8.0
"""Seconds that a request waits at most: GitHub gives up after 10."""
HELD_MAX = 1000
"""Requests that wait."""
HELD_BYTES_MAX = 256 << 20
"""Bytes of their bodies, of which each has up to 64 KiB in memory and the rest in a temporary file."""


class NotStarted(WaitressError):
    """The daemon did not get ready in time."""

    code = 503
    reason = "Service Unavailable"


class HasRequests(Protocol):
    """A connection, as it is seen from here."""

    requests: list[Parser]


C = TypeVar("C", bound=HasRequests)


class HeldRequests(Generic[C]):
    """Connections whose request is held, in the order in which they came. For one thread, but `release` for any."""

    def __init__(
        self,
        *,
        most: int = HELD_MAX,
        bytes_max: int = HELD_BYTES_MAX,
        seconds: float = HELD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._bytes_max = bytes_max
        self._seconds = seconds
        self._clock = clock
        self._waiting: deque[tuple[float, int, C]] = deque()
        self._bytes = 0
        self.released = False
        """Set when the daemon is ready."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, channel: C) -> bool:
        """Hold its first request; False if there is no room."""
        size = _size(channel.requests[0])
        if len(self._waiting) >= self._most or self._bytes + size > self._bytes_max:
            return False
        self._waiting.append((self._clock() + self._seconds, size, channel))
        self._bytes += size
        return True

    def overdue(self) -> list[C]:
        """Those that have waited for too long. They are not held any more."""
        now = self._clock()
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            _, size, channel = self._waiting.popleft()
            self._bytes -= size
            found.append(channel)
        return found

    def take_all(self) -> list[C]:
        """All of them. They are not held any more."""
        found = [channel for _, _, channel in self._waiting]
        self._waiting.clear()
        self._bytes = 0
        return found


def _size(request: Parser) -> int:
    return 0 if request.body_rcv is None else request.body_rcv.__len__()
