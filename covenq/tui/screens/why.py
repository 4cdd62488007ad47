"""The story of one delivery, as `covenq why` prints it, kept current while it is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from covenq.client.interface import Source
from covenq.errors import DaemonUnreachable, Failure
from covenq.operate.inspect import story_text
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines

if TYPE_CHECKING:
    from covenq.operate.inspect.history import Why

LABEL_WIDTH = 20
"""Cells of a line's label; the words of a longer label have a line of their own."""


def why_lines(answer: Why) -> list[Line]:
    """The result of `Source.why` as lines."""
    found: list[Line] = []
    for number, one in enumerate(answer.stories):
        if number:
            found.append([("", "")])
        found += _lines_of(story_text.lines(one))
    found += _lines_of(story_text.refused_lines(answer.refused))
    return found or [[("nothing is known of it here", "dim")]]


def _lines_of(told: Iterator[tuple[str, str]]) -> list[Line]:
    found: list[Line] = []
    for label, words in told:
        label, words = text.clean(label), text.clean(words)
        if not words:
            found += [[("", "")], [(label, "bold")]]
        elif len(label) <= LABEL_WIDTH:
            found.append([(f"  {label:<{LABEL_WIDTH}} ", "dim"), (words, "")])
        else:
            found += [[(f"  {label}", "dim")], [(f"      {words}", "")]]
    return found


class StoryScreen(Screen[None]):
    """The story, read again when the journal has grown. Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, id: str, source: Callable[[], Source | None], thread: BackgroundThread) -> None:
        super().__init__()
        self._delivery = id
        self._source = source
        self._thread = thread

    def compose(self) -> ComposeResult:
        yield Static(Content(f"why {text.clean(self._delivery)}"), id="detail-title")
        yield Lines([[("… reading", "dim")]])
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.mark_changed()

    def mark_changed(self) -> None:
        """The journal has grown: read the story again."""
        self._load()

    @work(group="story", exclusive=True)
    async def _load(self) -> None:
        source, id = self._source(), self._delivery
        if source is None:
            return
        try:
            found = why_lines(await self._thread.call(lambda: source.why(id)))
        except DaemonUnreachable:
            return  # the app opens the source again and shows that; this screen stays as it is
        except Failure as error:
            found = [[(f"✗ {text.clean(error)}", "red")], [(text.clean(error.hint), "")]]
        if is_on_stack(self):
            self.query_one(Lines).show(found)
