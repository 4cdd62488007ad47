"""Socket activation: the listening sockets that a service manager passes to the process, as sd_listen_fds(3) describes.

The manager keeps them open, so over a restart connections wait in the kernel's queue instead of being refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from covenq.errors import Refused

FIRST = 3
"""The descriptor that the passed ones begin at."""
SOCKETS_MAX = 64


def listening(env: Mapping[str, str], bind: str, *, pid: int | None = None, first: int = FIRST) -> list[socket.socket]:
    """The passed sockets, closed on exec from now on; none where nothing was passed, or it was meant for another process.

    `bind` is the address that is configured, for the hint.
    Raises Refused for what is no listening TCP socket: a connection to it would never be answered.
    """
    count = env.get("LISTEN_FDS", "")
    if env.get("LISTEN_PID") != str(os.getpid() if pid is None else pid) or not (count.isascii() and count.isdecimal()):
        return []
    names = env.get("LISTEN_FDNAMES", "").split(":")
    hint = f"In the socket unit: ListenStream={bind}, and no Accept=yes."
    numbers = range(first, first + min(int(count[:9]), SOCKETS_MAX))
    for number in numbers:
        try:
            os.set_inheritable(number, False)  # before anything else may fail: no command may inherit one
        except OSError as error:
            raise Refused(f"descriptor {number}, which was passed, is none: {error.strerror}", hint=hint) from None
    return [_opened(number, names[at] if at < len(names) else "", hint) for at, number in enumerate(numbers)]


def _opened(number: int, name: str, hint: str) -> socket.socket:
    what = f"descriptor {number} ({name[:64] or 'without a name'}), which was passed,"
    try:
        found = socket.socket(fileno=number)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        raise Refused(f"{what} is no socket", hint=hint) from None
    if found.type != socket.SOCK_STREAM or found.family not in (socket.AF_INET, socket.AF_INET6) or not listens:
        found.close()
        raise Refused(f"{what} is no TCP socket that listens", hint=hint)
    return found
