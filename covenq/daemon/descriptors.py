"""The budget of file descriptors: what the limit of open files allows the daemon to do at a time.

Connections get what commands don't need, so that any number of slow clients leaves enough to start the next task.
"""

from __future__ import annotations

from covenq.errors import Refused
from covenq.http.server.listener import CONNECTIONS
from covenq.model.status import Descriptors

RESERVED = 128
"""For everything else: the journal, its index, state.db with the connections of the threads that read, streams, logs."""
OF_COMMAND = 13
"""At its start, when it needs most: payload, outputs, pipes of both ends, what tells of its end and what ends it."""
OF_CONNECTION = 2
"""The socket, and the temporary file of a body that is being received."""
CONNECTIONS_MIN = 8
"""Connections of a listener, whatever the limit; CONNECTIONS at most."""
PHASE_CONNECTIONS = 64
"""Connections of the commands' own socket, a descriptor each: their bodies are small. Fewer where a listener has fewer."""

FEWEST = 48
"""Less than this leaves nothing for a request or a command beside what the daemon itself has open, about thirty."""


def check(limit: int | None) -> None:
    """Raises Refused if that limit of open files is too low to run with."""
    if limit is not None and limit < FEWEST:
        raise Refused(
            f"{limit} open files are allowed, and covenq needs {FEWEST} at least",
            hint="Raise the hard limit: `ulimit -Hn 65536`, or LimitNOFILE=65536 in the unit.",
        )


def budget(limit: int | None, concurrency: int, listeners: int) -> Descriptors:
    """What a limit allows, to `concurrency` commands first, but half of it at most. Of `listeners` the commands' own is none."""
    if limit is None:
        return Descriptors(None, CONNECTIONS, concurrency)
    room = max(limit - RESERVED - min(PHASE_CONNECTIONS, limit // 16), 0)
    commands = max(1, min(concurrency, room // 2 // OF_COMMAND))
    each = (room - commands * OF_COMMAND) // (OF_CONNECTION * listeners)
    return Descriptors(limit, max(CONNECTIONS_MIN, min(CONNECTIONS, each)), commands)
