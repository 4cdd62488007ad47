"""What a benchmark makes of its rounds: medians with their spread, and ratios pair by pair, so that a drift is in both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some rounds, with the least and the most of them."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError for none at all."""
        if not values:
            raise ValueError("of no rounds there is no median")
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> Spread:
        """Of ours to theirs, a round's to the same round's. Raises ValueError where they are not as many."""
        return cls.of([one / other for one, other in zip(ours, theirs, strict=True)])
