"""The output of an attempt, stdout or stderr, followed while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from covenq.client.interface import LOG_BYTES, Source, Stream
from covenq.errors import DaemonUnreachable, Failure, NotFound
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines

if TYPE_CHECKING:
    from covenq.model.rows import Attempt

POLL_S = 0.5
"""Seconds between two reads of the output."""


class LogScreen(Screen[None]):
    """Tab switches between stdout and stderr. While it is scrolled to the end it stays there. Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("tab", "switch_stream", "stdout/stderr"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, attempt: Attempt, source: Callable[[], Source | None], thread: BackgroundThread) -> None:
        super().__init__()
        self._attempt = attempt
        self._source = source
        self._thread = thread
        # A failure says why on stderr; a receiver's answer is on stdout.
        stdout = attempt.outcome in (None, "completed") or attempt.category == "http"
        self.stream: Stream = "stdout" if stdout else "stderr"
        self._content: bytes | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="detail-title")
        yield Lines([[("… reading", "dim")]])
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.set_interval(POLL_S, self._load)
        self._load()

    def action_switch_stream(self) -> None:
        self.stream = "stderr" if self.stream == "stdout" else "stdout"
        self._content = None
        self._load()

    @work(group="log", exclusive=True)
    async def _load(self) -> None:
        source, one, stream = self._source(), self._attempt, self.stream
        if source is None:
            return
        try:
            content = await self._thread.call(lambda: source.log(one.task, one.attempt, stream))
            found = output_lines(content)
        except NotFound as error:
            content, found = b"", [[(text.clean(error), "dim")]]
        except DaemonUnreachable:
            return  # the app shows why there is no source; this screen stays as it is
        except Failure as error:
            content, found = b"", [[(f"✗ {text.clean(error)}", "red")], [(text.clean(error.hint), "")]]
        if is_on_stack(self) and stream == self.stream and content != self._content:
            self._show(content, found)

    def _show(self, content: bytes, found: list[Line]) -> None:
        lines = self.query_one(Lines)
        at_end = self._content is None or round(lines.scroll_y) >= lines.max_scroll_y
        self._content = content
        title = f"{self.stream} of attempt {self._attempt.attempt} of {self._attempt.task}"
        self.query_one("#detail-title", Static).update(Content(text.clean(title)))
        lines.show(found)
        if at_end:
            self.call_after_refresh(lines.scroll_end, animate=False)


def output_lines(content: bytes) -> list[Line]:
    """Output as lines, with control characters made visible; the first line says if the beginning may be cut off."""
    if not content:
        return [[("nothing was written", "dim")]]
    lines: list[Line] = [[(line, "")] for line in text.clean_block(content.decode("utf-8", "replace").rstrip("\n"))]
    if len(content) >= LOG_BYTES:
        lines.insert(0, [(f"… the last {text.size(LOG_BYTES)}; `covenq logs` prints all of it", "yellow")])
    return lines
