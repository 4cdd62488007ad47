"""A histogram with fixed buckets, for status and metrics: cheap to add to, and of bounded size."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple


class Counts(NamedTuple):
    """A snapshot. `counts[i]` values were at most `bounds[i]` and above the bound before; the last count is for all above."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """Written by one thread, read by any: a snapshot may lack the value that is being added, and never tears a count."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds` ascend."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Counts:
        return Counts(self._bounds, tuple(self._counts), self._total)
