"""Blocking calls off the event loop, on daemon threads that quitting never waits for.

Textual's own thread workers run on the loop's default executor, which is joined at exit: `q` would wait for a read in
progress. A BackgroundThread does one call at a time, so its calls never overtake each other, and a per-thread database
connection is made once a thread.

Whatever a call raises reaches its caller as one of `covenq.errors.Failure`, so that who shows failures shows all of them: an
exception that no page catches would end the dashboard.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from covenq.errors import Failure
from covenq.tui.unexpected import as_failure

T = TypeVar("T")


class Cancelled(BaseException):
    """Raised within a call to end it, by who no longer waits for it. No Exception: what is called must not catch it."""


_Job = Callable[[], bool]
"""One call, to its end. Returns whether its loop still runs."""


class BackgroundThread:
    """One daemon thread for blocking calls. `call` may be cancelled: a call that has not begun is then skipped."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[[], T]) -> T:
        """`function()` on this thread; its result. Raises Failure, whatever it raised, and Cancelled."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"tui-{self._name}", daemon=True)
            self._thread.start()
        self._jobs.put(partial(_do, loop, future, function))
        return await future

    def end(self, last: Callable[[], None] = lambda: None) -> None:
        """End the thread once what it was asked for is done, and `last` after it. Nobody waits, and no call may follow."""

        def job() -> bool:
            with suppress(*Failure, OSError):  # nobody uses any more what it closes
                last()
            return False

        if self._thread is not None:
            self._jobs.put(job)

    def _run(self) -> None:
        while self._jobs.get()():
            pass


def _do(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]) -> bool:
    if future.cancelled():
        return True
    try:
        resolve = partial(_succeed, future, function())
    except (*Failure, Cancelled) as raised:
        resolve = partial(_fail, future, raised)
    except BaseException as raised:  # noqa: BLE001 - handed to the caller, who waits for it
        resolve = partial(_fail, future, as_failure(raised))
    try:
        loop.call_soon_threadsafe(resolve)
    except RuntimeError:
        return False  # the loop is closed: the dashboard has quit, and no caller waits
    return True


def _succeed(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
