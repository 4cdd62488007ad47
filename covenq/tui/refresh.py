"""Keeping what is in view current: opens the source, listens for changes, polls the status and the last hour's throughput.

Everything is read on background threads, and at most a tenth of the time: counting a million rows by state takes a while.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from covenq.client.interface import Source
from covenq.errors import DaemonUnreachable, Failure
from covenq.tui.background import BackgroundThread
from covenq.tui.connection import Connection

if TYPE_CHECKING:
    from covenq.model.answers import Throughput
    from covenq.model.status import HeadStatus, Status

STATUS_S = 1.0
"""Seconds between reads of the status; changes are read at most this often too."""
THROUGHPUT_S = 2.0
"""Seconds between reads of the last hour's throughput, while the Overview is in view."""
RETRY_S = 2.0
"""Seconds between tries to open a source that can't be opened, or to find a daemon that went away."""


class View(Protocol):
    """What the refresher needs of the dashboard."""

    @property
    def is_running(self) -> bool: ...
    def run_worker(self, work: Awaitable[None], *, group: str, exclusive: bool = False) -> object: ...

    async def source_opened(self, source: Source) -> None:
        """Read from this source from now on. Returns when the list in view has its first rows."""

    def source_failed(self, error: BaseException) -> None:
        """The source can't be opened."""

    def status_read(self) -> None: ...
    def throughput_read(self) -> None: ...

    def mark_changed(self) -> None:
        """The journal has grown: what is shown may be old."""

    def show_header(self) -> None:
        """Draw again what depends on whether there is a source."""


class Refresher:
    """Polls the source for the dashboard. `tick` is to be called often; it starts what is due, one read at a time."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view
        self.status: Status | None = None
        """The newest status, None before the first."""
        self.throughput: Throughput | None = None
        """The newest throughput, None before the first."""
        self.error: BaseException | None = None
        """Why there is no source, or why the last status could not be read."""
        self.after_first_status: Callable[[], None] = lambda: None
        """Called once, when something is shown and no read is waited for."""
        self._throughput_thread = BackgroundThread("throughput")
        self._busy = False
        self._retry_due = 0.0
        self._status_due = 0.0
        self._throughput_due = 0.0
        self._head: HeadStatus | None = None

    def tick(self, *, throughput_in_view: bool) -> None:
        now = time.monotonic()
        source, listener = self._connection.source, self._connection.listener
        if listener is not None and listener.take_change():
            self._view.mark_changed()
        if throughput_in_view and source is not None and now >= self._throughput_due:
            self._view.run_worker(self._read_throughput(source), group="throughput", exclusive=True)
        if self._busy:
            return
        if source is None or (listener is not None and listener.ended):
            if now >= self._retry_due:
                self.open()
        elif now >= self._status_due:
            self._view.run_worker(self._read_status(source), group="connection")

    def open(self) -> None:
        """Open the source, closing the old one."""
        self._view.run_worker(self._open(), group="connection")

    def source_lost(self, source: Source) -> None:
        """A read found that this source no longer answers."""
        if source is self._connection.source and not self._busy:
            self.open()

    async def _open(self) -> None:
        self._busy = True
        self._retry_due = time.monotonic() + RETRY_S
        try:
            source = await self._connection.open()
            if not self._view.is_running:
                return
            self.error = None
            await self._view.source_opened(source)
            await self._take_status(source)
        except Failure as error:
            if self._view.is_running:
                self.error = error
                self._view.source_failed(error)
        finally:
            self._busy = False
            self._view.show_header()

    async def _read_status(self, source: Source) -> None:
        self._busy = True
        started = time.monotonic()
        try:
            if await self._connection.daemon_is_back():
                self._retry_due = 0.0
                self.open()
                return
            await self._take_status(source)
            self.error = None
        except DaemonUnreachable as error:
            self.error = error
            if self._view.is_running:
                self.open()
            return
        except Failure as error:
            self.error = error
        finally:
            now = time.monotonic()
            self._status_due = now + max(STATUS_S if source.live else RETRY_S, 10 * (now - started))
            self._busy = False
            self._view.show_header()

    async def _take_status(self, source: Source) -> None:
        self.status = status = await self._connection.thread.call(source.status)
        if not self._view.is_running:
            return
        self._view.status_read()
        head = status.journal.head
        if head != self._head:  # also what was recorded before the events were followed
            self._view.mark_changed()
        self._head = head
        after, self.after_first_status = self.after_first_status, lambda: None
        after()

    async def _read_throughput(self, source: Source) -> None:
        started = time.monotonic()
        self._throughput_due = started + 60.0
        try:
            self.throughput = await self._throughput_thread.call(source.throughput)
        except Failure:
            pass  # the page keeps the last one; a source that doesn't answer is reported by reading its status
        now = time.monotonic()
        self._throughput_due = now + max(THROUGHPUT_S, 10 * (now - started))
        if self._view.is_running:
            self._view.throughput_read()
