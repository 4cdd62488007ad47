"""Messages with file descriptors (SCM_RIGHTS) over a Unix socket: JSON objects, one on a line.

Each says how many descriptors it comes with. A descriptor that arrives is closed on exec: no command may inherit a listening
socket.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LINE_MAX = 4096
"""Bytes of one message: those that are sent have a few hundred."""
DESCRIPTORS_MAX = 64
"""Descriptors of one message; the kernel carries 253."""

_COUNT = "descriptors"
_CLOEXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class MessageError(Exception):
    """The other side sent what is no message."""


@dataclass(frozen=True, slots=True)
class Message:
    fields: Mapping[str, object]
    descriptors: tuple[int, ...] = ()
    """Whoever receives it owns them."""


class MessageConnection:
    """One end of a connection, for one thread at a time. Raises OSError, TimeoutError among them, from what waits."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = b""
        self._descriptors: list[int] = []

    def send(self, fields: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """They stay open here. At most DESCRIPTORS_MAX."""
        line = json.dumps({**fields, _COUNT: len(descriptors)}).encode() + b"\n"
        if descriptors:
            sent = socket.send_fds(self._socket, [line], descriptors)
            line = line[sent:]
        self._socket.sendall(line)

    def receive(self, timeout: float | None) -> Message | None:
        """The next message; None at the end of the stream. Raises TimeoutError, MessageError."""
        self._socket.settimeout(timeout)
        while b"\n" not in self._received:
            if len(self._received) > LINE_MAX:
                raise MessageError("a line without an end")
            data, descriptors, _, _ = socket.recv_fds(self._socket, LINE_MAX, DESCRIPTORS_MAX, _CLOEXEC)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self._descriptors += descriptors
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return self._message(line)

    def ended(self) -> bool:
        """Whether the other end is closed, as far as is known now, and nothing more is to be received."""
        if self._received:
            return False
        self._socket.settimeout(0)
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _message(self, line: bytes) -> Message:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            raise MessageError("a line that is no JSON") from None
        count = fields.pop(_COUNT, 0) if isinstance(fields, dict) else None
        if type(count) is not int or not 0 <= count <= len(self._descriptors):
            raise MessageError("an object that doesn't come with the descriptors it says")
        mine, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return Message(fields, tuple(mine))

    def close(self) -> None:
        """Close it, and the descriptors that no message was received for."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        self._socket.close()


def peer_of(connection: socket.socket) -> tuple[int, int] | None:
    """Process and user at the other end, as they were when it connected (or listened); None where the system doesn't tell."""
    if not sys.platform.startswith("linux"):
        return None
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return pid, uid
