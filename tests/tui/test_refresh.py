"""The refresher without a dashboard: what it keeps when a read fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from covenq.client.interface import Source
from covenq.errors import DaemonUnreachable
from covenq.model.answers import Throughput
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
        self.throughputs = 0

    def run_worker(self, work: Coroutine[Any, Any, None], *, group: str, exclusive: bool = False) -> object:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def source_opened(self, source: Source) -> None: ...
    def source_failed(self, error: BaseException) -> None: ...
    def status_read(self) -> None: ...
    def mark_changed(self) -> None: ...
    def show_header(self) -> None: ...

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
