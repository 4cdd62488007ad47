"""The dashboard's connection to its source: opening it, noticing what changes, and opening it again when it is lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from covenq.client.interface import Source
from covenq.errors import Failure
from covenq.paths import SOCKET_NAME
from covenq.tui.background import BackgroundThread

Opener = Callable[[], Source]
"""Opens a daemon's source, or the files' without a daemon. Blocks; raises what `open_source` raises."""


def daemon_listens(data: Path) -> bool:
    """Whether something accepts on the data directory's socket: a cheap question, asked while there was no daemon."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(data / SOCKET_NAME))
    except OSError:
        return False
    return True


class Watch:
    """Follows a live source's events on a daemon thread and only notes that there were some.

    `take` is asked ten times a second: however many records come, that is how often anything is read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = threading.Event()
        self._over = threading.Event()
        threading.Thread(target=self._run, name="tui-events", daemon=True).start()

    def _run(self) -> None:
        try:
            for _ in self._source.events():
                self._changed.set()
        except Failure:
            pass  # told by `lost`; whoever asks opens the source again and gets the reason
        finally:
            self._over.set()

    def take(self) -> bool:
        """Whether anything was recorded since the last call."""
        if not self._changed.is_set():
            return False
        self._changed.clear()
        return True

    @property
    def lost(self) -> bool:
        """The stream has ended: the daemon went away."""
        return self._over.is_set()


class Connection:
    """The source in use, if any, and the lane its opening and its status are read on."""

    def __init__(self, opener: Opener, data: Path | None) -> None:
        self._opener = opener
        self._data = data
        self.lane = BackgroundThread("status")
        self.source: Source | None = None
        self.watch: Watch | None = None

    async def open(self) -> Source:
        """Open the source again, letting go of the old one. Raises Failure."""
        old, self.source, self.watch = self.source, None, None
        if old is not None:
            await self.lane.call(old.close)
        source = await self.lane.call(self._opener)
        self.source = source
        self.watch = Watch(source) if source.live else None
        return source

    async def daemon_is_back(self) -> bool:
        """There was no daemon, and now one listens."""
        source = self.source
        data = self._data
        if source is None or source.live or data is None:
            return False
        return await self.lane.call(lambda: daemon_listens(data))
