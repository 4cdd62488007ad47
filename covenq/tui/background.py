"""Blocking calls off the event loop, on daemon threads that quitting never waits for.

Textual's own thread workers run on the loop's default executor, which is joined at exit: `q` would wait for a read in
progress. A BackgroundThread does one call at a time, so its calls never overtake each other, and a per-thread database
connection is made once a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class BackgroundThread:
    """One daemon thread for blocking calls. `call` may be cancelled: a call that has not begun is then skipped."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[[], T]) -> T:
        """`function()` on this thread; its result, or the exception that it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"tui-{self._name}", daemon=True)
            self._thread.start()
        self._jobs.put((loop, future, function))
        return await future

    def _run(self) -> None:
        while True:
            loop, future, function = self._jobs.get()
            if future.cancelled():
                continue
            value: Any = None
            error: BaseException | None = None
            try:
                value = function()
            except BaseException as raised:  # noqa: BLE001 - handed to the caller, who waits for it
                error = raised
            try:
                loop.call_soon_threadsafe(_resolve, future, value, error)
            except RuntimeError:
                return  # the loop is closed: the dashboard has quit, and no caller waits


def _resolve(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, StopIteration):
        # a future refuses StopIteration
        future.set_exception(RuntimeError("a blocking call raised StopIteration"))
    else:
        future.set_exception(error)
