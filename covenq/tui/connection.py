"""The dashboard's connection to its source: opening it, noticing that the journal has grown, opening it again when it is lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from covenq.client.interface import Source
from covenq.errors import Failure, Refused
from covenq.paths import SOCKET_NAME
from covenq.tui.background import BackgroundThread

Opener = Callable[[], Source]
"""Opens a daemon's source or, without a daemon, the files'. Blocks; raises what `open_source` raises."""


def daemon_listens(data: Path) -> bool:
    """Whether something accepts connections on the data directory's socket: a cheap check while no daemon is running."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(data / SOCKET_NAME))
    except OSError:
        return False
    return True


class EventListener:
    """Follows a live source's event stream on a daemon thread, and only remembers that there was an event.

    `take_change` is called ten times a second: however many records are appended, that bounds how often anything is read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="tui-events", daemon=True).start()

    def _run(self) -> None:
        try:
            for _ in self._source.events():
                self._changed.set()
        except Failure:
            pass  # `ended` reports it; opening the source again raises the reason
        finally:
            self._ended.set()

    def take_change(self) -> bool:
        """Whether anything was recorded since the last call."""
        if not self._changed.is_set():
            return False
        self._changed.clear()
        return True

    @property
    def ended(self) -> bool:
        """The stream has ended: the daemon went away."""
        return self._ended.is_set()


class Connection:
    """The source in use, if any, and the thread on which it is opened and its status is read.

    `data` is the data directory, None where it is on another machine. With `read_only` nothing may be written.
    """

    def __init__(self, opener: Opener, data: Path | None, *, read_only: bool = False) -> None:
        self._opener = opener
        self.data = data
        self.read_only = read_only
        self.thread = BackgroundThread("status")
        self.source: Source | None = None
        self.listener: EventListener | None = None

    async def open(self) -> Source:
        """Close the old source and open a new one. Raises Failure."""
        old, self.source, self.listener = self.source, None, None
        if old is not None:
            await self.thread.call(old.close)
        source = await self.thread.call(self._opener)
        self.source = source
        self.listener = EventListener(source) if source.live else None
        return source

    def current_source(self) -> Source | None:
        """The source as it is now; screens that stay open call this before each read."""
        return self.source

    def writable_source(self) -> Source:
        """The daemon's source. Without a daemon, or with --read-only, the dashboard is read-only: raises Refused."""
        source = self.source
        if self.read_only:
            raise Refused("the dashboard was started with --read-only", hint="Start it without, to act.")
        if source is None or not source.live:
            raise Refused(
                "no daemon is running, and without one the dashboard is read-only",
                hint="Start it with `covenq serve`; the command line can write without it.",
            )
        return source

    async def daemon_is_back(self) -> bool:
        """There was no daemon, and now one listens."""
        source = self.source
        data = self.data
        if source is None or source.live or data is None:
            return False
        return await self.thread.call(lambda: daemon_listens(data))
