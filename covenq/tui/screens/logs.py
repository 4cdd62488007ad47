"""What an attempt wrote, stdout or stderr, followed while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from covenq.client.interface import LOG_BYTES, Object, Source, Stream
from covenq.errors import Failure, NotFound
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.is_open import is_open
from covenq.tui.widgets.lines import Line, Lines

AGAIN_S = 0.5
"""Between two reads of what is still being written."""


class LogScreen(Screen[None]):
    """Tab changes between stdout and stderr. It stays at the end while it is there. Esc peels it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("tab", "other", "stdout/stderr"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, attempt: Object, source: Callable[[], Source | None], lane: BackgroundThread) -> None:
        super().__init__()
        self._attempt = attempt
        self._source = source
        self._lane = lane
        # A failure says why on stderr.
        self.stream: Stream = "stdout" if attempt.get("outcome") in (None, "completed") else "stderr"
        self._content: bytes | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="detail-title")
        yield Lines([[("… reading", "dim")]])
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.set_interval(AGAIN_S, self._load)
        self._load()

    def action_other(self) -> None:
        self.stream = "stderr" if self.stream == "stdout" else "stdout"
        self._content = None
        self._load()

    @work(group="log", exclusive=True)
    async def _load(self) -> None:
        source, one, stream = self._source(), self._attempt, self.stream
        if source is None:
            return
        try:
            content = await self._lane.call(lambda: source.log(str(one["task"]), int(one["attempt"]), stream))
            found = shown(content)
        except NotFound as error:
            content, found = b"", [[(text.clean(error), "dim")]]
        except Failure:
            return  # the app says why there is no source; what is shown stays
        if is_open(self) and stream == self.stream and content != self._content:
            self._show(content, found)

    def _show(self, content: bytes, found: list[Line]) -> None:
        lines = self.query_one(Lines)
        at_end = self._content is None or round(lines.scroll_y) >= lines.max_scroll_y
        self._content = content
        title = f"{self.stream} of attempt {self._attempt['attempt']} of {self._attempt['task']}"
        self.query_one("#detail-title", Static).update(Content(text.clean(title)))
        lines.show(found)
        if at_end:
            self.call_after_refresh(lines.scroll_end, animate=False)


def shown(content: bytes) -> list[Line]:
    """Output as lines, controls made visible; if it may have been cut at its beginning, that is said."""
    if not content:
        return [[("nothing was written", "dim")]]
    lines: list[Line] = [[(line, "")] for line in text.clean_block(content.decode("utf-8", "replace").rstrip("\n"))]
    if len(content) >= LOG_BYTES:
        lines.insert(0, [(f"… the last {text.size(LOG_BYTES)}; all of it is in the attempt's directory", "yellow")])
    return lines
