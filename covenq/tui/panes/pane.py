"""One live list: a virtual table, its filter, and its status line.

The pump is the one place that reads: a single worker asks the loader for the read needed most, does it on the pane's thread
and applies it, so answers can't overtake each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from covenq.client.interface import Source
from covenq.errors import DaemonUnreachable, Failure, Unexpected
from covenq.model.rows import Delivery, LatestAttempt, Task
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.panes.filter_input import FilterInput, completion_values
from covenq.tui.panes.filter_line import FilterLine, Found, Look, look_up
from covenq.tui.panes.listings import Listing
from covenq.tui.panes.loader import RowLoader
from covenq.tui.panes.table import RowTable
from covenq.tui.panes.window import Rows
from covenq.tui.rows import R
from covenq.tui.widgets.static_text import set_text

COUNT_PAUSE_MAX_S = 20.0
"""Seconds from one count of what matches to the next, at most, however long it took."""


class ListPane(Vertical, Generic[R]):
    """A live, filtered, virtual list of what a `Listing` names."""

    # With priority it is carried out before the next key is handed on, which else would be the table's: `/`, then words, at once.
    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "filter", "Filter", priority=True)]

    class Unreachable(Message):
        """The source no longer answers."""

        def __init__(self, source: Source) -> None:
            super().__init__()
            self.source = source

    def __init__(self, listing: Listing[R], empty: Callable[[], str], *, id: str) -> None:
        """`empty` gives the words shown where there is nothing to list, without a filter."""
        super().__init__(id=id)
        self.listing = listing
        self.filter = ""
        self.total: int | None = None
        """How many there are without a filter, if known."""
        self.routes: Sequence[str] = ()
        """Those that are configured, which a filter may ask for before a row has them."""
        self.problem: str | None = None
        """Why nothing can be read."""
        self._empty = empty
        self._match_count: int | None = None
        """How many match the filter, once counted."""
        self._count_problem: str | None = None
        """Why they were not counted, where nobody expected that."""
        self._count_thread = BackgroundThread(f"{id}-count")
        self._count_stale = False
        self._next_count = 0.0
        self._source: Source | None = None
        self._read_thread = BackgroundThread(id)
        self._loader = RowLoader(listing.key)
        self._read_wanted = asyncio.Event()

    def compose(self) -> ComposeResult:
        yield FilterLine(self.listing.name, self._look)
        yield RowTable(self.listing.columns, self.rows)
        yield Static(id="empty")
        yield Static(id="line")

    def on_mount(self) -> None:
        self._show_state()
        self._pump()

    @property
    def table(self) -> RowTable[R]:
        return self.query_one(RowTable)

    @property
    def filter_line(self) -> FilterLine:
        return self.query_one(FilterLine)

    @property
    def rows(self) -> Rows[R]:
        return self._loader.rows

    @property
    def settled(self) -> bool:
        """It shows rows, or that there are none, or why it can't."""
        return self.rows.loaded or self.problem is not None

    def attach(self, source: Source) -> None:
        """Read from `source` from now on; the rows listed stay until they are read again.

        The threads and the worker that read from the one before are left to end: without a daemon a read may take minutes.
        """
        if self._source is not None:
            for thread in (self._read_thread, self._count_thread):
                thread.end()
            self._read_thread = BackgroundThread(f"{self.id}")
            self._count_thread = BackgroundThread(f"{self.id}-count")
            self._next_count = 0.0
            self.filter_line.restart_thread()
            self._pump()
        self._source = source
        self.problem = None
        self.mark_changed()

    def mark_changed(self) -> None:
        """The journal has grown: what is shown may be old."""
        self._count_stale = True
        self._loader.mark_changed()
        self._read_wanted.set()

    def resume_reading(self) -> None:
        """The pane is in view again: while it isn't, nothing is read."""
        self._read_wanted.set()

    def refresh_state(self) -> None:
        """Draw again what depends on the time and the status: ages, the total, what an empty list says."""
        self.table.refresh()
        self._count()
        self._show_state()

    # Reading

    @work(exclusive=True, group="pump")
    async def _pump(self) -> None:
        while True:
            await self._read_wanted.wait()
            self._read_wanted.clear()
            while self.display and self._source is not None and await self._read_next(self._source):
                pass
            self._show_state()

    async def _read_next(self, source: Source) -> bool:
        """Read what is needed most and apply it. False: nothing is needed, or nothing can be read."""
        loader, table, words = self._loader, self.table, self.filter
        generation, started = loader.generation, time.monotonic()

        def fetch(limit: int, after: str | None) -> tuple[list[R], str | None]:
            answer = self.listing.read(source, words, limit, after)
            return answer.items, answer.next

        read = loader.next_read(fetch, table, started)
        if read is None:
            self._when_nothing_is_needed(started)
            return False
        try:
            apply = await self._read_thread.call(read.run)
        except DaemonUnreachable:
            loader.stale = True
            self.post_message(self.Unreachable(source))
            return False
        except Failure as error:
            if generation == loader.generation:
                self.problem = f"{error} {error.hint}"
            return False
        if not self.app.is_running:
            return False
        if generation != loader.generation:
            return True
        self.problem = None
        table.update_rows(apply)
        self.rows.touch(table.top, table.bottom)
        loader.was_applied(read, started, time.monotonic())
        self._show_state()
        return True

    def _when_nothing_is_needed(self, now: float) -> None:
        loader = self._loader
        if loader.going_to_oldest and not loader.rows.has_older:
            loader.going_to_oldest = False
            self.table.action_oldest()
        if loader.newest_due:
            self.set_timer(max(0.0, loader.next_newest - now), self._read_wanted.set)

    @work(exclusive=True, group="count")
    async def _count(self) -> None:
        """Count what matches, on a thread of its own, and at most a tenth of the time: it may take a while."""
        source, words, started = self._source, self.filter, time.monotonic()
        counted = self.listing.counted
        wanted = words or self.total is None  # how many there are in all, the status tells of most lists
        if not (wanted and counted and source and self.display and self._count_stale and started >= self._next_count):
            return
        self._count_stale = False
        problem = None
        try:
            found: int | None = await self._count_thread.call(lambda: source.count(counted, words))
        except Unexpected as error:
            found, problem = None, str(error)
        except Failure:
            found = None  # a filter on the payload, for one, can't be counted; if it can't be listed, the list says why
        now = time.monotonic()
        self._next_count = now + min(max(1.0, 10 * (now - started)), COUNT_PAUSE_MAX_S)
        if words == self.filter and self.app.is_running:
            self._match_count, self._count_problem = found, problem
            self._show_state()

    def restart(self) -> None:
        """List from the newest again, with the filter as it is."""
        self._match_count, self._count_stale, self._next_count, self._count_problem = None, True, 0.0, None
        self._loader.restart()
        self.problem = None
        self.table.set_rows(self.rows)
        self._show_state()
        self._read_wanted.set()

    def on_row_table_viewport_changed(self) -> None:
        self.rows.touch(self.table.top, self.table.bottom)
        self._show_state()
        self._read_wanted.set()

    def on_row_table_oldest_requested(self) -> None:
        if self.rows.has_older:
            self._loader.going_to_oldest = True
            self._read_wanted.set()

    def on_row_table_follow_requested(self) -> None:
        self._loader.going_to_oldest = False
        if self._loader.detached:
            self.restart()

    # The filter

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not isinstance(self.screen.focused, FilterInput) if action == "filter" else True

    def action_filter(self) -> None:
        self.filter_line.open(self.filter, completion_values(self.rows.loaded_rows(), self.routes), self.total)

    def _look(self) -> Look | None:
        """What looks up a filter while it is typed."""
        source, counted = self._source, self.listing.counted
        if source is None or counted is None:
            return None

        def look(words: str, finished: str) -> Found:
            return look_up(source, counted, words, finished)

        return look

    def on_filter_line_submitted(self, message: FilterLine.Submitted) -> None:
        self.apply_filter(message.words)

    def on_filter_input_cancelled(self) -> None:
        self.close_filter_input()

    def apply_filter(self, words: str) -> None:
        """List by this filter. It was parsed when it was typed or saved, and the source parses it again."""
        self.close_filter_input()
        if words != self.filter:
            self.filter = words
            self.restart()

    def close_filter_input(self) -> None:
        self.filter_line.close()
        self.table.focus()

    def clear_one(self) -> bool:
        """Stop going to the oldest row, or else unmark all, or else clear the filter. False: there was none of these."""
        if self._loader.going_to_oldest:
            self._loader.going_to_oldest = False
            return True
        if self.table.unmark_all():
            return True
        if self.filter:
            self.filter = ""
            self.restart()
            return True
        return False

    # What is acted on

    def target_rows(self) -> list[R]:
        """The marked rows, else the one under the cursor."""
        marked = list(self.table.marks.values())
        current = self.table.current
        return marked or ([] if current is None else [current])

    def move_cursor(self, direction: int) -> R | None:
        """Move the cursor to the next row below (1) or above (-1); the row, None at the end or where none is loaded."""
        table = self.table
        before = table.cursor
        table.action_move(direction)
        return table.current if table.cursor != before else None

    # The status line

    def status_line(self) -> str:
        """Following the newest or browsing, how many, the filter."""
        table, count = self.table, self.rows.count
        if self.problem is not None:
            return f"✗ {text.clean(self.problem)}"
        if not self.rows.loaded:
            return "… reading"
        mode = self._mode()
        if table.all_marked:
            mode += "  ● ALL MARKED"
        elif table.marks:
            mode += f"  ● {text.number(len(table.marks))} marked"
        matching = max(self._match_count or 0, count)
        listed = text.number(matching) + ("+" if self.rows.has_older and self._match_count is None else "")
        problem = f"  ✗ not counted: {text.clean(self._count_problem)}" if self._count_problem else ""
        if self.filter:
            # What is listed may have come since the status was read.
            of = f" of {text.number(max(self.total, matching))}" if self.total is not None else ""
            return f"{mode}{problem}  {listed}{of} match /{text.clean(self.filter)}  (Esc clears)"
        total = text.number(max(self.total, count)) if self.total is not None else listed
        return f"{mode}{problem}  {total} {self.listing.name}"

    def _mode(self) -> str:
        if self._loader.going_to_oldest:
            return f"… reading older rows, {text.number(self.rows.count)} so far (Esc stops)"
        if self.table.following:
            return "▼ FOLLOWING"
        unseen = self.table.unseen_count
        more = " or more" if self._loader.detached else ""
        return "▲ BROWSING" + (f" (+{text.number(unseen)}{more} new, G)" if unseen or more else "")

    def _show_state(self) -> None:
        if not self.is_mounted or not self.app.is_running:
            return
        nothing = self.rows.loaded and not self.rows.count
        empty = self.query_one("#empty", Static)
        if nothing:
            words = text.clean(self.filter)
            set_text(empty, f"Nothing matches  {words}\n\nEsc clears the filter." if self.filter else self._empty())
        empty.display = nothing
        self.table.set_class(nothing, "-empty")
        set_text(self.query_one("#line", Static), self.status_line(), layout=False)


AnyPane = ListPane[Delivery] | ListPane[Task] | ListPane[LatestAttempt]
