"""The budget of file descriptors: what the limit of open files allows the daemon to do at a time.

Connections get what commands don't need, so that any number of slow clients leaves enough to start the next task.
"""

from __future__ import annotations

from dataclasses import dataclass

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
"""Connections of each of two listeners, whatever the limit; as many in all where there are more of them. CONNECTIONS at most."""
PHASE_CONNECTIONS = 64
"""Connections of the commands' own socket, a descriptor each: their bodies are small. At most a sixteenth of the limit."""

FEWEST = 48
"""Less than this leaves nothing for a request or a command beside what the daemon itself has open, about thirty."""


def check(limit: int | None) -> None:
    """Raises Refused if that limit of open files is too low to run with."""
    if limit is not None and limit < FEWEST:
        raise Refused(
            f"{limit} open files are allowed, and covenq needs {FEWEST} at least",
            hint="Raise the hard limit: `ulimit -Hn 65536`, or LimitNOFILE=65536 in the unit.",
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be open at a time, each bound as it is used: what is counted here is what the listeners and the pool are given.

    All of it stays within the limit, and RESERVED with it where the limit is 200 or more. Under that the least of each takes from
    what is reserved, and not all can be in use at once: a command that finds no descriptor waits
    (`covenq.tasks.execution.shortage`), and a connection is accepted later.
    """

    limit: int | None
    """None where there is none."""
    connections: int
    """Of each listener but the commands' own."""
    commands: int
    phase_connections: int
    """Of the commands' own."""

    @property
    def shown(self) -> Descriptors:
        """As status and doctor say it."""
        return Descriptors(self.limit, self.connections, self.commands)


def budget(limit: int | None, concurrency: int, listeners: int) -> Budget:
    """What a limit allows, to `concurrency` commands first, but half of it at most. Of `listeners` the commands' own is none."""
    if limit is None:
        return Budget(None, CONNECTIONS, concurrency, PHASE_CONNECTIONS)
    phases = max(1, min(PHASE_CONNECTIONS, limit // 16))
    room = max(limit - RESERVED - phases, 0)
    commands = max(1, min(concurrency, room // 2 // OF_COMMAND))
    each = (room - commands * OF_COMMAND) // (OF_CONNECTION * listeners)
    least = CONNECTIONS_MIN * 2 // max(listeners, 2)
    return Budget(limit, max(least, min(CONNECTIONS, each)), commands, phases)
