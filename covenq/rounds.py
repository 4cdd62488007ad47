"""Rounds: when each of the daemon's loops last came round, and which of them is overdue.

A thread that hangs, or that fails in every round, answers nobody and ends nothing, so by itself nobody would see it. Each loop
has a `Loop` and reports its rounds to it; whoever asks compares that with the loop's own bound, by the monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Loop:
    """The rounds of one loop, reported by its thread. Every thread may ask; nothing here blocks."""

    def __init__(
        self, name: str, bound_s: float, without: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """It is overdue when it has not come round for `bound_s` seconds; `without` says what then doesn't happen."""
        self.name = name
        self.bound_s = bound_s
        self.without = without
        self._monotonic = monotonic
        self._last: float | None = None
        self._error: str | None = None

    def done(self) -> None:
        """A round has ended well. The first call begins the watch: call it when the loop starts."""
        self._last, self._error = self._monotonic(), None

    def progress(self) -> None:
        """A round is long, and goes on. After a failure it counts for nothing until a round has ended well."""
        if self._error is None:
            self._last = self._monotonic()

    def failed(self, error: BaseException) -> None:
        """A round has failed, and the next will be tried. The type alone is kept: a message may quote a payload."""
        self._error = type(error).__name__

    def end(self) -> None:
        """The loop has ended as it should: nothing is expected of it any more."""
        self._last = None

    @property
    def age_s(self) -> float | None:
        """Seconds since it last came round; None before its start and after its end."""
        last = self._last
        return None if last is None else max(0.0, self._monotonic() - last)

    @property
    def overdue(self) -> str | None:
        """Why it is overdue, in one sentence; None while it isn't."""
        age = self.age_s
        if age is None or age <= self.bound_s:
            return None
        error = self._error
        failing = "" if error is None else f", and fails each time ({error})"
        return f"the {self.name} loop last came round {age:.0f} s ago{failing}: {self.without}"
