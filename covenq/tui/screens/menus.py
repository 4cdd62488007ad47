"""A modal menu, dismissed by one choice: what to pause or resume, what to copy, which saved filter to use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from covenq.tui import text
from covenq.tui.screens.dialog import Dialog


class Menu(Dialog[int | None]):
    """A title, lines to choose from, and a remark. Dismissed with the index of the line chosen, or None.

    `keys` has one letter a line, which chooses it at once.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, title: str, lines: Sequence[str], remark: str = "", keys: str = "") -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._remark = remark
        self._keys = keys

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content(text.clean(self._title)), id="dialog-title")
            letters = [f"{self._keys[n]}  " if n < len(self._keys) else "" for n in range(len(self._lines))]
            yield OptionList(
                *(
                    Option(Content(letter + text.clean(line)))
                    for letter, line in zip(letters, self._lines, strict=True)
                ),
                id="menu",
            )
            if self._remark:
                yield Static(Content(self._remark), id="menu-remark")

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_index)

    def on_key(self, event: events.Key) -> None:
        if event.character and event.character in self._keys:
            event.stop()
            event.prevent_default()  # the letter may be a key of the screen below too
            self.dismiss(self._keys.index(event.character))

    def action_down(self) -> None:
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        self.query_one(OptionList).action_cursor_up()
