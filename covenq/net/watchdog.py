"""A watchdog of a connection: the one deadline of an exchange, however slowly its pieces come."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Literal, Protocol

from covenq.net.transport import shut_down


class Watched(Protocol):
    """A connection; `sock` is that of an open one, which it may forget once the answer has begun."""

    @property
    def sock(self) -> socket.socket | None: ...


class Watchdog:
    """A thread that shuts a connection down at the deadline or at a stop, which ends whatever call it blocks in."""

    def __init__(self, connection: Watched, timeout_s: float, stops: Sequence[int] = ()) -> None:
        """`stops` are descriptors that are readable once the exchange is to end. Raises OSError for want of descriptors."""
        self._connection = connection
        self.sock: socket.socket | None = None
        """The socket of the open connection."""
        self._deadline = time.monotonic() + timeout_s
        self._stops = list(stops)
        self._done, self._tell = os.pipe()
        self._thread = threading.Thread(target=self._run, name="connection-watch", daemon=True)
        self.fired: Literal["stop", "deadline"] | None = None

    def remaining_s(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def start(self) -> None:
        """Raises OSError where no thread can be started."""
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._tell)
            os.close(self._done)
            raise OSError(errno.EAGAIN, "no thread can be started") from None

    def stop(self) -> None:
        """Watch no longer. Once."""
        os.close(self._tell)
        self._thread.join()
        os.close(self._done)

    def __enter__(self) -> Watchdog:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

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
                self.fired = "stop" if ready else "deadline"
                for fd in self._stops:
                    poll.unregister(fd)
            if self.fired is not None and (sock := self.sock or self._connection.sock) is not None:
                shut_down(sock)
