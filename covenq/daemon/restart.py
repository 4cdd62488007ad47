"""Restart: a daemon that has let another node lead becomes a new program in its own process, which stands by.

A journal that was led once is never led again by the same process (`journal.interface.Succeeding`), so nothing less than a new
start makes a standby of the node that led. It is an exec: the process keeps its pid, which a service manager knows, its
arguments and its environment. What was said once is not said again: `--accept-head` and `--take-over` are of the first start.

Its sockets are closed, and listened on again only when the new program serves: whoever finds one closed turns to another node at
once, where one that was left open would have them wait for the start. But those that a service manager passed are open in any
case, since it holds them: the new program finds their numbers in VARIABLE, and holds what comes until it passes it on
(`covenq.http.server.held`). The pid is in it as well, as in LISTEN_PID: to any other process that inherits it the variable says
nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence

from covenq.daemon.activation import listening
from covenq.errors import CovenqError
from covenq.tasks.execution import process_setup

VARIABLE = "_COVENQ_RESTARTED"
_OF_MANAGERS = frozenset({"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
"""By them a service manager says what it passes: the new program has that under other numbers."""

Execute = Callable[[str, list[str], dict[str, str]], object]


class Restart:
    """What a restart begins with: copies of a service manager's sockets, which stay open when all else is closed."""

    def __init__(self, managed: Sequence[socket.socket]) -> None:
        """Raises OSError for want of descriptors."""
        self._managed = [one.dup() for one in managed]

    def execute(self, argv: list[str], env: Mapping[str, str], execute: Execute = os.execve) -> None:
        """Become the program of these words, when all else is closed. Comes back only by raising CovenqError."""
        for one in self._managed:
            one.set_inheritable(True)
        process_setup.undo()
        given = {name: value for name, value in env.items() if name not in _OF_MANAGERS}
        left = json.dumps({"pid": os.getpid(), "sockets": [one.detach() for one in self._managed]})
        try:
            execute(sys.executable, argv, {**given, VARIABLE: left})
        except OSError as error:
            raise CovenqError(
                f"covenq can't start again by itself: {error.strerror}", hint="Another node leads: start this one."
            ) from error


def passed_sockets(env: Mapping[str, str], bind: str) -> tuple[list[socket.socket], bool]:
    """The listening sockets that this program was given, and whether it is a restart. `bind`: as `activation.listening`."""
    left = inherited(env)
    return (listening(env, bind), False) if left is None else (left, True)


def inherited(env: Mapping[str, str]) -> list[socket.socket] | None:
    """The sockets that the program before this one, in the same process, had of a service manager; None at the first start."""
    numbers = _left(env)
    if numbers is None:
        return None
    for number in numbers:
        os.set_inheritable(number, False)
    return [socket.socket(fileno=number) for number in numbers]


def is_restart(env: Mapping[str, str]) -> bool:
    """Whether another program was this process before, and handed over."""
    return _left(env) is not None


def _left(env: Mapping[str, str]) -> list[int] | None:
    """The numbers of the sockets that the program before this one left; None at the first start."""
    try:
        left = json.loads(env.get(VARIABLE, ""))
        return [int(number) for number in left["sockets"]] if left["pid"] == os.getpid() else None
    except (ValueError, TypeError, KeyError):
        return None
