"""The widget of the Overview: its lines, and a cursor that stops at those that open a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from covenq.tui.widgets.lines import Line, Lines, Link, link_of


class OverviewPage(Lines):
    """Arrow keys step from one line that opens a list to the next, and scroll where there is none. Enter, or a click, opens it.

    Until somebody moves it, the cursor is at the first.
    """

    class Opened(Message):
        """A list is to be shown."""

        def __init__(self, link: Link) -> None:
            super().__init__()
            self.link = link

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Up", show=False),
        Binding("down,j", "step(1)", "Down", show=False),
        Binding("enter", "open", "Open", tooltip="list what the marked line tells of"),
    ]

    _moved = False

    def show(self, lines: Sequence[Line]) -> None:
        """The cursor stays with what its line opens, and else at the line nearest to where it was."""
        before = None if self.cursor is None or not self._moved else link_of(self.lines[self.cursor])
        super().show(lines)
        stops = self._stops()
        same = [at for at in stops if link_of(lines[at]) == before]
        near = self.cursor or 0 if self._moved else 0
        self.cursor = min(same or stops, key=lambda at: abs(at - near), default=None)

    def _stops(self) -> list[int]:
        """The lines that open a list; of several in a row that open the same, the first."""
        links = [link_of(line) for line in self.lines]
        return [at for at, link in enumerate(links) if link is not None and (not at or links[at - 1] != link)]

    def action_step(self, direction: int) -> None:
        at = self.cursor
        beyond = [stop for stop in self._stops() if at is not None and (stop - at) * direction > 0]
        if not beyond:
            self.scroll_relative(y=direction, animate=False)
            return
        self._moved = True
        self.cursor = beyond[0] if direction > 0 else beyond[-1]
        top, height = round(self.scroll_y), self.scrollable_content_region.height
        if not top <= self.cursor < top + height:
            self.scroll_to(y=self.cursor - (height - 1 if direction > 0 else 0), animate=False)
        self.refresh()

    def action_open(self) -> None:
        self._open(self.cursor)

    def on_click(self, event: events.Click) -> None:
        self._open(round(self.scroll_y) + event.y)

    def _open(self, at: int | None) -> None:
        link = link_of(self.lines[at]) if at is not None and at < len(self.lines) else None
        if link is not None:
            self.post_message(self.Opened(link))
