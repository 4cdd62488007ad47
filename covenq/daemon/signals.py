"""The daemon's signal handlers: stop and reload."""

from __future__ import annotations

import os
import signal
import threading
import time


class Signals:
    """SIGTERM and SIGINT ask for a stop; another one, a second or more later, ends the process at once. SIGHUP: reload.

    Another one that comes sooner is ignored: some programs signal a process, and then its process group.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._signalled_at: float | None = None
        self._reload = False
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)

    def ask(self) -> None:
        """Ask for a stop without a signal: one that comes later is the first. From any thread."""
        self.asked.set()

    @property
    def signalled(self) -> bool:
        """Whether a signal has asked for a stop, be it besides."""
        return self._signalled_at is not None

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reload_asked(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def _hang_up(self, number: int, frame: object) -> None:
        self._reload = True

    def _handle(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
            self.asked.set()
        elif now - self._signalled_at >= 1.0:
            # What is durable stays so; what runs is closed as interrupted at the next start.
            os._exit(1)
