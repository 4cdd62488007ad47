"""The dashboard's connection to its source: opening it, noticing that the journal has grown, opening it again when it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from covenq.client.interface import Source
from covenq.client.open import open_running
from covenq.config.journal import IN_FILES, JournalSettings
from covenq.errors import CovenqError, Failure, Refused
from covenq.tui.background import BackgroundThread
from covenq.tui.unexpected import as_failure

Opener = Callable[[], Source]
"""Opens a daemon's source or, without a daemon, the files'. Blocks; raises what `open_source` raises."""


def daemon_answers(data: Path) -> bool:
    """Whether a daemon answers on the data directory's socket. Blocks: as good as not at all where none listens."""
    try:
        found = open_running(data)
    except (*Failure, OSError):
        return False  # opening the source again would raise the same
    if found is None:
        return False
    found.close()
    return True


class EventListener:
    """Follows a live source's event stream on a daemon thread, and only remembers that there was an event.

    `take_change` is called ten times a second: however many records are appended, that bounds how often anything is read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = threading.Event()
        self._ended = threading.Event()
        self.error: CovenqError | None = None
        """Why no events come any more, where nobody expected it. The daemon may well answer otherwise."""
        threading.Thread(target=self._run, name="tui-events", daemon=True).start()

    def _run(self) -> None:
        try:
            for _ in self._source.events():
                self._changed.set()
        except Failure:
            pass  # `lost` reports it; opening the source again raises the reason
        except BaseException as error:  # noqa: BLE001 - shown, as long as this source is in use
            self.error = as_failure(error)
        finally:
            self._ended.set()

    def take_change(self) -> bool:
        """Whether anything was recorded since the last call."""
        if not self._changed.is_set():
            return False
        self._changed.clear()
        return True

    @property
    def lost(self) -> bool:
        """The stream has ended: the daemon went away."""
        return self._ended.is_set() and self.error is None


class Connection:
    """The source in use, if any, and the thread on which it is opened and its status is read.

    `data` is the data directory, None where it is on another machine. With `read_only` nothing may be written. `answers` tells
    whether a daemon answers there.
    """

    def __init__(
        self,
        opener: Opener,
        data: Path | None,
        *,
        journal: JournalSettings = IN_FILES,
        read_only: bool = False,
        answers: Callable[[Path], bool] = daemon_answers,
    ) -> None:
        self._opener = opener
        self._answers = answers
        self.data = data
        self.journal = journal
        """Where the data directory's journal is, for what needs it and no daemon."""
        self.read_only = read_only
        self.thread = BackgroundThread("status")
        self._probe_thread = BackgroundThread("probe")
        self.source: Source | None = None
        self.listener: EventListener | None = None

    async def open(self) -> Source:
        """Close the old source and open a new one, on a thread of its own. Raises Failure.

        The old one's may be busy for minutes yet: without a daemon a read goes through the files.
        """
        old, self.source, self.listener = self.source, None, None
        before, self.thread = self.thread, BackgroundThread("status")
        if old is None:
            before.end()
        else:
            before.end(old.close)
        source = await self.thread.call(self._opener)
        self.source = source
        self.listener = EventListener(source) if source.live else None
        return source

    def current_source(self) -> Source | None:
        """The source as it is now; screens that stay open call this before each read."""
        return self.source

    @property
    def writable(self) -> bool:
        """`writable_source` has one."""
        return self.source is not None and self.source.live and not self.read_only

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
        """There was no daemon, and now one answers. Waits for no read: it is asked for on a thread of its own."""
        source = self.source
        data = self.data
        if source is None or source.live or data is None:
            return False
        return await self._probe_thread.call(lambda: self._answers(data))
