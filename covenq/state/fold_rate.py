"""The rate of a fold that is far behind: how long it takes until it has caught up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SAMPLE_S = 1.0
WINDOW_S = 30.0
"""Seconds that the rate is measured over: building state anew slows down as its indexes grow."""
STILL_S = 10.0
"""Seconds without progress after which it isn't slow, but stands still: no rate says for how long."""
FAR = 10_000
"""Records behind from which it is told: fewer are folded in a moment."""


class FoldRate:
    """`note` is for the thread that reports, `left_s` for any."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._samples: deque[tuple[float, int]] = deque()
        self._moved_at, self._folded = monotonic(), 0

    def note(self, folded: int) -> None:
        """Folded up to there, now."""
        now = self._monotonic()
        samples = self._samples
        if folded > self._folded:
            if now - self._moved_at > WINDOW_S:
                samples.clear()  # what it folds in a second is not told by the time in which it folded nothing
            self._moved_at, self._folded = now, folded
        if samples and now - samples[-1][0] < SAMPLE_S:
            return
        samples.append((now, folded))
        while len(samples) > 2 and now - samples[1][0] > WINDOW_S:
            samples.popleft()

    def left_s(self, folded: int, lag: int) -> float | None:
        """Seconds until `lag` records more are folded, at the rate of the last seconds; None where it isn't known, or near.

        None, too, where nothing was folded for STILL_S.
        """
        try:
            began, first = self._samples[0]
        except IndexError:
            return None
        now = self._monotonic()
        took = now - began
        if now - self._moved_at >= STILL_S:
            return None
        if lag < FAR or took <= 0 or folded <= first:
            return None
        return lag * took / (folded - first)
