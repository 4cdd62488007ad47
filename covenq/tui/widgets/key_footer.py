"""The last line: the keys of what has the focus, as many as there is room for; `?` has the rest."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

ALWAYS = ("help", "quit")
"""Actions whose keys stand at the end, however narrow the screen is."""


def fitting(keys: Sequence[FooterKey], width: int) -> list[FooterKey]:
    """The keys that are whole within so many cells: the first ones, and those of ALWAYS at the end."""
    last = sorted((key for key in keys if _name(key) in ALWAYS), key=lambda key: ALWAYS.index(_name(key)))
    room = width + 1 - sum(map(_cells, last))  # the last has none beside it
    first: list[FooterKey] = []
    for key in keys:
        if _name(key) in ALWAYS:
            continue
        room -= _cells(key)
        if room < 0:
            break
        first.append(key)
    return first + last


def _name(key: FooterKey) -> str:
    return key.action.removeprefix("app.")


def _cells(key: FooterKey) -> int:
    """With the space to the next."""
    return cell_len(f"{key.key_display} {key.description} ")


class KeyFooter(Footer):
    """Textual's footer, which cuts no key, and forgets the keys that it no longer shows.

    It makes a widget of each key, anew whenever the focus moves or a screen comes or goes, and each watches `compact`. Those
    that are gone are dropped from the watchers when `compact` is set, which it never is here: they would pile up as long as
    the dashboard is open, and each new one is compared with all of them.
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)
        self._fitted_to = 0
        """How wide it was when the keys were chosen."""

    def compose(self) -> ComposeResult:
        self.mutate_reactive(Footer.compact)  # what it showed before is removed by now
        self._fitted_to = self.app.size.width
        made: list[Widget] = list(super().compose())
        yield from fitting([key for key in made if isinstance(key, FooterKey)], self._fitted_to)

    def on_resize(self) -> None:
        if self.app.size.width != self._fitted_to:
            self.call_after_refresh(self.recompose)
