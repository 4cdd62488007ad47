"""A shortage of this process or machine: no descriptors, processes or memory left to start a task with.

It says nothing about the task, so it fails none: the attempt is given back, uses up no retry, and the task waits. How many run at
a time adapts meanwhile (additive increase after a cut to what runs), since claims that can't be carried out are records too.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from covenq.model import Category
from covenq.tasks.scheduling.outcome import Outcome

GROW_S = 10.0
"""Seconds without a shortage after which one more task at a time is tried."""
HOLD_FIRST_S = 1.0
HOLD_MAX_S = 30.0
"""Seconds that nothing is started where nothing runs whose end would help: twice as long each time, up to this."""

_WORDS = {
    errno.EMFILE: "this process has no file descriptors left",
    errno.ENFILE: "this machine has no file descriptors left",
    errno.EAGAIN: "no more processes or threads may be started",
    errno.ENOMEM: "there is no memory left",
}


def is_shortage(error: OSError) -> bool:
    """Whether the call failed for lack of something that has nothing to do with what it was called for."""
    return error.errno in _WORDS


def sentence_of(error: OSError) -> str:
    """What is short, in words. For an error that `is_shortage`."""
    return f"{_WORDS[error.errno or errno.EMFILE]} ({errno.errorcode[error.errno or errno.EMFILE]})"


def no_descriptor_left() -> str | None:
    """What is short, in words, if no file can be opened now: some errors, SQLite's for one, don't say that it is why."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return sentence_of(error) if is_shortage(error) else None
    return None


def given_back(error: OSError) -> Outcome:
    """The outcome of an attempt that a shortage kept from starting, or from being watched."""
    return Outcome(Category.INTERRUPTED, detail=f"it was given back: {sentence_of(error)}")


class StartLimit:
    """How many tasks a pool may run at a time, by what its last starts met. Methods may be called from any thread."""

    def __init__(self, concurrency: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`concurrency` is what is configured: the limit while nothing is short."""
        self._concurrency = concurrency
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._limit = concurrency
        self._running = 0
        self._why = ""
        self._grow_at = 0.0
        self._hold_s = 0.0
        self._held_until = 0.0

    def allowed(self) -> int:
        """How many attempts there may be now, those that run included."""
        with self._lock:
            now = self._monotonic()
            if self._limit < self._concurrency and now >= self._grow_at:
                self._limit += 1
                self._grow_at = now + GROW_S
                if self._limit == self._concurrency:
                    self._hold_s = 0.0
            return self._limit if now >= self._held_until else 0

    def wait_s(self) -> float | None:
        """Seconds after which `allowed` may return more; None while nothing is short."""
        with self._lock:
            if self._limit >= self._concurrency and self._monotonic() >= self._held_until:
                return None
            now = self._monotonic()
            return max((self._held_until if self._held_until > now else self._grow_at) - now, 0.05)

    def waits(self) -> str | None:
        """Why not as many run as are configured, in a sentence; None if they may."""
        with self._lock:
            if self._limit >= self._concurrency and self._monotonic() >= self._held_until:
                return None
            limit = 0 if self._monotonic() < self._held_until else self._limit
            return f"{self._why}: {limit} of {self._concurrency} at a time, until there are more"

    @contextmanager
    def running(self) -> Iterator[None]:
        """While an attempt runs: its end gives back what it holds."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def failed(self, error: OSError) -> bool:
        """A start met a shortage. True if that was news: nothing was short before."""
        with self._lock:
            now = self._monotonic()
            news = self._limit >= self._concurrency
            self._why = sentence_of(error)
            self._limit = max(1, min(self._limit, self._running, self._concurrency - 1))
            self._grow_at = now + GROW_S
            if not self._running and now >= self._held_until:
                self._hold_s = min(self._hold_s * 2, HOLD_MAX_S) if self._hold_s else HOLD_FIRST_S
                self._held_until = now + self._hold_s
            return news
