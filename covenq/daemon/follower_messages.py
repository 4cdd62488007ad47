"""What the daemon and its follower say to each other: one JSON object a line, over a socket pair.

Both are of one installation, and each trusts what the other says.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec

from journal.records import Damage, Witness


class Message(msgspec.Struct, frozen=True, tag=lambda name: name.lower(), omit_defaults=True):
    """One of them; its type is named in the object."""


# ---- to the follower


class Begin(Message, frozen=True, tag="journal"):
    """Open this journal, up to a head, and its state. The address comes this way because it may hold a password."""

    journal: bytes
    """Its address, in the file system's encoding."""
    state: bytes
    """The path of state.db, likewise."""
    head: int
    parent: int
    """The daemon's pid."""
    at_least: Witness | None = None
    """Where the follower before this one had folded to: the file is there, and no further back."""


class Head(Message, frozen=True):
    """The journal is durable up to this seq: fold to there now."""

    seq: int


class Scrub(Message, frozen=True):
    """Empty state.db's write-ahead log, which holds erased content."""


class Distrust(Message, frozen=True):
    """A reader has met damage in state.db: mark it, so that the next start makes it anew."""


class Stop(Message, frozen=True):
    """Fold what is durable, for so many seconds at most, and end."""

    within_s: float


# ---- from the follower


class Opened(Message, frozen=True):
    """state.db is open, folded up to `seq`."""

    seq: int


class Folded(Message, frozen=True):
    """A batch is committed, up to `seq`; whether it had a record of a task."""

    seq: int
    moved_tasks: bool = False


class Alive(Message, frozen=True):
    """The batch, or the index, that is being worked on takes long."""


class Failing(Message, frozen=True, tag="error"):
    """A try has failed, and is repeated."""

    error: str
    full: bool = False


class Damaged(Message, frozen=True, tag="damage"):
    """The journal is damaged, and nothing behind that is folded: all that was found."""

    error: str
    damage: tuple[Damage, ...]


class Recovered(Message, frozen=True):
    """A try has succeeded."""


class Ended(Message, frozen=True):
    """The follower ends, because it can't fold: the error in words, and what to do."""

    error: str
    hint: str = ""
    full: bool = False
    damage: tuple[Damage, ...] = ()
    lost: bool = False
    """Whether the file isn't what the follower before had left."""


class Scrubbed(Message, frozen=True):
    """Done."""


class Suspect(Message, frozen=True):
    """Damage was met in state.db beside the fold, as by a reader: have it marked."""


class Marked(Message, frozen=True):
    """state.db is marked, for good."""


class Busy(Message, frozen=True):
    """A reader, or the disk, prevented that: ask again later."""


class Logged(Message, frozen=True):
    """A line for the daemon's log."""

    level: int
    logger: str
    text: str


class Channel:
    """One end of the socket. `tell` is for any thread, `hear` for one."""

    _DECODER: ClassVar = msgspec.json.Decoder(
        Begin
        | Head
        | Scrub
        | Distrust
        | Stop
        | Opened
        | Folded
        | Alive
        | Failing
        | Damaged
        | Recovered
        | Ended
        | Scrubbed
        | Suspect
        | Marked
        | Busy
        | Logged
    )

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lines = end.makefile("rb")
        self._telling = threading.Lock()

    def tell(self, message: Message) -> bool:
        """Send it; False if the other end is closed."""
        line = msgspec.json.encode(message) + b"\n"
        try:
            with self._telling:
                self._socket.sendall(line)
        except OSError:
            return False
        return True

    def hear(self) -> Iterator[Message]:
        """What the other end says, until it is closed."""
        with self._lines:
            try:
                for line in self._lines:
                    if line.endswith(b"\n"):
                        yield self._DECODER.decode(line)
            except OSError:  # reset, as where it was killed
                return

    def close(self) -> None:
        """The other end reads the end of the file at once, and `hear` here ends."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()


def encoded(path: str | Path) -> bytes:
    return os.fsencode(path)
