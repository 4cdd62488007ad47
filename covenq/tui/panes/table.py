"""A virtual table by Textual's Line API: only the rows in view exist, newest at the bottom, like a log.

(Textual's DataTable keeps an object a row and walks all of them after a change: 44 s for 100,000 rows. This draws what
is in view, as fast for a million as for a screenful.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from covenq.model.palette import DARK
from covenq.tui import text
from covenq.tui.panes.columns import GAP, Column, layout
from covenq.tui.panes.window import Rows
from covenq.tui.rows import R, Row
from covenq.tui.theme import palette_in_use, run_style, selected_style

GUTTER = 3
"""Cells before the first column: the cursor, a mark, and a space, as the first column begins with a glyph too."""
_HEADER = Style(bold=True, underline=True)


class RowTable(ScrollView, Generic[R], can_focus=True, inherit_bindings=False):
    """Draws `rows` by `columns`. While it follows, it stays at the newest row; any move up pauses, `G` follows again."""

    DEFAULT_CSS = """
    RowTable { height: 1fr; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("g,home", "oldest", "Oldest", show=False),
        Binding("G,end", "follow", "Newest, follow", show=False),
        Binding("enter", "open", "Open"),
        Binding("space", "mark", "Mark"),
        Binding("A", "mark_all", "Mark all", show=False),
    ]

    class RowOpened(Message):
        """Enter, or a click on the row that was already current."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    class ViewportChanged(Message):
        """The viewport, the cursor, the marks or following changed: rows may be needed, and the status line may be old."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, RowTable.ViewportChanged)

    class OldestRequested(Message):
        """`g`: go to the oldest row of all, which may not be listed yet."""

    class FollowRequested(Message):
        """`G`: follow the newest."""

    def __init__(
        self,
        columns: Sequence[Column[R]],
        rows: Rows[R],
        *,
        clock: Callable[[], float] = time.time,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.rows = rows
        self.cursor = 0
        self.following = True
        self.paused_key = 0
        """The newest key when following stopped; rows with a greater key are counted as new."""
        self.marks: dict[int, R] = {}
        """The rows marked, by key, as they were when they were marked."""
        self.all_marked = False
        """Everything that matches is marked, listed here or not."""
        self._clock = clock
        self._base: Style | None = None
        self._palette = DARK
        self._width = 0
        self._scrolling = False
        self._laid_out: tuple[int, list[tuple[Column[R], int]]] = (0, [])

    # What is shown

    @property
    def page_rows(self) -> int:
        return max(1, self.size.height - 1)

    @property
    def top(self) -> int:
        return round(self.scroll_y)

    @property
    def bottom(self) -> int:
        return min(self.rows.count, self.top + self.page_rows) - 1

    @property
    def cursor_line(self) -> int | None:
        """The line of the screen that the cursor is on, None while it is scrolled out of view."""
        if not self.top <= self.cursor <= self.bottom:
            return None
        return self.region.y + 1 + self.cursor - self.top

    @property
    def current(self) -> R | None:
        """The row under the cursor, if there is one and it is loaded."""
        return self.rows.row(self.cursor)

    @property
    def unseen_count(self) -> int:
        """How many rows came since following stopped."""
        return 0 if self.following else self.rows.newer_than(self.paused_key)

    def set_rows(self, rows: Rows[R]) -> None:
        """Show another list, from its newest row, following."""
        self.rows = rows
        self.following = True
        self.unmark_all()
        self.update_rows()

    def unmark_all(self) -> bool:
        """Remove all marks. False: there were none."""
        had = bool(self.marks) or self.all_marked
        self.marks, self.all_marked = {}, False
        if had:
            self.refresh()
            self.post_message(self.ViewportChanged())
        return had

    def update_rows(self, change: Callable[[], None] | None = None) -> None:
        """Apply `change` to the rows and stay at the same ones: found again by key, as positions move when older rows come."""
        cursor_key, top_key = self._key(self.cursor), self._key(self.top)
        if change is not None:
            change()
        self._scrolling = True
        try:
            self.virtual_size = Size(1, self.rows.count + 1)
            if self.following:
                self.cursor = max(0, self.rows.count - 1)
                self._scroll_y(self.rows.count)
            else:
                if top_key is not None:
                    self._scroll_y(self.rows.position(top_key))
                if cursor_key is not None:
                    self.cursor = self.rows.position(cursor_key)
                self.cursor = max(0, min(self.cursor, self.rows.count - 1))
        finally:
            self._scrolling = False
        self.refresh()
        self.post_message(self.ViewportChanged())

    def _key(self, position: int) -> int | None:
        row = self.rows.row(position)
        return None if row is None else self.rows.key(row)

    def _scroll_y(self, y: int) -> None:
        self.scroll_to(y=max(0, min(y, self.rows.count - self.page_rows)), animate=False, force=True)

    # Drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        self._base = self.rich_style  # which looks at every ancestor: once for all lines
        self._palette = palette_in_use(self.app.theme)
        self._width = self.scrollable_content_region.width
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width = self._width or self.scrollable_content_region.width
        if self._laid_out[0] != width:
            self._laid_out = (width, layout(self.columns, max(1, width - GUTTER)))
        base = self._base or self.rich_style
        columns = self._laid_out[1]
        if y == 0:
            titles = (text.fit(c.title, w, c.right) for c, w in columns)
            return self._strip([(" " * GUTTER + (" " * GAP).join(titles), "")], width, base + _HEADER)
        position = self.top + y - 1
        if position >= self.rows.count:
            return Strip.blank(width, base)
        current = position == self.cursor
        row = self.rows.row(position)
        if row is None:
            return self._strip([(" " * GUTTER + "…", "muted")], width, base, current=current)
        now = self._clock()
        marked = self.all_marked or self.rows.key(row) in self.marks
        # Neighbours of one style are one run: what a paint costs is their number.
        runs: list[tuple[str, str]] = []
        words, tone = ("▸" if current else " ") + ("● " if marked else "  "), ""
        for column, cells_wide in columns:
            value, style = column.draw(row, now)
            if style != tone:
                runs.append((words, tone))
                words, tone = "", style
            words += text.fit(value, cells_wide, column.right) + " " * GAP
        runs.append((words, tone))
        return self._strip(runs, width, base, current=current)

    def _strip(self, runs: Sequence[tuple[str, str]], width: int, base: Style, *, current: bool = False) -> Strip:
        """Runs of (text, tone) as one line of exactly `width` cells."""
        palette = self._palette
        if current:
            line = selected_style(palette, "", base)
            segments = [Segment(words, selected_style(palette, tone, base)) for words, tone in runs]
        else:
            line = base
            segments = [Segment(words, base + run_style(palette, tone) if tone else base) for words, tone in runs]
        return Strip(segments).adjust_cell_length(width, line)

    # Moving

    def pause(self) -> None:
        """Stop following; rows that come from now on are counted as new."""
        if self.following:
            self.following = False
            self.paused_key = self.rows.newest_key()

    def action_move(self, step: int) -> None:
        self._move_to(self.cursor + step)

    def action_page(self, direction: int) -> None:
        self._move_to(self.cursor + direction * max(1, self.page_rows - 1))

    def action_oldest(self) -> None:
        self.pause()
        self._move_to(0)
        self.post_message(self.OldestRequested())

    def action_follow(self) -> None:
        self.following = True
        self.update_rows()
        self.post_message(self.FollowRequested())

    def action_open(self) -> None:
        row = self.current
        if row is not None:
            self.post_message(self.RowOpened(row))

    def action_mark(self) -> None:
        """Mark the row, or remove its mark, and go on to the next."""
        row = self.current
        if row is None:
            return
        self.pause()
        self.all_marked = False
        key = self.rows.key(row)
        if self.marks.pop(key, None) is None:
            self.marks[key] = row
        self._move_to(self.cursor + 1)

    def action_mark_all(self) -> None:
        self.marks, self.all_marked = {}, not self.all_marked
        self.refresh()
        self.post_message(self.ViewportChanged())

    def _move_to(self, position: int) -> None:
        if not self.rows.count:
            return
        target = max(0, min(position, self.rows.count - 1))
        if target < self.cursor:
            self.pause()
        self.cursor = target
        self._scrolling = True
        try:
            if target < self.top:
                self._scroll_y(target)
            elif target > self.bottom:
                self._scroll_y(target - self.page_rows + 1)
        finally:
            self._scrolling = False
        self.refresh()
        self.post_message(self.ViewportChanged())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value) and not self._scrolling:
            if new_value < old_value and round(new_value) < self.max_scroll_y:
                # The wheel or the scrollbar. (A table that grew taller is moved up too, but stays at its end.)
                self.pause()
            self.post_message(self.ViewportChanged())

    def on_resize(self, event: events.Resize) -> None:
        self.update_rows()

    def on_click(self, event: events.Click) -> None:
        position = self.top + event.y - 1
        if event.y < 1 or position >= self.rows.count:
            return
        if position == self.cursor:
            self.action_open()
        else:
            self.pause()
            self._move_to(position)
