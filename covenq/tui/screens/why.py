"""The story of one delivery, as `covenq why` prints it, kept current while it is open.

Its first line serves the decision whether anything is to be done, and what; the rest is the evidence.
"""

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
from covenq.client.suggestion import suggested, with_suggestions
from covenq.errors import CovenqError, DaemonUnreachable, Failure
from covenq.operate.inspect import story_text
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines
from journal.errors import JournalError

if TYPE_CHECKING:
    from covenq.operate.inspect.history import StoryVerdict, Why

LABEL_WIDTH = 20
"""Cells of a line's label; the words of a longer label have a line of their own."""


WORDS_MIN = 20
"""Cells of its words at least, however narrow the screen is."""


LEVELS = {
    "ok": "good",
    "active": "active",
    "idle": "",
    "warning": "warning",
    "error": "bad",
}
"""The tone of a verdict, by its level."""


def why_lines(answer: Why, width: int, *, all_rules: bool = False) -> list[Line]:
    """The result of `Source.why` as lines of `width` cells. `all_rules`: not only of those that match or nearly do."""
    found: list[Line] = []
    for number, one in enumerate(answer.stories):
        if number:
            found.append([("", "")])
        found += _verdict_lines(one.verdict, width)
        found += _lines_of(story_text.lines(one, all_rules=all_rules, more="r"), width)
    found += _lines_of(story_text.refused_lines(answer.refused), width)
    return found or [[("nothing is known of it here", "muted")]]


def _verdict_lines(verdict: StoryVerdict | None, width: int) -> list[Line]:
    """Its sentence, and below it the command, so that no width breaks what is to be copied."""
    if verdict is None:  # of an older daemon
        return []
    found = _wrapped("", text.clean(verdict.text), LEVELS[verdict.level], width)
    if verdict.command is not None:
        found.append([("· ", "muted"), (text.clean(suggested(verdict.command)), "bold")])
    return found


def _lines_of(told: Iterator[tuple[str, str]], width: int) -> list[Line]:
    found: list[Line] = []
    for label, words in told:
        label, words = text.clean(label), text.clean(words)
        if not words:
            found += [[("", "")], *_wrapped("", label, "bold", width)]
        elif len(label) <= LABEL_WIDTH:
            words = with_suggestions(words) if label else words  # what has no label may be quoted
            first, *rest = _wrapped(" " * (LABEL_WIDTH + 3), words, "", width)
            found += [[(f"  {label:<{LABEL_WIDTH}} ", "muted"), *first[1:]], *rest]
        else:
            label = suggested(label) if label.startswith("covenq ") else label
            found += [*_wrapped("  ", label, "muted", width), *_wrapped("      ", words, "", width)]
    return found


def _wrapped(indent: str, words: str, style: str, width: int) -> list[Line]:
    return [[(indent, ""), (part, style)] for part in text.wrap(words, max(WORDS_MIN, width - len(indent)))]


class StoryScreen(Screen[None]):
    """The story, read again when the journal has grown. Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("r", "rules", "All rules", tooltip="of today's rules not only those that match or nearly do, and back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, id: str, source: Callable[[], Source | None], thread: BackgroundThread) -> None:
        super().__init__()
        self._delivery = id
        self._source = source
        self._thread = thread
        self._all_rules = False
        self._answer: Why | CovenqError | JournalError | None = None

    def compose(self) -> ComposeResult:
        yield Static(Content(f"why {text.clean(self._delivery)}"), id="detail-title")
        yield Lines([[("… reading", "muted")]])
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
            self._answer = await self._thread.call(lambda: source.why(id))
        except DaemonUnreachable:
            return  # the app opens the source again and shows that; this screen stays as it is
        except Failure as error:
            self._answer = error
        self._show()

    def action_rules(self) -> None:
        """All of the rules, or the nearest alone again."""
        self._all_rules = not self._all_rules
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        """The story as wide as the screen is, but for the scrollbar."""
        answer, width = self._answer, self.size.width - 1
        if answer is None or not is_on_stack(self):
            return
        if isinstance(answer, Failure):
            error = text.clean(answer)
            found = [*_wrapped("", f"✗ {error}", "bad", width), *_wrapped("", text.clean(answer.hint), "", width)]
        else:
            found = why_lines(answer, width, all_rules=self._all_rules)
        self.query_one(Lines).show(found)
