"""The bound on failed log-ins: so many from one address in a minute are noted and told why, the others only to wait.

A token can't be guessed; what this keeps is the log of refusals, which a program that tries would fill. Behind a proxy everybody
has one address: so the right token is let in all the same, and nobody can keep others out by typing wrong ones.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

FAILED_MAX = 10
"""Failed log-ins of one address within WINDOW_S."""
WINDOW_S = 60.0
ADDRESSES_MAX = 10_000
"""Addresses that are kept; with more, that which failed first is forgotten."""


class AttemptsLimit:
    """Failed log-ins by address. Methods may be called from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failed: dict[str, tuple[float, int]] = {}

    def wait_s(self, address: str) -> int:
        """Whole seconds until one that fails is told why again; 0: now."""
        with self._lock:
            began, failed = self._failed.get(address, (0.0, 0))
        left = began + WINDOW_S - self._monotonic()
        return math.ceil(left) if failed >= FAILED_MAX and left > 0 else 0

    def failed(self, address: str) -> int:
        """Count one, and return how many that makes. A window begins with the first, and the next with the first after it."""
        with self._lock:
            now = self._monotonic()
            began, failed = self._failed.pop(address, (now, 0))
            if now - began >= WINDOW_S:
                began, failed = now, 0
            while len(self._failed) >= ADDRESSES_MAX:
                del self._failed[next(iter(self._failed))]
            self._failed[address] = (began, failed + 1)
            return failed + 1
