"""The daemon's end of the socket to the guard of a command (`lease_guard` has the other, and what is said on it)."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import NamedTuple

from covenq.tasks.execution.process_tree import forget_own, starting_own

DISMISSED_S = 2.0
"""The longest that a guard is waited for which has been told that its command has ended."""


class Times(NamedTuple):
    """When a command is sent SIGTERM, and when SIGKILL; in seconds of `lease_guard.now`."""

    term_at: float
    kill_at: float


class GuardLine:
    """`began`: the guard has begun to end the command. `gone`: it has ended, or was killed."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.began = self.gone = False
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._pid: int | None = None
        self._unread = b""

    @property
    def fd(self) -> int:
        """Readable when there is something to `read`."""
        return self._ours.fileno()

    @property
    def passed_on(self) -> int:
        """The descriptor that the guard gets."""
        return self._theirs.fileno()

    def started(self) -> None:
        """The guard has its end, or has failed to start. It was forked before its command was executed, and has said its pid."""
        self._theirs.close()
        self.read()

    def send(self, times: Times) -> None:
        """New times. A guard that can't be told goes by those it has, which are earlier."""
        with contextlib.suppress(OSError):
            self._ours.send(f"{times.term_at!r} {times.kill_at!r}\n".encode())

    def read(self) -> None:
        """Take in what it has said so far."""
        while not self.gone:
            try:
                got = self._ours.recv(4096)
            except (BlockingIOError, TimeoutError):
                return
            except OSError:
                got = b""
            self.gone = not got
            *lines, self._unread = (self._unread + got).split(b"\n")
            for line in lines:
                if line == b"T":
                    self.began = True
                elif line.startswith(b"P "):
                    self._pid = int(line[2:])
                    with starting_own() as own:  # adopted by this process: reaped here, and nowhere else
                        own.add(self._pid)

    def dismiss(self) -> None:
        """Its command has ended, or was never started: so may it. What it had said before is read."""
        self._theirs.close()
        with contextlib.suppress(OSError):
            self._ours.settimeout(DISMISSED_S)
            self._ours.send(b"D\n")
        self.read()
        self._ours.close()
        if self._pid is not None:
            if self.gone:
                with contextlib.suppress(ChildProcessError):  # where orphans aren't adopted, it is another's child
                    os.waitpid(self._pid, 0)
            forget_own(self._pid)
