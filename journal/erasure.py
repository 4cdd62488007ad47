"""Erasures: which records a record allows to lack their content, and how it says so in its `data`.

Content may be taken out of a journal only if a record says so: its `data.drops` names the seqs, as [first, last] pairs, both
counted, and with `data.about` true the `about` of those records goes too. Every engine, and every fold of the records, reads that
here, so that none of them drops more, or less, than another.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

SeqRange = tuple[int, int]
"""(first, last), both counted."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """The content that record `by` allows to be missing."""

    by: int
    drops: tuple[SeqRange, ...]
    about: bool


def seq_ranges(seqs: Sequence[int]) -> list[list[int]]:
    """Seqs as the shortest list of [first, last] ranges."""
    found: list[list[int]] = []
    for seq in sorted(set(seqs)):
        if found and found[-1][1] == seq - 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return found


def erasure_of(by: int, data: Mapping[str, Any]) -> Erasure | None:
    """The erasure that record `by` names in its data; None if it names none. Seqs that are not before `by` are left out."""
    drops = data.get("drops")
    if not isinstance(drops, list) or not drops:
        return None
    try:
        ranges = sorted((max(int(low), 1), min(int(high), by - 1)) for low, high in drops)
    except (TypeError, ValueError, OverflowError):
        return None
    ranges = [(low, high) for low, high in ranges if low <= high]
    if not ranges:
        return None
    merged: list[SeqRange] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return Erasure(by, tuple(merged), data.get("about") is True)


def allows(erasure: Erasure, seq: int, *, about: bool) -> bool:
    """Whether this erasure allows the payload of record `seq` to be missing, and with `about` its about as well.

    A record can name only earlier ones: so a scan on from any missing content meets the record that accounts for it.
    """
    return seq < erasure.by and (erasure.about or not about) and covers(erasure.drops, seq)


def covers(drops: Sequence[SeqRange], seq: int) -> bool:
    at = bisect_right(drops, (seq, 1 << 63)) - 1
    return at >= 0 and drops[at][0] <= seq <= drops[at][1]


class ErasureLookup:
    """Look-up of seqs in several erasures at once.

    So each segment is rewritten once, however many records name parts of it.
    """

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        self._spans = sorted((low, high, one.by, one.about) for one in erasures for low, high in one.drops)
        self._lows = [span[0] for span in self._spans]
        self._reach = list(accumulate((span[1] for span in self._spans), max))
        """The greatest seq in the spans up to each one: a search backwards for a seq ends where no span can hold it."""

    @property
    def newest(self) -> int:
        """The greatest seq that is named; 0 if none is."""
        return self._reach[-1] if self._reach else 0

    def overlaps(self, low: int, high: int) -> bool:
        """Whether any seq from `low` to `high`, both counted, is named."""
        at = bisect_right(self._lows, high) - 1
        return at >= 0 and self._reach[at] >= low

    def find(self, seq: int) -> tuple[int, bool] | None:
        """(the record that names the seq, whether its about goes too); None if none does. Of several the one that drops more."""
        found: tuple[int, bool] | None = None
        at = bisect_right(self._lows, seq) - 1
        while at >= 0 and self._reach[at] >= seq:
            _, high, by, about = self._spans[at]
            if high >= seq and by > seq and (found is None or (about, -by) > (found[1], -found[0])):
                found = (by, about)
            at -= 1
        return found
