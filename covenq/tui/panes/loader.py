"""Which read a list needs most: values and arithmetic only. The pane does the read and applies it.

One read at a time, so answers can't overtake each other: the first rows, then what changed, then stale or evicted ranges in
view, then older rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from covenq.tui.panes import window
from covenq.tui.panes.table import RowTable
from covenq.tui.panes.window import Fetch, Key, Rows
from covenq.tui.rows import R

OLDEST_READ_ROWS = 1000
"""Rows that one request brings while going to the oldest row."""
OLDEST_READ_S = 0.25
"""Seconds of such requests in one read, after which the pane looks whether a key was pressed."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """`run` blocks, on another thread, and changes nothing. It returns what puts its result into the rows, on the event loop."""

    run: Callable[[], Callable[[], None]]
    newest: bool = False
    """It reads the newest range again."""


class RowLoader(Generic[R]):
    """The rows of a list and what is still to be read of them."""

    def __init__(self, key: Key[R]) -> None:
        self._key = key
        self.rows = Rows(key)
        self.generation = 0
        """Counts restarts: a read that began before one is dropped."""
        self.stale = False
        """The journal has grown since the newest range was read."""
        self.going_to_oldest = False
        self.detached = False
        """So much came while paused that what is listed no longer reaches the newest."""
        self.next_newest = 0.0
        """When the newest range may be read again, by the monotonic clock."""

    def restart(self) -> None:
        """Forget what is listed."""
        self.generation += 1
        self.rows = Rows(self._key)
        self.stale = self.going_to_oldest = self.detached = False

    def mark_changed(self) -> None:
        """The journal has grown: what is listed may be old."""
        self.rows.mark_stale()
        self.stale = True

    @property
    def newest_due(self) -> bool:
        """The newest range is to be read again, now or when `next_newest` comes."""
        return self.stale and not self.detached

    def next_read(self, fetch: Fetch[R], table: RowTable[R], now: float) -> Read | None:
        """The read needed most, None if none is."""
        rows, key = self.rows, self._key
        if not rows.loaded:
            return _read(lambda: window.read_first(fetch, key), rows.put_first)
        if self.newest_due and now >= self.next_newest:
            self.stale = False
            open_range = rows.ranges[0]
            return _read(
                lambda: window.read_newest(fetch, key, open_range),
                lambda found: self._put_newest(found, table.following),
                newest=True,
            )
        if missing := rows.ranges_to_read(table.top, table.bottom):
            old = missing[0]
            return _read(lambda: window.reread(fetch, key, old), lambda found: rows.replace(old, found))
        if rows.has_older and self.going_to_oldest:
            last, until = rows.ranges[-1], now + OLDEST_READ_S
            return _read(
                lambda: window.read_to_oldest(fetch, key, last, OLDEST_READ_ROWS, lambda: time.monotonic() > until),
                rows.put_all_older,
            )
        if rows.has_older and table.top < table.page_rows:
            last = rows.ranges[-1]
            return _read(lambda: window.read_older(fetch, key, last), rows.put_older)
        return None

    def _put_newest(self, found: window.NewestRead[R], following: bool) -> None:
        if found.gap and not following:
            self.detached = True
            return
        self.rows.put_newest(found)

    def was_applied(self, read: Read, started: float, now: float) -> None:
        """Rate limit of reads of the newest range: at most ten a second, and at most a fifth of the time."""
        if read.newest:
            self.next_newest = now + max(0.1, 4 * (now - started))


def _read(run: Callable[[], T], apply: Callable[[T], None], *, newest: bool = False) -> Read:
    """A read by `run`, whose result `apply` puts into the rows."""
    return Read(lambda: partial(apply, run()), newest)
