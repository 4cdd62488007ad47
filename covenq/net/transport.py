"""What carries requests to a daemon, seen from its client: a connection that is opened when something is asked on it.

There are two, with one client above them: `covenq.net.unix_connection` and, for TCP, `covenq.net.outgoing`. Of the second's
library the first must know nothing, since every command of this machine would wait for its import.
"""

from __future__ import annotations

import contextlib
import socket
from http.client import HTTPException
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK = 64 * 1024
NO_ANSWER = (OSError, HTTPException)
"""What a connection raises where no whole answer comes, whatever library is beneath it."""


class TookTooLong(TimeoutError):
    """An answer whose pieces came, each in time, and whose end did not."""


class Response(Protocol):
    """An answer of which the head has come. Not for several threads at once."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None: ...

    def read1(self, most: int) -> bytes:
        """What has come of the body, at most so many bytes; empty at its end. Raises NO_ANSWER for one that breaks off."""
        ...

    def close(self) -> None:
        """Its connection is kept if all of it was read, and else closed."""
        ...


class Connection(Protocol):
    """A connection, kept where the other side keeps it. Not for several threads at once, but for `shutdown`."""

    @property
    def is_open(self) -> bool:
        """Whether the next request goes on a connection that was used before."""
        ...

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        wait_s: float,
        whole_s: float,
        endless: bool = False,
    ) -> Response:
        """Send a request, and wait for the answer's head: `wait_s` is for one wait, `whole_s` for everything.

        Of an `endless` one the head must come within `whole_s`, and if it is a 200 its body may go on. Raises NO_ANSWER, and
        ValueError for what HTTP can't carry.
        """
        ...

    def shutdown(self) -> None:
        """End what waits on it. From any thread."""
        ...

    def close(self) -> None: ...


def read_up_to(response: Response, most: int) -> bytes:
    """The body, or of one with more than `most` bytes so many and some more. Raises NO_ANSWER."""
    pieces: list[bytes] = []
    size = 0
    while size <= most and (piece := response.read1(CHUNK)):
        size += len(piece)
        pieces.append(piece)
    return b"".join(pieces)


def shut_down(sock: socket.socket) -> None:
    """End what waits on a socket, from another thread."""
    with contextlib.suppress(OSError):
        getattr(sock, "socket", sock).shutdown(socket.SHUT_RDWR)  # TLS in a proxy's TLS has it inside
