"""The story that `covenq why` tells, of one delivery, kept current while it is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from covenq.client.interface import Object, Source
from covenq.errors import DaemonUnreachable, Failure
from covenq.operate.inspect import story_text
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.is_open import is_open
from covenq.tui.widgets.lines import Line, Lines

LABEL = 20
"""Columns of what stands before a line's words, where it is a short one."""


def told(answer: Object) -> list[Line]:
    """The answer of `Source.why` as lines; what it has nothing about is said so."""
    found: list[Line] = []
    for number, one in enumerate(answer["stories"]):
        if number:
            found.append([("", "")])
        found += _lines(one)
    return found or [[("nothing is known of it here", "dim")]]


def _lines(one: Object) -> list[Line]:
    found: list[Line] = []
    for label, words in story_text.lines(one):
        label, words = text.clean(label), text.clean(words)
        if not words:
            found += [[("", "")], [(label, "bold")]]
        elif len(label) <= LABEL:
            found.append([(f"  {label:<{LABEL}} ", "dim"), (words, "")])
        else:
            found += [[(f"  {label}", "dim")], [(f"      {words}", "")]]
    return found


class StoryScreen(Screen[None]):
    """Esc peels it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, id: str, source: Callable[[], Source | None], lane: BackgroundThread) -> None:
        super().__init__()
        self._asked = id
        self._source = source
        self._lane = lane

    def compose(self) -> ComposeResult:
        yield Static(Content(f"why {text.clean(self._asked)}"), id="detail-title")
        yield Lines([[("… reading", "dim")]])
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.mark_changed()

    def mark_changed(self) -> None:
        """The journal has grown."""
        self._load()

    @work(group="story", exclusive=True)
    async def _load(self) -> None:
        source, id = self._source(), self._asked
        if source is None:
            return
        try:
            found = told(await self._lane.call(lambda: source.why(id)))
        except DaemonUnreachable:
            return  # the app is opening the source again, and says so; what is shown stays
        except Failure as error:
            found = [[(f"✗ {text.clean(error)}", "red")], [(text.clean(error.hint), "")]]
        if is_open(self):
            self.query_one(Lines).show(found)
