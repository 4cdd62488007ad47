"""The last line: the keys of what has the focus."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Footer


class KeyFooter(Footer):
    """Textual's footer, which forgets the keys that it no longer shows.

    It makes a widget of each key, anew whenever the focus moves or a screen comes or goes, and each watches `compact`. Those
    that are gone are dropped from the watchers when `compact` is set, which it never is here: they would pile up as long as
    the dashboard is open, and each new one is compared with all of them.
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)

    def compose(self) -> ComposeResult:
        self.mutate_reactive(Footer.compact)  # what it showed before is removed by now
        yield from super().compose()
