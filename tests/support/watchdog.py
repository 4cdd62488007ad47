"""Finds what blocks an event loop: a thread samples the loop's thread, and every callback's cost is measured.

A loaded machine stretches the time between two heartbeats without anybody being at fault, so it is the CPU time of one
callback that is judged, and a callback's time on the clock only where the thread was asleep for most of it, in a call that
blocks. The stacks that were seen meanwhile say who it was.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

LOOK_S = 0.01
"""Seconds between two samples of the stack."""


@dataclass
class Held:
    """One callback that took too long, and where it was seen most of the time."""

    what: str
    cpu_ms: float
    wall_ms: float
    stack: str

    def __str__(self) -> str:
        told = f"{self.what}: {self.cpu_ms:.0f} ms of CPU, {self.wall_ms:.0f} ms in all, "
        return f"{told}last in {self.ours or 'nothing of ours'}\n{self.stack}"

    @property
    def ours(self) -> str:
        """The innermost line of the product that was sampled, if there was one."""
        found = [
            line.strip() for line in self.stack.splitlines() if "/covenq/" in line and line.strip().startswith("File")
        ]
        return found[-1] if found else ""


@dataclass
class Watchdog:
    """The findings. `limit_ms` is the limit for a callback."""

    limit_ms: float
    held: list[Held] = field(default_factory=list)
    callbacks: int = 0
    slowest_ms: float = 0.0


def slowness() -> float:
    """How much more CPU the same work takes for this thread at times, with others at work beside it, than at best: 1 on a
    quiet machine."""
    times = []
    for _ in range(40):
        began = time.thread_time()
        made = [{"n": n, "words": (str(n),)} for n in range(2000)]
        made.sort(key=lambda one: -int(one["words"][0]))  # type: ignore[index]
        times.append(time.thread_time() - began)
    times.sort()
    return max(1.0, times[36] / times[0])


@contextmanager
def watching(limit_ms: float = 50.0, asleep_ms: float = 1000.0) -> Iterator[Watchdog]:
    """Watch every callback that a loop of this thread runs meanwhile: it may take `limit_ms` of CPU, and on the clock as
    long as the thread works or waits its turn; of one that took over `asleep_ms` while it hardly worked, it was asleep."""
    found = Watchdog(limit_ms)
    me = threading.get_ident()
    running: list[float] = []
    """When the running callback began; empty between two."""
    seen: Counter[str] = Counter()
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            began = running[0] if running else None
            frame = sys._current_frames().get(me)
            if began is not None and frame is not None and time.perf_counter() - began > limit_ms / 2000:
                seen["".join(traceback.format_stack(frame, 40))] += 1

    collecting: list[float] = []
    """CPU that the garbage collector took of this callback, and when it began."""

    def collected(phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() == me and running:
            collecting.append(-time.thread_time() if phase == "start" else time.thread_time())

    real: Callable[[asyncio.Handle], Any] = asyncio.Handle._run

    def run(handle: asyncio.Handle) -> Any:
        if threading.get_ident() != me or running:
            return real(handle)
        seen.clear()
        collecting.clear()
        wall, cpu = time.perf_counter(), time.thread_time()
        running.append(wall)
        try:
            return real(handle)
        finally:
            running.clear()
            # The collector looks through the whole of the test's process, which is no dashboard.
            spared = sum(collecting) if len(collecting) % 2 == 0 else 0.0
            cpu_ms = (time.thread_time() - cpu - spared) * 1000
            wall_ms = (time.perf_counter() - wall) * 1000
            found.callbacks += 1
            found.slowest_ms = max(found.slowest_ms, cpu_ms)
            if cpu_ms > limit_ms or (wall_ms > asleep_ms and cpu_ms < wall_ms / 20):
                stack = seen.most_common(1)[0][0] if seen else "(never seen)"
                found.held.append(Held(repr(handle)[:200], cpu_ms, wall_ms, stack))

    watcher = threading.Thread(target=look, name="watchdog", daemon=True)
    watcher.start()
    asyncio.Handle._run = run  # type: ignore[method-assign]
    gc.callbacks.append(collected)
    try:
        yield found
    finally:
        gc.callbacks.remove(collected)
        asyncio.Handle._run = real  # type: ignore[method-assign]
        over.set()
        watcher.join()
