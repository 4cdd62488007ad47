"""Processes that check pieces of segments: started whatever is in the place of the standard error stream.

`multiprocessing` starts a process of its own with the first worker, and hands it the descriptor of `sys.stderr`. A program that
draws on the whole terminal has an object there without one (its `fileno()` is -1), and no process would start.
"""

from __future__ import annotations

import io
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

_STARTING = threading.Lock()
"""Held while `sys.stderr` may be replaced."""


def process_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of so many processes, to be made, and submitted to, within `processes_start`.

    Spawned, not forked: a dashboard or a daemon that verifies has threads.
    """
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


@contextmanager
def processes_start() -> Iterator[None]:
    """Processes are started within: without SIGINT, and with a `sys.stderr` that has a descriptor.

    Ctrl-C reaches the whole process group. The processes inherit that it is blocked: the one that started them ends them.
    """
    with _STARTING:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _stderr_with_descriptor():
                yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _stderr_with_descriptor() -> Iterator[None]:
    """`sys.stderr` writes to descriptor 2 if what is there has no descriptor. Every thread sees that, for milliseconds."""
    replaced = sys.stderr
    if _has_descriptor():
        yield
        return
    own = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), errors="backslashreplace", write_through=True)
    sys.stderr = own
    try:
        yield
    finally:
        if sys.stderr is own:  # the program may have put its own back meanwhile, as it was leaving the terminal
            sys.stderr = replaced


def _has_descriptor() -> bool:
    """Whether `sys.stderr` has one, or is not there, which `multiprocessing` takes too."""
    try:
        return sys.stderr is None or sys.stderr.fileno() >= 0
    except (
        OSError,
        ValueError,
    ):  # a stream without a descriptor, or a closed one: `multiprocessing` goes on without it
        return True
