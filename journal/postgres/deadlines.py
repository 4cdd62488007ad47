"""Deadlines of what is asked of a server: a connection on which it doesn't answer in time is ended.

A server whose machine is frozen ends no connection, and takes new ones: nothing but time tells it from one that is slow. Who
waits then fails, as with a server that went, and connects anew, perhaps to another one. One thread watches over all, for there
are many questions, and it is started with the first.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

Conn = Connection[TupleRow]

TICK_S = 0.25
"""Seconds between two looks."""
IDLE_TICKS = 40
"""Looks without anything to look at, after which the thread ends."""


def hang_up(conn: Conn | None) -> None:
    """End a connection that another thread waits on: what it waits for fails there. Does nothing to one that has ended."""
    if conn is None:
        return
    with suppress(psycopg.OperationalError, OSError), socket.socket(fileno=os.dup(conn.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


@contextmanager
def ended_after(conn: Conn, seconds: float, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """What is asked on a connection within the `with` fails where the server hangs for so long.

    `unless` is asked then, from another thread, and again until it says no or the answer is there: whether the server is known
    to be alive, and the answer waits for something else.
    """
    number = _deadlines.add(conn, seconds, unless)
    try:
        yield
    finally:
        _deadlines.remove(number)


class _Deadlines:
    """From any thread. A connection is ended with the lock held: its owner closes it only when it is removed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[int, tuple[float, Conn, Callable[[], bool]]] = {}
        self._numbers = count()
        self._runs = False

    def add(self, conn: Conn, seconds: float, unless: Callable[[], bool]) -> int:
        with self._lock:
            number = next(self._numbers)
            self._due[number] = (time.monotonic() + seconds, conn, unless)
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="journal-deadlines", daemon=True).start()
            return number

    def remove(self, number: int) -> None:
        with self._lock:
            self._due.pop(number, None)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(TICK_S)
            with self._lock:
                now = time.monotonic()
                for number, (until, conn, unless) in list(self._due.items()):
                    if now > until and not unless():
                        hang_up(conn)
                        del self._due[number]
                idle = 0 if self._due else idle + 1
                if idle > IDLE_TICKS:
                    self._runs = False
                    return


_deadlines = _Deadlines()


def _forget() -> None:
    """In a child: the thread is its parent's."""
    global _deadlines
    _deadlines = _Deadlines()


os.register_at_fork(after_in_child=_forget)
