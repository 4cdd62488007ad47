"""The rows of a virtual table: ranges of a newest-first list, fetched by cursor, a bounded number of them kept.

A million deliveries are a list of ranges, of which only the ones near the viewport hold rows. The newest range is
open at the top and is read again whenever something changed; a range is bounded by order keys, so rows that left a
filter disappear and rows that entered it appear, without moving another range. Positions shown count from the oldest
row known: older ranges are put before, so callers anchor what they show by key.

`Rows` is values and arithmetic; the functions that read (`newest`, `older`, `again`) block, return ranges and change
nothing, so they may run on another thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

Row = dict[str, Any]
Fetch = Callable[[int, str | None], tuple[list[Row], str | None]]
"""(limit, cursor) → rows, newest first, and the cursor of what follows or None."""
Key = Callable[[Row], int]

LIVE = 100
"""Rows the open range settles at; it is split when it has grown by half."""
OLDER = 250
KEPT = 40
"""Ranges that keep their rows, beside those in view."""
CHUNKS = 8
"""Reads after which the newest range gives up reaching what is listed: a burst, the list starts afresh."""


@dataclass(slots=True)
class Range:
    """Rows with keys from `lower` up to the next newer range; `after` is the cursor it was read with."""

    after: str | None
    lower: int
    next: str | None
    count: int
    rows: list[Row] | None
    version: int = 0


@dataclass(slots=True)
class Newest:
    """What a read of the open range brought; `gap`: it did not reach down to what is listed."""

    ranges: list[Range]
    gap: bool = False


def _make(after: str | None, rows: list[Row], following: str | None, key: Key, lower: int | None = None) -> Range:
    if lower is None:
        lower = key(rows[-1]) if rows and following is not None else 0
    return Range(after, lower, following, len(rows), rows)


def first(fetch: Fetch, key: Key) -> Range:
    """The open range of a list that is not known yet."""
    rows, following = fetch(LIVE, None)
    return _make(None, rows, following, key)


def older(fetch: Fetch, key: Key, last: Range, limit: int | None = None) -> Range:
    """The range below `last`."""
    rows, following = fetch(limit or OLDER, last.next)
    return _make(last.next, rows, following, key)


def oldest(fetch: Fetch, key: Key, last: Range, limit: int, enough: Callable[[], bool]) -> list[Range]:
    """The ranges below `last`, one after the other, until there is no more or `enough` says so. Only the last is kept."""
    found: list[Range] = []
    while last.next is not None and not (found and enough()):
        if found:
            last.rows = None
        last = older(fetch, key, last, limit)
        found.append(last)
    return found


def again(fetch: Fetch, key: Key, old: Range) -> Range:
    """The same range read again: as many rows as are in it now."""
    kept: list[Row] = []
    cursor = old.after
    while True:
        rows, cursor = fetch(max(OLDER, old.count), cursor)
        kept += [row for row in rows if key(row) >= old.lower]
        if cursor is None or not rows or key(rows[-1]) <= old.lower:
            break
    return _make(old.after, kept, old.next, key, old.lower)


def newest(fetch: Fetch, key: Key, open_range: Range) -> Newest:
    """The open range read again with what came since, as one range or, once it has grown, as two."""
    ranges: list[Range] = []
    cursor: str | None = None
    for _ in range(CHUNKS):
        after = cursor
        rows, cursor = fetch(2 * LIVE, after)
        kept = [row for row in rows if key(row) >= open_range.lower]
        if cursor is None or not rows or key(rows[-1]) <= open_range.lower:
            if not ranges and len(kept) > LIVE + LIVE // 2:
                return _split(fetch, key, open_range, len(kept) - LIVE)
            ranges.append(_make(after, kept, open_range.next, key, open_range.lower))
            return Newest(ranges)
        ranges.append(_make(after, rows, cursor, key))
    return Newest(ranges, gap=True)


def _split(fetch: Fetch, key: Key, open_range: Range, upper_count: int) -> Newest:
    rows, cursor = fetch(upper_count, None)
    if cursor is None or key(rows[-1]) <= open_range.lower:
        kept = [row for row in rows if key(row) >= open_range.lower]
        return Newest([_make(None, kept, open_range.next, key, open_range.lower)])
    upper = _make(None, rows, cursor, key)
    below = again(fetch, key, Range(cursor, open_range.lower, open_range.next, LIVE, None))
    return Newest([upper, below])


@dataclass(slots=True)
class Rows:
    """The ranges known, newest first. Position 0 is the oldest row known, `count - 1` the newest."""

    key: Key
    ranges: list[Range] = field(default_factory=list)
    version: int = 0
    _ends: list[int] = field(default_factory=list)
    _used: dict[int, int] = field(default_factory=dict)
    _clock: int = 0

    @property
    def count(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def loaded(self) -> bool:
        """Something has been read, if only that there is nothing."""
        return bool(self.ranges)

    @property
    def more(self) -> bool:
        """Older rows exist that are not listed yet."""
        return bool(self.ranges) and self.ranges[-1].next is not None

    def changed(self) -> None:
        """Something may have changed: every range but those read from now on is stale."""
        self.version += 1

    def put_first(self, found: Range) -> None:
        self.ranges = [found]
        self._settle([found])

    def put_older(self, found: Range) -> None:
        """`found` is below everything known. An empty one only says that there is no more."""
        self.put_oldest([found])

    def put_oldest(self, found: list[Range]) -> None:
        """What `oldest` brought."""
        for one in found:
            if one.count or one.next is not None:
                self.ranges.append(one)
            else:
                self.ranges[-1].next = None
        self._settle(found)

    def put_again(self, old: Range, found: Range) -> None:
        """`found` takes the place of `old`, unless that is gone by now."""
        for index, known in enumerate(self.ranges):
            if known is old:
                self.ranges[index] = found
                self._settle([found])
                return

    def put_newest(self, found: Newest) -> None:
        """The open range's successor. After a gap only what was just read is known."""
        self.ranges = found.ranges if found.gap else found.ranges + self.ranges[1:]
        self._settle(found.ranges)

    def row(self, position: int) -> Row | None:
        """The row there, None if it isn't kept at the moment."""
        found = self._locate(position)
        if found is None:
            return None
        known, offset = found
        return known.rows[offset] if known.rows is not None else None

    def kept(self) -> Iterator[Row]:
        """The rows that are held at the moment, newest first."""
        for known in self.ranges:
            yield from known.rows or ()

    def position(self, key: int) -> int:
        """Where the row with that key is, or the nearest older one that is known; 0 if there is none."""
        start = 0
        for known in self.ranges:
            if key >= known.lower:
                offset = 0
                if known.rows is not None:
                    offset = bisect_left(known.rows, -key, key=lambda row: -self.key(row))
                return max(0, self.count - 1 - min(start + offset, max(0, self.count - 1)))
            start += known.count
        return 0

    def newer_than(self, key: int) -> int:
        """How many known rows are newer than `key`."""
        start = 0
        for known in self.ranges:
            if key >= known.lower:
                if known.rows is None:
                    return start
                return start + bisect_left(known.rows, -key, key=lambda row: -self.key(row))
            start += known.count
        return start

    def newest_key(self) -> int:
        for known in self.ranges:
            if known.rows:
                return self.key(known.rows[0])
        return 0

    def wanted(self, top: int, bottom: int) -> list[Range]:
        """The ranges in view (positions, both ends included) that must be read: not kept, or stale. Not the open one."""
        found = []
        for known in self._between(top, bottom):
            if known is not self.ranges[0] and (known.rows is None or known.version < self.version):
                found.append(known)
        return found

    def seen(self, top: int, bottom: int) -> None:
        """What is in view now: the ranges seen longest ago lose their rows."""
        self._clock += 1
        for known in self._between(top, bottom):
            self._used[id(known)] = self._clock
        self._evict()

    def _between(self, top: int, bottom: int) -> Iterable[Range]:
        if not self.count:
            return
        newest_index = self.count - 1 - min(bottom, self.count - 1)
        oldest_index = self.count - 1 - max(top, 0)
        at = bisect_left(self._ends, newest_index + 1)
        while at < len(self.ranges) and (at == 0 or self._ends[at - 1] <= oldest_index):
            yield self.ranges[at]
            at += 1

    def _locate(self, position: int) -> tuple[Range, int] | None:
        index = self.count - 1 - position
        if not 0 <= index < self.count:
            return None
        at = bisect_left(self._ends, index + 1)
        return self.ranges[at], index - (self._ends[at - 1] if at else 0)

    def _settle(self, fresh: Iterable[Range]) -> None:
        self._clock += 1
        for known in fresh:
            known.version = self.version
            if known.rows is not None:
                self._used[id(known)] = self._clock
        self._ends = list(accumulate(known.count for known in self.ranges))
        self._evict()

    def _evict(self) -> None:
        if len(self._used) <= KEPT:
            return
        present = {id(known): known for known in self.ranges}
        oldest_first = sorted((clock, name) for name, clock in self._used.items() if name in present)
        drop = {name for _, name in oldest_first[:-KEPT]} - {id(self.ranges[0])}
        for name in drop:
            present[name].rows = None
        self._used = {name: clock for clock, name in oldest_first if name not in drop}
