"""A dialog over what it is about: the screen below shows through, and the row that is acted on stays in view."""

from __future__ import annotations

from typing import Generic, Protocol, cast

from textual import events
from textual.screen import ModalScreen, ScreenResultType

LEAVING = "Esc closes"
"""What is said at the dialog's edge: the last line has the keys of the screen below."""


class HasCursorLine(Protocol):
    """A list."""

    @property
    def cursor_line(self) -> int | None:
        """The line of the screen that the cursor is on, None while it is out of view."""


class Dialog(ModalScreen[ScreenResultType], Generic[ScreenResultType]):
    """Stands right above or below the row under the cursor, where there is more room; in the middle where no list is in view."""

    def on_mount(self) -> None:
        for dialog in self.query("#dialog"):
            dialog.border_subtitle = LEAVING
        self._arrange()

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    @property
    def room(self) -> int:
        """How many lines it may take."""
        row, height = self._row_below(), self.app.size.height
        return height if row is None else max(row, height - 1 - row)

    def _arrange(self) -> None:
        row, room, height = self._row_below(), self.room, self.app.size.height
        self.styles.align_vertical = "middle" if row is None else "bottom" if row == room else "top"
        for dialog in self.query("#dialog"):
            dialog.styles.max_height = room
            if row is not None:  # a padding of the screen would hide what is below it
                dialog.styles.margin = (0, 0, height - row, 0) if row == room else (row + 1, 0, 0, 0)

    def _row_below(self) -> int | None:
        """The line of the row under the cursor, of a list in the screen that this was opened over."""
        stack = self.app.screen_stack
        below = stack[stack.index(self) - 1] if self in stack[1:] else None
        tables = below.query("RowTable") if below is not None else ()
        shown = next((one for one in tables if one.region), None)
        return None if shown is None else cast(HasCursorLine, shown).cursor_line
