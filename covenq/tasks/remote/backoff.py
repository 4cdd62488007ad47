"""A worker's waits after errors."""

from __future__ import annotations

import random

BACKOFF_S = (0.5, 30.0)
"""The first wait after an error, and the longest."""


class Backoff:
    """Waits after errors: exponential within BACKOFF_S, with jitter of half."""

    def __init__(self) -> None:
        self._next = BACKOFF_S[0]

    def next(self) -> float:
        wait = self._next * (0.5 + random.random() / 2)  # noqa: S311 - not for secrets
        self._next = min(self._next * 2, BACKOFF_S[1])
        return wait

    def reset(self) -> None:
        self._next = BACKOFF_S[0]
