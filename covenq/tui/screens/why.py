"""The story of one delivery, as `covenq why` prints it, kept current while it is open.

Its first line serves the decision whether anything is to be done, and what; the rest is the evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from covenq.client.interface import Source
from covenq.errors import CovenqError, DaemonUnreachable, Failure
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Lines
from covenq.tui.widgets.story_lines import failure_lines, why_lines
from journal.errors import JournalError

if TYPE_CHECKING:
    from covenq.operate.inspect.history import Why


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
            found = failure_lines(answer, width)
        else:
            found = why_lines(answer, width, all_rules=self._all_rules)
        self.query_one(Lines).show(found)
