"""One live list: a virtual table, its filter, and the line that says what is shown and whether it follows.

The pump is the one place that reads: a single worker that asks what is needed most (the first rows, what changed, what
is in view, what is above it), reads that on the pane's lane, and applies it, so answers can't overtake each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key as KeyEvent
from textual.message import Message
from textual.widgets import Input, Static

from covenq.client.interface import Counted, Source
from covenq.errors import DaemonUnreachable, Failure, FilterError
from covenq.filter import grammar
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.complete import Completion
from covenq.tui.panes import window as ranges
from covenq.tui.panes.columns import Column
from covenq.tui.panes.table import RowTable
from covenq.tui.panes.window import Row, Rows

STRIDE = 1000
"""Rows a read brings while going to the oldest row."""
COMPLETED = ("repo", "event", "action", "route", "sender", "owner", "label", "worker", "reason", "secret", "number")
COMPLETED_MAX = 200
"""Fields, and how many values of each, that are suggested from the rows listed."""

STRIDE_S = 0.25
"""Seconds of such reads between two looks at the keyboard."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a pane lists."""

    name: str
    columns: Sequence[Column]
    read: Callable[[Source, str, int, str | None], dict[str, Any]]
    key: Callable[[Row], int]
    counted: Counted | None = None
    """What a filter's matches are counted of."""


class FilterInput(Input):
    """The filter's line. Tab takes what is suggested, Enter applies what was typed, Esc leaves things as they were."""

    class Left(Message):
        """Esc."""

    async def on_key(self, event: KeyEvent) -> None:
        if event.key == "tab":
            event.stop()
            event.prevent_default()
            self.action_end()
            self.action_cursor_right()  # takes the suggestion, if there is one
        elif event.key == "escape":
            event.stop()
            event.prevent_default()
            self.post_message(self.Left())


class ListPane(Vertical):
    """A live, filtered, virtual list of what a `Listing` names."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "filter", "Filter")]

    class Unreachable(Message):
        """The source no longer answers."""

        def __init__(self, source: Source) -> None:
            super().__init__()
            self.source = source

    def __init__(self, listing: Listing, empty: Callable[[], str], *, id: str) -> None:
        super().__init__(id=id)
        self.listing = listing
        self.filter = ""
        self.total: int | None = None
        """How many there are without a filter, if known."""
        self.problem: str | None = None
        self._empty = empty
        self._completion = Completion()
        self._matching: int | None = None
        """How many match the filter, once counted."""
        self._counting = BackgroundThread(f"{id}-count")
        self._uncounted = False
        self._next_count = 0.0
        self._source: Source | None = None
        self._lane = BackgroundThread(id)
        self._rows = Rows(listing.key)
        self._generation = 0
        self._wake = asyncio.Event()
        self._stale = False
        self._next_newest = 0.0
        self._to_oldest = False
        self._detached = False
        """So much came while paused that what is listed no longer reaches the newest."""

    def compose(self) -> ComposeResult:
        placeholder = "event:issues state:failed age<1h"
        yield FilterInput(id="filter", placeholder=placeholder, compact=True, suggester=self._completion)
        yield Static(id="filter-error")
        yield RowTable(self.listing.columns, self._rows)
        yield Static(id="empty")
        yield Static(id="line")

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.query_one("#filter-error").display = False
        self._show_state()
        self._pump()

    @property
    def table(self) -> RowTable:
        return self.query_one(RowTable)

    @property
    def settled(self) -> bool:
        """It shows rows, or that there are none, or why it can't."""
        return self._rows.loaded or self.problem is not None

    # What the app tells it

    def attach(self, source: Source) -> None:
        """Read from `source` from now on; what is listed is kept and read again."""
        self._source = source
        self.problem = None
        self.mark_changed()

    def mark_changed(self) -> None:
        """The journal has grown: what is shown may be old."""
        self._uncounted = True
        self._rows.changed()
        self._stale = True
        self._wake.set()

    def wake(self) -> None:
        """It is in view again."""
        self._wake.set()

    def refresh_state(self) -> None:
        """Draw again what depends on the time and the status: ages, the total, what an empty list says."""
        self.table.refresh()
        self._count()
        self._show_state()

    # The pump

    @work(exclusive=True, group="pump")
    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.display and self._source is not None and await self._step(self._source):
                pass
            self._show_state()

    async def _step(self, source: Source) -> bool:
        """Read what is needed most and apply it. False: nothing is needed, or nothing can be read."""
        generation, rows, words = self._generation, self._rows, self.filter
        key = self.listing.key

        def fetch(limit: int, after: str | None) -> tuple[list[Row], str | None]:
            answer = self.listing.read(source, words, limit, after)
            return answer["items"], answer["next"]

        table = self.table
        job: Callable[[], Any]
        put: Callable[[Any], None]
        started = time.monotonic()
        if not rows.loaded:
            job, put = (lambda: ranges.first(fetch, key)), rows.put_first
        elif self._stale and not self._detached and started >= self._next_newest:
            self._stale = False
            open_range = rows.ranges[0]
            job, put = (lambda: ranges.newest(fetch, key, open_range)), self._put_newest
        elif wanted := rows.wanted(table.top, table.bottom):
            old = wanted[0]
            job, put = (lambda: ranges.again(fetch, key, old)), lambda found: rows.put_again(old, found)
        elif rows.more and self._to_oldest:
            last, until = rows.ranges[-1], started + STRIDE_S
            enough = lambda: time.monotonic() > until  # noqa: E731
            job, put = (lambda: ranges.oldest(fetch, key, last, STRIDE, enough)), rows.put_oldest
        elif rows.more and table.top < table.page_rows:
            last = rows.ranges[-1]
            job, put = (lambda: ranges.older(fetch, key, last)), rows.put_older
        else:
            if self._to_oldest and not rows.more:
                self._to_oldest = False
                table.action_oldest()
            if self._stale and not self._detached:
                self.set_timer(max(0.0, self._next_newest - started), self._wake.set)
            return False
        try:
            found: Any = await self._lane.call(job)
        except DaemonUnreachable:
            self._stale = True
            self.post_message(self.Unreachable(source))
            return False
        except Failure as error:
            if generation == self._generation:
                self.problem = f"{error} {error.hint}"
            return False
        if not self.app.is_running:
            return False
        if generation != self._generation:
            return True
        self.problem = None
        table.changed(lambda: put(found))
        rows.seen(table.top, table.bottom)
        if isinstance(found, ranges.Newest):
            # At most ten times a second, and at most a fifth of the time is spent reading what is new.
            took = time.monotonic() - started
            self._next_newest = time.monotonic() + max(0.1, 4 * took)
        self._show_state()
        return True

    @work(exclusive=True, group="count")
    async def _count(self) -> None:
        """Count what matches, on a lane of its own, and at most a tenth of the time: it may take a while."""
        source, words, started = self._source, self.filter, time.monotonic()
        counted = self.listing.counted
        if not (words and counted and source and self.display and self._uncounted and started >= self._next_count):
            return
        self._uncounted = False
        try:
            found: int | None = await self._counting.call(lambda: source.count(counted, words))
        except Failure:
            found = None  # of the payload, say, which can't be counted; what can't be listed says so itself
        now = time.monotonic()
        self._next_count = now + max(1.0, 10 * (now - started))
        if words == self.filter and self.app.is_running:
            self._matching = found
            self._show_state()

    def _put_newest(self, found: ranges.Newest) -> None:
        if found.gap and not self.table.following:
            self._detached = True
            return
        self._rows.put_newest(found)

    def restart(self) -> None:
        """List from the newest again, with the filter as it is."""
        self._generation += 1
        self._matching, self._uncounted, self._next_count = None, True, 0.0
        self._rows = Rows(self.listing.key)
        self._stale = self._to_oldest = self._detached = False
        self.problem = None
        self.table.show(self._rows)
        self._show_state()
        self._wake.set()

    def on_row_table_moved(self) -> None:
        self._rows.seen(self.table.top, self.table.bottom)
        self._show_state()
        self._wake.set()

    def on_row_table_oldest_wanted(self) -> None:
        if self._rows.more:
            self._to_oldest = True
            self._wake.set()

    def on_row_table_follow_wanted(self) -> None:
        self._to_oldest = False
        if self._detached:
            self.restart()

    # The filter

    def action_filter(self) -> None:
        self._completion.values = self._values()
        line = self.query_one("#filter", FilterInput)
        line.value = self.filter
        line.display = True
        line.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        words = event.value.strip()
        try:
            grammar.parse(words)
        except FilterError as error:
            self._filter_error(error)
            return
        self.use(words)

    def on_input_changed(self) -> None:
        self.query_one("#filter-error").display = False

    def on_filter_input_left(self) -> None:
        self._leave_filter()

    def _filter_error(self, error: FilterError) -> None:
        pointer = " " * max(0, error.column - 1) + "^"
        said = self.query_one("#filter-error", Static)
        said.update(Content(f"{pointer}\n{text.clean(error)}\n{text.clean(error.hint)}"))
        said.display = True

    def _values(self) -> dict[str, list[str]]:
        """What is listed at the moment, as values that a filter could name."""
        found: dict[str, set[str]] = {field: set() for field in COMPLETED}
        for row in self._rows.kept():
            for field, seen in found.items():
                if row.get(field) is not None and len(seen) < COMPLETED_MAX:
                    seen.add(str(row[field]))
        return {field: sorted(seen) for field, seen in found.items()}

    def use(self, words: str) -> None:
        """List by this filter. It was checked when it was saved, and is again by who reads."""
        self._leave_filter()
        if words != self.filter:
            self.filter = words
            self.restart()

    def _leave_filter(self) -> None:
        self.query_one("#filter").display = False
        self.query_one("#filter-error").display = False
        self.table.focus()

    def peel(self) -> bool:
        """Take off the top layer: going to the oldest, then the marks, then the filter. False: there was none."""
        if self._to_oldest:
            self._to_oldest = False
            return True
        if self.table.unmark():
            return True
        if self.filter:
            self.filter = ""
            self.restart()
            return True
        return False

    # What is acted on

    def target_rows(self) -> list[Row]:
        """The marked rows, else the one under the cursor."""
        marked = list(self.table.marks.values())
        current = self.table.current
        return marked or ([] if current is None else [current])

    def step(self, direction: int) -> Row | None:
        """Move the cursor to the next row below (1) or above (-1); the row, None at the end or where none is loaded."""
        table = self.table
        before = table.cursor
        table.action_move(direction)
        return table.current if table.cursor != before else None

    # What it says

    def line(self) -> str:
        """The status line: following or paused, how many, the filter."""
        table, count = self.table, self._rows.count
        if self.problem is not None:
            return f"✗ {text.clean(self.problem)}"
        if not self._rows.loaded:
            return "… reading"
        if self._to_oldest:
            place = f"… reading older rows, {text.number(count)} so far (Esc stops)"
        elif table.following:
            place = "▼ FOLLOWING"
        else:
            unseen = table.unseen
            more = " or more" if self._detached else ""
            place = "‖ PAUSED" + (f" (+{text.number(unseen)}{more} new, G)" if unseen or more else "")
        if table.all_marked:
            place += "  ● ALL MARKED"
        elif table.marks:
            place += f"  ● {text.number(len(table.marks))} marked"
        listed = text.number(count) + ("+" if self._rows.more else "")
        if self.filter:
            if self._matching is not None:
                listed = text.number(max(self._matching, count))
            of = f" of {text.number(self.total)}" if self.total is not None else ""
            return f"{place}  {listed}{of} match /{text.clean(self.filter)}  (Esc clears)"
        total = text.number(max(self.total or 0, count)) if self.total is not None else listed
        return f"{place}  {total} {self.listing.name}"

    def _show_state(self) -> None:
        if not self.is_mounted or not self.app.is_running:
            return
        nothing = self._rows.loaded and not self._rows.count
        empty = self.query_one("#empty", Static)
        if nothing:
            clause = text.clean(self.filter)
            say(empty, f"Nothing matches  {clause}\n\nEsc clears the filter." if self.filter else self._empty())
        empty.display = nothing
        self.table.set_class(nothing, "-empty")
        say(self.query_one("#line", Static), self.line(), layout=False)


def say(where: Static, words: str, *, layout: bool = True) -> None:
    """Show plain words, if they aren't shown already: an update lays the whole screen out again."""
    content = Content(words)
    if where.content != content:
        where.update(content, layout=layout)
