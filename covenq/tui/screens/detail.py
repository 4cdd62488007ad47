"""One delivery, whole: its state and columns, its tasks and their attempts, its headers, its payload."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from covenq.client.interface import Source
from covenq.client.suggestion import suggested
from covenq.errors import DaemonUnreachable, Failure, NotFound
from covenq.model.palette import STATE_TONES
from covenq.operate.inspect.last_output import last_output
from covenq.operate.inspect.story_text import QUOTED_MAX
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.rows import Subject
from covenq.tui.screens.logs import LogScreen, outputs_of
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines

if TYPE_CHECKING:
    from covenq.model.answers import LastOutput
    from covenq.model.rows import Attempt, Delivery, OneDelivery, Task

PRETTY_PRINT_MAX = 2 * 1024 * 1024
"""Bytes of the largest payload that is shown as indented JSON; of a larger one the beginning is shown as it came."""
PREVIEW_BYTES = 64 * 1024
"""Bytes shown of a larger payload."""

REREAD_S = 0.25
"""Least seconds between two reads of an open delivery, however much is recorded meanwhile."""

MARK = "▸"
"""Before what was opened, as before the row under a list's cursor."""
ROOM = 4
"""Lines below a marked one that are to be in view with it."""

SUMMARY_FIELDS = (
    "event", "action", "repo", "sender", "number", "title", "head_sha", "ref", "label", "installation", "received_at", "source",
    "secret", "seq", "payload_bytes", "payload_sha256", "duplicates", "conflicts", "twin", "replays",
)  # fmt: skip


@dataclass(slots=True)
class DeliveryDetail:
    """A delivery with its tasks, each with its attempts."""

    delivery: OneDelivery
    tasks: list[tuple[Task, list[Attempt]]] = field(default_factory=list)
    outputs: dict[str, LastOutput | None] = field(default_factory=dict)
    """By task id, what the newest attempt that ended wrote last, unless it completed."""


def read_detail(source: Source, id: str) -> DeliveryDetail:
    """The delivery with its tasks and their attempts, and what failed in its own words. Blocks."""
    delivery = source.delivery(id)
    tasks = [(source.task(task), source.attempts(task)) for task in delivery.tasks]
    quoted = [] if delivery.redacted else tasks
    return DeliveryDetail(delivery, tasks, {task.id: last_output(its, source.log) for task, its in quoted})


def _heading(words: str) -> list[Line]:
    return [[("", "")], [(words, "bold")]]


def summary_lines(delivery: Delivery, now: float) -> list[Line]:
    """State and reason, then the columns that have a value."""
    word = delivery.state
    first: Line = [("state          ", "muted"), (text.state(word), STATE_TONES.get(word, ""))]
    if delivery.reason:
        first.append((f"  {text.clean(delivery.reason)}", ""))
    lines = [first]
    if delivery.detail:
        lines.append([("                ", ""), (text.clean(delivery.detail), "")])
    for name in SUMMARY_FIELDS:
        value: object = getattr(delivery, name)
        if value is None or (value in (0, "") and name in ("duplicates", "conflicts", "replays", "twin")):
            continue
        shown = text.clean(value)
        if name == "received_at":
            shown += f"  ({text.age(str(value), now)})"
        lines.append([(f"{name:<15}", "muted"), (shown, "")])
    return lines


def attempt_lines(one: Attempt, now: float, *, marked: bool, output: LastOutput | None = None) -> list[Line]:
    """One attempt: outcome, duration, category, its phases with the time from the start to each, and what it wrote last."""
    outcome = one.outcome or "running"
    first = f"  {MARK if marked else ' '} attempt {one.attempt}  {text.state(outcome)}"
    took = text.span(one.started_at, one.ended_at, now)
    parts = [f"{took}", f"worker {text.clean(one.worker or text.ABSENT)}"]
    if one.category:
        parts.append(f"category {text.clean(one.category)}")
    if one.exit_code is not None:
        parts.append(f"exit_code {one.exit_code}")
    if one.signal is not None:
        parts.append(f"signal {one.signal}")
    if one.node:  # last: it is cut first
        parts.append(f"node {text.clean(one.node)}")
    lines: list[Line] = [[(first, STATE_TONES.get(outcome, "")), ("  " + "  ".join(parts), "")]]
    if one.detail and one.detail != f"it exited with {one.exit_code}":  # which the line above says
        lines.append([("      ", ""), (text.clean(one.detail), "")])
    phases = [f"{text.clean(name)} +{text.span(one.started_at, at, now)}" for name, at in one.phases]
    if phases:
        lines.append([("      phases ", "muted"), ("  ".join(phases), "")])
    if one.result:
        lines.append([("      result ", "muted"), (text.clean(one.result), "")])
    if output is not None and output.attempt == one.attempt:
        lines += quoted_lines(output)
    return lines


def quoted_lines(output: LastOutput) -> list[Line]:
    """The last lines of an output, the first behind its name."""
    name = f"      {output.stream:<6} "
    quoted = [text.clean(line) for line in output.lines[-QUOTED_MAX:]]
    if output.elsewhere is not None:
        quoted = [text.clean(output.elsewhere)]
    return [[(" " * len(name) if at else name, "muted"), (line, "")] for at, line in enumerate(quoted)]


def task_lines(detail: DeliveryDetail, subject: Subject, now: float) -> list[Line]:
    """Every task with its attempts; the attempt of `subject`, else its task, is marked."""
    if not detail.tasks:
        return [[("  none", "muted")]]
    lines: list[Line] = []
    for task, attempts in detail.tasks:
        word = task.state
        about = [f"route {text.clean(task.route)}", f"attempts {task.attempts}"]
        if task.replay:
            about.append(f"replay {task.replay}")
        if task.reason:
            about.append(text.clean(task.reason))
        if task.not_before and word == "queued":
            about.append(f"not before {text.clean(task.not_before)}")
        here = task.id == subject.task
        state = (f"{MARK if here and subject.attempt is None else ' '} {text.state(word)}", STATE_TONES.get(word, ""))
        lines.append([state, (f"  {text.short_id(task.id)}  ", "bold"), ("  ".join(about), "")])
        for one in attempts:
            marked = here and one.attempt == subject.attempt
            lines += attempt_lines(one, now, marked=marked, output=detail.outputs.get(task.id))
    return lines


def header_lines(delivery: OneDelivery) -> list[Line]:
    """The headers that were stored of the request, in the order they came."""
    if not delivery.headers:
        return [[("  none kept", "muted")]]
    return [[(f"  {text.clean(name)}: ", "muted"), (text.clean(value), "")] for name, value in delivery.headers]


def payload_lines(body: bytes, id: str) -> list[Line]:
    """The payload as indented JSON, or as it came where it isn't JSON, is nested too deep to parse, or is too large."""
    if len(body) > PRETTY_PRINT_MAX:
        whole = f"covenq show --payload {id}"
        note = (
            f"  {text.size(len(body))}: its first {text.size(PREVIEW_BYTES)}; all of it: {text.clean(suggested(whole))}"
        )
        return [[(note, "warning")], *_plain_lines(body[:PREVIEW_BYTES].decode("utf-8", "replace"))]
    try:
        laid_out = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return _plain_lines(body.decode("utf-8", "replace"))
    return _plain_lines(laid_out)


def _plain_lines(content: str) -> list[Line]:
    return [[("  " + line, "")] for line in text.clean_block(content)]


class DetailScreen(Screen[None]):
    """A screen over the lists. Kept current while it is open; Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("left_square_bracket", "neighbour(-1)", "Older", show=False, tooltip="what is above it in the list"),
        Binding("right_square_bracket", "neighbour(1)", "Newer", show=False, tooltip="what is below it in the list"),
        Binding("l", "logs", "Logs", tooltip="what the marked attempt wrote, else the newest"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(
        self,
        subject: Subject,
        source: Callable[[], Source | None],
        thread: BackgroundThread,
        neighbour: Callable[[int], Subject | None],
    ) -> None:
        """`neighbour` moves on in the list below, up (-1) or down (1): what is there, None at its end."""
        super().__init__()
        self._subject = subject
        self._scrolled = False
        """It was scrolled to the task or attempt of `_subject`, or needn't be."""
        self._neighbour = neighbour
        self._source = source
        self._thread = thread
        self._detail: DeliveryDetail | None = None
        self._payload: list[Line] | None = None
        self._busy = False
        self._reload_wanted = False

    def compose(self) -> ComposeResult:
        yield Static(Content(f"delivery {text.clean(self._subject.delivery)}"), id="detail-title")
        yield Lines([[("… reading", "muted")]])
        yield KeyFooter()

    def on_mount(self) -> None:
        self._load()

    @property
    def delivery(self) -> OneDelivery | None:
        """The delivery shown, None until it is read."""
        return None if self._detail is None else self._detail.delivery

    def action_neighbour(self, direction: int) -> None:
        before, subject = self._subject.delivery, self._neighbour(direction)
        if subject is None:
            return
        self._subject, self._scrolled = subject, False
        id = subject.delivery
        if id == before:  # another task or attempt of it
            if self._detail is not None:
                self._show(self._detail)
            return
        self._detail, self._payload = None, None
        self.query_one("#detail-title", Static).update(Content(f"delivery {text.clean(id)}"))
        self.query_one(Lines).show([[("… reading", "muted")]])
        self.query_one(Lines).scroll_home(animate=False)
        self.mark_changed()

    def mark_changed(self) -> None:
        """The journal has grown: read the delivery again, one read at a time."""
        if self._busy:
            self._reload_wanted = True
        else:
            self._load()

    @work(group="detail")
    async def _load(self) -> None:
        self._busy = True
        try:
            await self._read()
            await asyncio.sleep(REREAD_S)
        finally:
            self._busy = False
        if self._reload_wanted and is_on_stack(self):
            self._reload_wanted = False
            self._load()

    async def _read(self) -> None:
        source, id = self._source(), self._subject.delivery
        if source is None:
            return
        try:
            found = await self._thread.call(lambda: read_detail(source, id))
            body = self._payload
            if body is None:
                body = await self._thread.call(lambda: _read_payload(source, id))
            if id != self._subject.delivery:  # another delivery was chosen meanwhile
                self._reload_wanted = True
                return
            self._detail, self._payload = found, body
        except DaemonUnreachable:
            return  # the app opens the source again and shows that; this screen stays as it is
        except Failure as error:
            lines: list[Line] = [[(f"✗ {text.clean(error)}", "bad")], [(text.clean(error.hint), "")]]
            if is_on_stack(self):
                self.query_one(Lines).show(lines)
            return
        if is_on_stack(self) and id == self._subject.delivery and self._detail is not None:
            self._show(self._detail)

    def _show(self, detail: DeliveryDetail) -> None:
        now = time.time()
        lines = summary_lines(detail.delivery, now)
        lines += _heading("Tasks")
        tasks = task_lines(detail, self._subject, now)
        marked = next((at for at, line in enumerate(tasks) if MARK in line[0][0]), None)
        top = len(lines) - 1
        lines += tasks
        lines += [*_heading("Headers"), *header_lines(detail.delivery)]
        lines += [*_heading("Payload"), *(self._payload or [])]
        shown = self.query_one(Lines)
        shown.show(lines)
        if not self._scrolled:
            self._scrolled = True
            if marked is not None:
                self.call_after_refresh(self._scroll_to_mark, top, marked + 1)

    def _scroll_to_mark(self, top: int, below: int) -> None:
        """Have the marked line in view, `below` the heading at `top`, and the heading too where there is room for both."""
        shown = self.query_one(Lines)
        room = shown.size.height - ROOM
        if not round(shown.scroll_y) <= top + below < round(shown.scroll_y) + room:
            shown.scroll_to(y=top if below < room else top + below - 1, animate=False)

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_logs(self) -> None:
        """Of the task that was opened, if it is one, and of its attempt, if it is one; the newest of those it may be."""
        subject = self._subject
        found = [
            one
            for one in (outputs_of(self._detail.tasks) if self._detail is not None else [])
            if subject.task in (None, one.attempt.task) and subject.attempt in (None, one.attempt.attempt)
        ]
        if not found:
            whose = "it" if subject.task is None else f"task {text.short_id(subject.task)}"
            self.notify(text.clean(f"nothing has run for {whose} yet"), markup=False)
            return
        newest = max(found, key=lambda one: one.attempt.claim_seq or 0)
        self.app.push_screen(LogScreen(subject.delivery, newest, self._source, self._thread))


def _read_payload(source: Source, id: str) -> list[Line]:
    try:
        return payload_lines(source.payload(id), id)
    except NotFound as error:
        return [[(f"  {text.clean(error)}", "muted")]]
