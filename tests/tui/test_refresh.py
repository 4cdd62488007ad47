"""The refresher without a dashboard: what it keeps when a read fails, and when it looks for a daemon, by a clock of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from covenq.client.interface import Source
from covenq.errors import DaemonUnreachable
from covenq.model.answers import Event, Throughput
from covenq.model.status import Status
from covenq.tui.connection import Connection
from covenq.tui.refresh import Refresher
from tests.support.answers import STATUS, THROUGHPUT


class FlakySource:
    """Answers the first read of the throughput only."""

    live = False
    reads = 0

    def throughput(self) -> Throughput:
        self.reads += 1
        if self.reads > 1:
            raise DaemonUnreachable("no daemon answers")
        return THROUGHPUT

    def status(self) -> Status:
        return STATUS


class FakeView:
    """Runs workers as tasks, and counts what is shown."""

    is_running = True

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.throughputs = self.headers = 0

    def run_worker(self, work: Coroutine[Any, Any, None], *, group: str, exclusive: bool = False) -> object:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def source_opened(self, source: Source) -> None: ...
    def source_failed(self, error: BaseException) -> None: ...
    def status_read(self) -> None: ...
    def mark_changed(self) -> None: ...

    def show_header(self) -> None:
        self.headers += 1

    def throughput_read(self) -> None:
        self.throughputs += 1

    async def all_done(self) -> None:
        await asyncio.gather(*self.tasks)
        self.tasks.clear()


async def test_a_throughput_that_cannot_be_read_leaves_the_last_one() -> None:
    view, source = FakeView(), FlakySource()
    refresher = Refresher(Connection(lambda: source, None), view)  # type: ignore[arg-type, return-value]
    refresher.open()
    await view.all_done()
    for reads in (1, 2):
        refresher._throughput_due = 0.0
        refresher.tick(throughput_in_view=True)
        await view.all_done()
        assert (source.reads, view.throughputs) == (reads, reads)
        assert refresher.throughput == THROUGHPUT, "the Overview is drawn from it"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowFiles:
    """The files without a daemon: the status takes long to read, or until `go_on` is set."""

    live = False

    def __init__(self, clock: Clock, takes: float, go_on: threading.Event | None = None) -> None:
        self._clock, self._takes, self._go_on = clock, takes, go_on
        self.reads = 0
        self._waits = False

    @property
    def waits(self) -> bool:
        """Whether a read of the status goes on for as long as it is not let go on."""
        return self._waits and self._go_on is not None and not self._go_on.is_set()

    def status(self) -> Status:
        self.reads += 1
        if self._go_on is not None and not self._go_on.is_set():
            self._waits = True
            self._go_on.wait()
            self._waits = False
        self._clock.now += self._takes
        return STATUS

    def close(self) -> None: ...


class Live:
    """A daemon."""

    live = True
    where = "/var/lib/covenq"

    def status(self) -> Status:
        return STATUS

    def events(self) -> Iterator[Event]:
        threading.Event().wait()  # nothing happens; the thread is a daemon
        yield from ()

    def close(self) -> None: ...


class Machine:
    """A data directory, a daemon that may run on it, and a dashboard's refresher over both."""

    def __init__(self, files: SlowFiles, clock: Clock) -> None:
        self.running = False
        self.clock = clock
        self.view = FakeView()
        self._files = files
        connection = Connection(self._opened, Path("/var/lib/covenq"), answers=lambda _: self.running)
        self.connection = connection
        self.refresher = Refresher(connection, self.view, clock)

    def _opened(self) -> Source:
        return Live() if self.running else self._files  # type: ignore[return-value]

    async def passes(self, seconds: float) -> None:
        """So much time, with the ticks of a dashboard and what they start."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += 0.5
            self.refresher.tick(throughput_in_view=False)
            await self.settle()

    async def settle(self) -> None:
        """Everything that was started has ended, but for the one read that waits."""
        deadline = time.monotonic() + 30.0
        while sum(not task.done() for task in self.view.tasks) > self._files.waits:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)


async def test_a_daemon_that_is_back_is_found_soon_however_long_the_last_read_took() -> None:
    clock = Clock()
    machine = Machine(SlowFiles(clock, takes=300.0), clock)
    machine.refresher.open()
    await machine.settle()
    assert machine.refresher.status == STATUS
    machine.running = True
    await machine.passes(30.0)
    assert machine.connection.source is not None
    assert machine.connection.source.live


async def test_it_is_found_while_the_files_are_being_read() -> None:
    clock, go_on = Clock(), threading.Event()
    machine = Machine(SlowFiles(clock, takes=0.0, go_on=go_on), clock)
    machine.refresher.open()
    await machine.settle()
    machine.running = True
    await machine.passes(30.0)
    assert machine.connection.source is not None
    assert machine.connection.source.live
    assert machine.refresher.status == STATUS, "the daemon's, read on another thread"
    machine.refresher.status = None
    go_on.set()
    await machine.settle()
    assert machine.refresher.status is None, "what was read of the files is dropped"


async def test_the_next_read_is_not_put_off_for_longer_than_a_daemon_may_go_unseen() -> None:
    clock = Clock()
    files = SlowFiles(clock, takes=300.0)
    machine = Machine(files, clock)
    machine.refresher.open()
    await machine.settle()
    assert files.reads == 1
    await machine.passes(30.0)
    assert files.reads > 1


async def test_an_old_status_is_called_old() -> None:
    clock, go_on = Clock(), threading.Event()
    go_on.set()
    machine = Machine(SlowFiles(clock, takes=0.0, go_on=go_on), clock)
    machine.refresher.open()
    await machine.settle()
    assert machine.refresher.status_age == 0
    go_on.clear()
    await machine.passes(5.0)
    assert machine.refresher.status_age == 0, "it is read all the time"
    drawn = machine.view.headers
    await machine.passes(60.0)
    assert machine.refresher.status_age >= 60
    assert machine.view.headers >= drawn + 30, "the header is drawn again as the age grows"
    go_on.set()
    await machine.settle()
    assert machine.refresher.status_age >= 60, "what is read is of when the reading began"
    await machine.passes(25.0)
    assert machine.refresher.status_age == 0, "and it was read again"
