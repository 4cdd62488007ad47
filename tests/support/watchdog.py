"""Finds callbacks that block an event loop: measures each callback, and samples the stack of the loop's thread.

On a loaded machine the time between two heartbeats grows without a fault in the program. So a callback is judged by its CPU
time, and by its wall-clock time only where the thread slept for most of it, in a blocking call. The sampled stacks name the
cause.
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

SAMPLE_S = 0.01
"""Seconds between two samples of the stack."""


@dataclass
class SlowCallback:
    """One callback that took too long, with the stack that was sampled most often."""

    what: str
    cpu_ms: float
    wall_ms: float
    stack: str

    def __str__(self) -> str:
        summary = f"{self.what}: {self.cpu_ms:.0f} ms of CPU, {self.wall_ms:.0f} ms in all, "
        return f"{summary}last in {self.product_frame or 'nothing of ours'}\n{self.stack}"

    @property
    def product_frame(self) -> str:
        """The innermost frame of covenq in that stack, empty if there is none."""
        found = [
            line.strip() for line in self.stack.splitlines() if "/covenq/" in line and line.strip().startswith("File")
        ]
        return found[-1] if found else ""


@dataclass
class Watchdog:
    """The result of watching. `limit_ms` is the CPU time that a callback may take."""

    limit_ms: float
    slow: list[SlowCallback] = field(default_factory=list)
    callbacks: int = 0
    slowest_ms: float = 0.0


def slowdown() -> float:
    """CPU time of a slow run of the same work over that of the fastest, on this thread: 1 on a quiet machine, more while others
    work beside it."""
    times = []
    for _ in range(40):
        began = time.thread_time()
        made = [{"n": n, "words": (str(n),)} for n in range(2000)]
        made.sort(key=lambda one: -int(one["words"][0]))  # type: ignore[index]
        times.append(time.thread_time() - began)
    times.sort()
    return max(1.0, times[36] / times[0])


@contextmanager
def watch_event_loop(limit_ms: float = 50.0, asleep_ms: float = 1000.0) -> Iterator[Watchdog]:
    """Watch every callback that an event loop runs on this thread. A callback is slow if it takes over `limit_ms` of CPU time, or
    if it takes over `asleep_ms` of wall-clock time with hardly any CPU time: it was asleep."""
    found = Watchdog(limit_ms)
    me = threading.get_ident()
    running: list[float] = []
    """When the current callback began; empty between two."""
    seen: Counter[str] = Counter()
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.wait(SAMPLE_S):
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
                found.slow.append(SlowCallback(repr(handle)[:200], cpu_ms, wall_ms, stack))

    watcher = threading.Thread(target=sample, name="watchdog", daemon=True)
    watcher.start()
    asyncio.Handle._run = run  # type: ignore[method-assign]
    gc.callbacks.append(collected)
    try:
        yield found
    finally:
        gc.callbacks.remove(collected)
        asyncio.Handle._run = real  # type: ignore[method-assign]
        stopped.set()
        watcher.join()
