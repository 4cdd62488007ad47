"""The rows of a virtual table: ranges of a newest-first list, fetched by cursor, with a bounded number of them loaded.

A million deliveries are a list of ranges, of which only the ones near the viewport hold rows. The newest range is
open at the top and is read again whenever something changed; a range is bounded by order keys, so rows that left a
filter disappear and rows that entered it appear, without moving another range. Positions count from the oldest
row known: when older ranges are added all positions move, so callers anchor what they show by key.

`Rows` is values and arithmetic; the functions that read (`read_first`, `read_newest`, `read_older`, `read_to_oldest`, `reread`)
block, return ranges and change nothing, so they may run on another thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")
"""A row."""

Fetch = Callable[[int, str | None], tuple[list[T], str | None]]
"""(limit, cursor) → rows, newest first, and the cursor of what follows or None."""
Key = Callable[[T], int]

OPEN_RANGE_ROWS = 100
"""Rows of the open range; it is split when it has grown by half."""
OLDER_RANGE_ROWS = 250
"""Rows of a range below the open one."""
LOADED_RANGES_MAX = 40
"""Ranges that hold their rows; the least recently used lose theirs."""
NEWEST_READS_MAX = 8
"""Requests after which reading the newest range gives up reaching what is listed: after such a burst the list starts again."""


@dataclass(slots=True)
class Range(Generic[T]):
    """Rows with keys from `lower` up to the next newer range.

    `after` is the cursor it was read with, `next` the cursor of the range below, None at the end. `rows` is None while they are
    evicted.
    """

    after: str | None
    lower: int
    next: str | None
    count: int
    rows: list[T] | None
    version: int = 0


@dataclass(slots=True)
class NewestRead(Generic[T]):
    """The result of reading the open range; `gap`: it did not reach down to what is listed."""

    ranges: list[Range[T]]
    gap: bool = False


def _range(after: str | None, rows: list[T], following: str | None, key: Key[T], lower: int | None = None) -> Range[T]:
    if lower is None:
        lower = key(rows[-1]) if rows and following is not None else 0
    return Range(after, lower, following, len(rows), rows)


def read_first(fetch: Fetch[T], key: Key[T]) -> Range[T]:
    """The open range of a list that is not known yet."""
    rows, following = fetch(OPEN_RANGE_ROWS, None)
    return _range(None, rows, following, key)


def read_older(fetch: Fetch[T], key: Key[T], last: Range[T], limit: int | None = None) -> Range[T]:
    """The range below `last`."""
    rows, following = fetch(limit or OLDER_RANGE_ROWS, last.next)
    return _range(last.next, rows, following, key)


def read_to_oldest(
    fetch: Fetch[T], key: Key[T], last: Range[T], limit: int, enough: Callable[[], bool]
) -> list[Range[T]]:
    """The ranges below `last`, one after the other, until there are no more or `enough()`. Only the last holds its rows."""
    found: list[Range[T]] = []
    while last.next is not None and not (found and enough()):
        if found:
            last.rows = None
        last = read_older(fetch, key, last, limit)
        found.append(last)
    return found


def reread(fetch: Fetch[T], key: Key[T], old: Range[T]) -> Range[T]:
    """The same range read again, with as many rows as lie in it now."""
    kept: list[T] = []
    cursor = old.after
    while True:
        rows, cursor = fetch(max(OLDER_RANGE_ROWS, old.count), cursor)
        kept += [row for row in rows if key(row) >= old.lower]
        if cursor is None or not rows or key(rows[-1]) <= old.lower:
            break
    return _range(old.after, kept, old.next, key, old.lower)


def read_newest(fetch: Fetch[T], key: Key[T], open_range: Range[T]) -> NewestRead[T]:
    """The open range read again with what came since, as one range or, once it has grown, as two."""
    ranges: list[Range[T]] = []
    cursor: str | None = None
    for _ in range(NEWEST_READS_MAX):
        after = cursor
        rows, cursor = fetch(2 * OPEN_RANGE_ROWS, after)
        kept = [row for row in rows if key(row) >= open_range.lower]
        if cursor is None or not rows or key(rows[-1]) <= open_range.lower:
            if not ranges and len(kept) > OPEN_RANGE_ROWS + OPEN_RANGE_ROWS // 2:
                return _split(fetch, key, open_range, len(kept) - OPEN_RANGE_ROWS)
            ranges.append(_range(after, kept, open_range.next, key, open_range.lower))
            return NewestRead(ranges)
        ranges.append(_range(after, rows, cursor, key))
    return NewestRead(ranges, gap=True)


def _split(fetch: Fetch[T], key: Key[T], open_range: Range[T], upper_count: int) -> NewestRead[T]:
    rows, cursor = fetch(upper_count, None)
    if cursor is None or key(rows[-1]) <= open_range.lower:
        kept = [row for row in rows if key(row) >= open_range.lower]
        return NewestRead([_range(None, kept, open_range.next, key, open_range.lower)])
    upper = _range(None, rows, cursor, key)
    below = reread(fetch, key, Range(cursor, open_range.lower, open_range.next, OPEN_RANGE_ROWS, None))
    return NewestRead([upper, below])


@dataclass(slots=True)
class Rows(Generic[T]):
    """The ranges known, newest first. Position 0 is the oldest row known, `count - 1` the newest."""

    key: Key[T]
    ranges: list[Range[T]] = field(default_factory=list)
    version: int = 0
    _ends: list[int] = field(default_factory=list)
    _last_used: dict[int, int] = field(default_factory=dict)
    _clock: int = 0

    @property
    def count(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def loaded(self) -> bool:
        """Something has been read, even if the list is empty."""
        return bool(self.ranges)

    @property
    def has_older(self) -> bool:
        """Older rows exist that are not listed yet."""
        return bool(self.ranges) and self.ranges[-1].next is not None

    def mark_stale(self) -> None:
        """The list may have changed: every range that was read before is stale."""
        self.version += 1

    def put_first(self, found: Range[T]) -> None:
        self.ranges = [found]
        self._index([found])

    def put_older(self, found: Range[T]) -> None:
        """`found` is below everything known. An empty one only marks the end of the list."""
        self.put_all_older([found])

    def put_all_older(self, found: list[Range[T]]) -> None:
        """The result of `read_to_oldest`."""
        for one in found:
            if one.count or one.next is not None:
                self.ranges.append(one)
            else:
                self.ranges[-1].next = None
        self._index(found)

    def replace(self, old: Range[T], found: Range[T]) -> None:
        """Put `found` where `old` is, unless that is gone by now."""
        for index, known in enumerate(self.ranges):
            if known is old:
                self.ranges[index] = found
                self._index([found])
                return

    def put_newest(self, found: NewestRead[T]) -> None:
        """The open range's successor. After a gap only what was just read is known."""
        self.ranges = found.ranges if found.gap else found.ranges + self.ranges[1:]
        self._index(found.ranges)

    def row(self, position: int) -> T | None:
        """The row there, None if it isn't loaded."""
        found = self._locate(position)
        if found is None:
            return None
        known, offset = found
        return known.rows[offset] if known.rows is not None else None

    def loaded_rows(self) -> Iterator[T]:
        """The rows that are loaded, newest first."""
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

    def ranges_to_read(self, top: int, bottom: int) -> list[Range[T]]:
        """The ranges in view (positions, both ends included) that are evicted or stale, without the open one."""
        found = []
        for known in self._between(top, bottom):
            if known is not self.ranges[0] and (known.rows is None or known.version < self.version):
                found.append(known)
        return found

    def touch(self, top: int, bottom: int) -> None:
        """These positions are in view: mark their ranges as used, and evict the rows of the least recently used ranges."""
        self._clock += 1
        for known in self._between(top, bottom):
            self._last_used[id(known)] = self._clock
        self._evict()

    def _between(self, top: int, bottom: int) -> Iterable[Range[T]]:
        if not self.count:
            return
        newest_index = self.count - 1 - min(bottom, self.count - 1)
        oldest_index = self.count - 1 - max(top, 0)
        at = bisect_left(self._ends, newest_index + 1)
        while at < len(self.ranges) and (at == 0 or self._ends[at - 1] <= oldest_index):
            yield self.ranges[at]
            at += 1

    def _locate(self, position: int) -> tuple[Range[T], int] | None:
        index = self.count - 1 - position
        if not 0 <= index < self.count:
            return None
        at = bisect_left(self._ends, index + 1)
        return self.ranges[at], index - (self._ends[at - 1] if at else 0)

    def _index(self, fresh: Iterable[Range[T]]) -> None:
        self._clock += 1
        for known in fresh:
            known.version = self.version
            if known.rows is not None:
                self._last_used[id(known)] = self._clock
        self._ends = list(accumulate(known.count for known in self.ranges))
        self._evict()

    def _evict(self) -> None:
        if len(self._last_used) <= LOADED_RANGES_MAX:
            return
        present = {id(known): known for known in self.ranges}
        oldest_first = sorted((clock, name) for name, clock in self._last_used.items() if name in present)
        drop = {name for _, name in oldest_first[:-LOADED_RANGES_MAX]} - {id(self.ranges[0])}
        for name in drop:
            present[name].rows = None
        self._last_used = {name: clock for clock, name in oldest_first if name not in drop}
