"""Keeping what is in view current: opens the source, listens for changes, polls the status and the last hour's throughput.

Everything is read on background threads, and for a tenth of the time where that is enough: counting a million rows by state
takes a while. Whether a daemon is back is asked for apart from that, on a clock and a thread of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from covenq.client.interface import Source
from covenq.errors import DaemonUnreachable, Failure
from covenq.tui.background import BackgroundThread
from covenq.tui.connection import Connection

if TYPE_CHECKING:
    from covenq.model.answers import Throughput
    from covenq.model.journal_status import HeadStatus
    from covenq.model.status import Status

STATUS_S = 1.0
"""Seconds between reads of the status; changes are read at most this often too."""
THROUGHPUT_S = 2.0
"""Seconds between reads of the last hour's throughput, while the Overview is in view."""
RETRY_S = 2.0
"""Seconds between tries to open a source that can't be opened, or to find a daemon that went away."""
PAUSE_MAX_S = 20.0
"""Seconds between the end of a read and the next of the same, at most, however long it took."""
OLD_S = 15.0
"""Seconds after which what was read of the status is called old."""


def pause_after(took: float, least: float) -> float:
    """Seconds to wait after a read that took so many: at least `least`, and as a rule ten times what it took."""
    return min(max(least, 10 * took), PAUSE_MAX_S)


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

    def __init__(self, connection: Connection, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._view = view
        self._clock = clock
        self.status: Status | None = None
        """The newest status, None before the first."""
        self.throughput: Throughput | None = None
        """The newest throughput, None before the first."""
        self.throughput_error: BaseException | None = None
        """Why the last throughput could not be read."""
        self.after_first_status: Callable[[], None] = lambda: None
        """Called once, when something is shown and no read is waited for."""
        self._error: BaseException | None = None
        self._throughput_thread = BackgroundThread("throughput")
        self._opened = 0
        """Counts sources: what is read of an earlier one is dropped."""
        self._opening = False
        self._reading = False
        self._lost = False
        """The source in use was found not to answer."""
        self._retry_due = self._status_due = self._throughput_due = self._probe_due = self._header_due = 0.0
        self._read_at: float | None = None
        """When the reading of the newest status began."""
        self._head: HeadStatus | None = None

    @property
    def error(self) -> BaseException | None:
        """Why there is no source, why the last status could not be read, or why no changes are heard of."""
        listener = self._connection.listener
        return self._error or (listener.error if listener is not None else None)

    @property
    def status_age(self) -> float:
        """Seconds since the status shown began to be read, 0 while that is as it should be."""
        age = 0.0 if self._read_at is None else self._clock() - self._read_at
        return age if age > OLD_S else 0.0

    def tick(self, *, throughput_in_view: bool) -> None:
        now = self._clock()
        source, listener = self._connection.source, self._connection.listener
        if listener is not None and listener.take_change():
            self._view.mark_changed()
        if self.status_age and now >= self._header_due:
            self._header_due = now + STATUS_S
            self._view.show_header()
        if self._opening:
            return
        if source is None or self._lost or (listener is not None and listener.lost):
            if now >= self._retry_due:
                self.open()
            return
        if throughput_in_view and now >= self._throughput_due:
            self._view.run_worker(self._read_throughput(source), group="throughput", exclusive=True)
        if not source.live and now >= self._probe_due:
            self._probe_due = math.inf
            self._view.run_worker(self._probe(), group="probe")
        if not self._reading and now >= self._status_due:
            self._view.run_worker(self._read_status(source), group="connection")

    def open(self) -> None:
        """Open the source, closing the old one."""
        if not self._opening:
            self._opening = True
            self._view.run_worker(self._open(), group="connection")

    def source_lost(self, source: Source) -> None:
        """A read found that this source no longer answers."""
        if source is self._connection.source:
            self._lost = True

    async def _open(self) -> None:
        self._opened += 1
        self._reading = self._lost = False
        self._throughput_thread.end()
        self._throughput_thread, self._throughput_due = BackgroundThread("throughput"), 0.0
        self._retry_due = self._clock() + RETRY_S
        try:
            source = await self._connection.open()
            if not self._view.is_running:
                return
            self._error = None
            await self._view.source_opened(source)
        except Failure as error:
            if self._view.is_running:
                self._error = error
                self._view.source_failed(error)
            return
        finally:
            self._opening = False
            self._view.show_header()
        await self._read_status(source)

    async def _probe(self) -> None:
        opened = self._opened
        try:
            back = await self._connection.daemon_is_back()
        finally:
            self._probe_due = self._clock() + RETRY_S
        if back and opened == self._opened:
            self.open()

    async def _read_status(self, source: Source) -> None:
        opened, started = self._opened, self._clock()
        self._reading = True
        status, failure = None, None
        try:
            status = await self._connection.thread.call(source.status)
        except Failure as error:
            failure = error
        if opened != self._opened or not self._view.is_running:
            return  # another source is read by now
        now = self._clock()
        self._reading = False
        self._status_due = now + pause_after(now - started, STATUS_S if source.live else RETRY_S)
        self._error = failure
        self._lost = isinstance(failure, DaemonUnreachable)
        if status is not None:
            self._read_at = started
            self._take_status(status)
        self._view.show_header()

    def _take_status(self, status: Status) -> None:
        self.status = status
        self._view.status_read()
        head = status.journal.head
        if head != self._head:  # also what was recorded before the events were followed
            self._view.mark_changed()
        self._head = head
        after, self.after_first_status = self.after_first_status, lambda: None
        after()

    async def _read_throughput(self, source: Source) -> None:
        started = self._clock()
        self._throughput_due = started + 60.0
        try:
            self.throughput = await self._throughput_thread.call(source.throughput)
            self.throughput_error = None
        except Failure as error:
            self.throughput_error = error  # and the page keeps the last one
        now = self._clock()
        self._throughput_due = now + pause_after(now - started, THROUGHPUT_S)
        if self._view.is_running:
            self._view.throughput_read()
