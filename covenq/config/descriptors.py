"""The budget of file descriptors: what the limit of open files allows the daemon to do at a time.

Connections get what commands don't need, so that any number of slow clients leaves enough to start the next task.
"""

from __future__ import annotations

from dataclasses import dataclass

RESERVED = 128
"""For everything else: the journal, its index, state.db with the connections of the threads that read, streams, logs."""
OF_COMMAND = 13
"""At its start, when it needs most: payload, outputs, pipes of both ends, what tells of its end and what ends it."""
OF_CONNECTION = 2
"""The socket, and the temporary file of a body that is being received."""
CONNECTIONS_MIN = 8
CONNECTIONS_MAX = 1000
"""Connections of a listener, whatever the limit."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`limit` is None where there is none. `connections` are those of each listener, `commands` run at a time."""

    limit: int | None
    connections: int
    commands: int


def budget(limit: int | None, concurrency: int, listeners: int) -> Budget:
    """What a limit allows, to `concurrency` commands first, but half of it at most."""
    if limit is None:
        return Budget(None, CONNECTIONS_MAX, concurrency)
    room = max(limit - RESERVED, 0)
    commands = max(1, min(concurrency, room // 2 // OF_COMMAND))
    each = (room - commands * OF_COMMAND) // (OF_CONNECTION * listeners)
    return Budget(limit, max(CONNECTIONS_MIN, min(CONNECTIONS_MAX, each)), commands)
