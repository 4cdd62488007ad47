"""The output of an attempt, stdout or stderr, followed while it runs; and from there those of the delivery's other attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from covenq.client.interface import LOG_BYTES, Source, Stream
from covenq.client.silence import not_kept, wrote_nothing
from covenq.errors import DaemonUnreachable, Failure, NotFound
from covenq.model import State
from covenq.text import character_start, counted
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines

if TYPE_CHECKING:
    from covenq.model.rows import Attempt, Task

POLL_S = 0.5
"""Seconds between two reads of the output."""
WORDS_MIN = 20
"""Cells of a line that is wrapped at least, however narrow the screen is."""


@dataclass(frozen=True, slots=True)
class Output:
    """An attempt, and the route of its task."""

    attempt: Attempt
    route: str | None

    def is_of(self, one: Attempt) -> bool:
        return (self.attempt.task, self.attempt.attempt) == (one.task, one.attempt)


def outputs_of(tasks: Iterable[tuple[Task, Sequence[Attempt]]]) -> list[Output]:
    """The attempts of each task, one task after the other, as an open delivery lists them."""
    return [Output(one, task.route) for task, attempts in tasks for one in attempts]


def read_outputs(source: Source, delivery: str) -> list[Output]:
    """Those that the delivery has now. Blocks."""
    return outputs_of([(source.task(id), source.attempts(id)) for id in source.delivery(delivery).tasks])


def _first_stream(attempt: Attempt) -> Stream:
    """A failure says why on stderr; a receiver's answer is on stdout."""
    return "stdout" if attempt.outcome in (None, "completed") or attempt.category == "http" else "stderr"


class LogScreen(Screen[None]):
    """Tab switches between stdout and stderr. While it is scrolled to the end it stays there. Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("tab", "switch_stream", "stdout/stderr"),
        Binding(
            "left_square_bracket",
            "step(-1)",
            "Above",
            tooltip="the attempt above it, of any of the delivery's tasks",
        ),
        Binding("right_square_bracket", "step(1)", "Below", tooltip="the attempt below it"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(
        self, delivery: str, output: Output, source: Callable[[], Source | None], thread: BackgroundThread
    ) -> None:
        """`delivery` is the one, as hook/GUID, whose attempts `[` and `]` go to, from `output` on."""
        super().__init__()
        self._delivery = delivery
        self._output = output
        self._source = source
        self._thread = thread
        self.stream: Stream = _first_stream(output.attempt)
        self._switched = False
        """The stream was chosen by hand, and stays the same for other attempts."""
        self._shown: tuple[bytes, list[Line]] | None = None
        """The output, or the lines that stand for one that is empty."""

    def compose(self) -> ComposeResult:
        yield Static(id="detail-title")
        yield Lines([[("… reading", "muted")]])
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.set_interval(POLL_S, self._load)
        self._load()

    def action_switch_stream(self) -> None:
        self.stream = "stderr" if self.stream == "stdout" else "stdout"
        self._switched, self._shown = True, None
        self._load()

    @work(group="step")
    async def action_step(self, direction: int) -> None:
        """Go to the attempt above or below, of those that there are by now."""
        source, id = self._source(), self._delivery
        if source is None:
            return
        try:
            found = await self._thread.call(lambda: read_outputs(source, id))
        except DaemonUnreachable:
            return
        except Failure as error:
            self.notify(text.clean(error), severity="error", markup=False)
            return
        if not is_on_stack(self):
            return
        at = next((at for at, one in enumerate(found) if one.is_of(self._output.attempt)), None)
        if at is None or not 0 <= at + direction < len(found):
            where = "above" if direction < 0 else "below"
            self.notify(f"no output {where} it: the delivery has had {counted(len(found), 'attempt')}", markup=False)
            return
        self._output, self._shown = found[at + direction], None
        if not self._switched:
            self.stream = _first_stream(self._output.attempt)
        self._load()

    @work(group="log", exclusive=True)
    async def _load(self) -> None:
        source, output, stream, width = self._source(), self._output, self.stream, self.size.width - 1
        if source is None:
            return
        try:
            content, found = await self._thread.call(lambda: read_output(source, output.attempt, stream, width))
        except DaemonUnreachable:
            return  # the app shows why there is no source; this screen stays as it is
        except Failure as error:
            content, found = b"", [[(f"✗ {text.clean(error)}", "bad")], [(text.clean(error.hint), "")]]
        if is_on_stack(self) and stream == self.stream and output is self._output:
            shown = content, ([] if content else found)
            if shown != self._shown:
                self._show(shown, found)

    def _show(self, shown: tuple[bytes, list[Line]], found: list[Line]) -> None:
        lines = self.query_one(Lines)
        at_end = self._shown is None or round(lines.scroll_y) >= lines.max_scroll_y
        self._shown = shown
        one = self._output.attempt
        title = f"{self.stream} of attempt {one.attempt} of {text.short_id(one.task)}, route {self._output.route or text.ABSENT}"
        self.query_one("#detail-title", Static).update(Content(text.clean(title)))
        lines.show(found)
        if at_end:
            self.call_after_refresh(lines.scroll_end, animate=False)


def read_output(source: Source, one: Attempt, stream: Stream, width: int) -> tuple[bytes, list[Line]]:
    """What there is of it and its lines; of none, the words that say why, in lines of `width` cells. Blocks."""
    try:
        content = source.log(one.task, one.attempt, stream)
    except NotFound:
        task = source.task(one.task)
        ended = one.attempt < task.attempts or task.state != State.RUNNING
        why = not_kept(source, task, one.attempt, ended=ended)
        return b"", _dim(text.clean(why), width) + _dim(text.clean(why.hint), width)
    if not content:
        return b"", _dim(text.clean(wrote_nothing(source, one.task, one.attempt, [stream])), width)
    return content, output_lines(content)


def _dim(words: str, width: int) -> list[Line]:
    return [[(part, "muted")] for part in text.wrap(words, max(WORDS_MIN, width))]


def output_lines(content: bytes) -> list[Line]:
    """Output as lines, with control characters made visible; the first line says if the beginning may be cut off."""
    cut = len(content) >= LOG_BYTES
    said = (content[character_start(content) :] if cut else content).decode("utf-8", "replace")
    lines: list[Line] = [[(line, "")] for line in text.clean_block(said.rstrip("\n"))]
    if cut:
        lines.insert(0, [(f"… the last {text.size(LOG_BYTES)}; `covenq logs` prints all of it", "warning")])
    return lines
