"""One delivery, whole: what is known of it, its tasks and their attempts, its headers, its payload."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from covenq.client.interface import Object, Source
from covenq.errors import DaemonUnreachable, Failure, NotFound
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.is_open import is_open
from covenq.tui.screens.logs import LogScreen
from covenq.tui.widgets.lines import Line, Lines

LAID_OUT = 2 * 1024 * 1024
"""Bytes of payload up to which it is laid out as indented JSON; above, its beginning is shown as it came."""
SHOWN = 64 * 1024
"""Bytes shown of a payload that is too big to lay out."""

PACE = 0.25
"""Seconds between two reads of an open delivery, however much is recorded meanwhile."""

SUMMARY = (
    "event", "action", "repo", "sender", "number", "title", "head_sha", "label", "installation", "received_at", "source",
    "secret", "seq", "payload_bytes", "payload_sha256", "duplicates", "conflicts", "twin", "replays",
)  # fmt: skip


@dataclass(slots=True)
class Story:
    """What was read of one delivery."""

    delivery: Object
    tasks: list[tuple[Object, list[Object]]] = field(default_factory=list)


def identity(row: Mapping[str, Any]) -> str:
    """`hook/GUID`, which names a delivery or a task's delivery unmistakably."""
    return f"{row['hook']}/{row['guid']}"


def read(source: Source, id: str) -> Story:
    """The delivery with its tasks and their attempts. Blocks."""
    delivery = source.delivery(id)
    return Story(delivery, [(source.task(task), source.attempts(task)) for task in delivery.get("tasks", ())])


def _heading(words: str) -> list[Line]:
    return [[("", "")], [(words, "bold")]]


def summary(delivery: Mapping[str, Any], now: float) -> list[Line]:
    """State and reason, then the columns that have a value."""
    word = str(delivery.get("state"))
    first: Line = [("state           ", "dim"), (text.state(word), text.STYLES.get(word, ""))]
    if delivery.get("reason"):
        first.append((f"  {text.clean(delivery['reason'])}", ""))
    lines = [first]
    if delivery.get("detail"):
        lines.append([("                ", ""), (text.clean(delivery["detail"]), "")])
    for name in SUMMARY:
        value = delivery.get(name)
        if value is None or (value in (0, "") and name in ("duplicates", "conflicts", "replays", "twin")):
            continue
        shown = text.clean(value)
        if name == "received_at":
            shown += f"  ({text.age(str(value), now)})"
        lines.append([(f"{name:<16}", "dim"), (shown, "")])
    return lines


def attempt(one: Mapping[str, Any], now: float) -> list[Line]:
    """One attempt: outcome, how long, why, and its phases with the time each began after the start."""
    outcome = one.get("outcome") or "running"
    first = f"    attempt {one.get('attempt')}  {text.state(str(outcome))}"
    took = text.span(one.get("started_at"), one.get("ended_at"), now)
    parts = [f"{took}", f"worker {text.clean(one.get('worker') or text.ABSENT)}"]
    if one.get("category"):
        parts.append(f"category {text.clean(one['category'])}")
    for name in ("exit_code", "signal"):
        if one.get(name) is not None:
            parts.append(f"{name} {text.clean(one[name])}")
    lines: list[Line] = [[(first, text.STYLES.get(str(outcome), "")), ("  " + "  ".join(parts), "")]]
    if one.get("detail"):
        lines.append([("      ", ""), (text.clean(one["detail"]), "")])
    phases = []
    for phase in one.get("phases") or ():
        name, at = (phase["phase"], phase["at"]) if isinstance(phase, dict) else phase
        phases.append(f"{text.clean(name)} +{text.span(one.get('started_at'), at, now)}")
    if phases:
        lines.append([("      phases ", "dim"), ("  ".join(phases), "")])
    if one.get("result"):
        lines.append([("      result ", "dim"), (text.clean(one["result"]), "")])
    return lines


def tasks(story: Story, now: float) -> list[Line]:
    """Every task with its attempts, or that there is none."""
    if not story.tasks:
        return [[("  none", "dim")]]
    lines: list[Line] = []
    for task, attempts in story.tasks:
        word = str(task.get("state"))
        about = [f"route {text.clean(task.get('route'))}", f"attempts {task.get('attempts')}"]
        if task.get("replay"):
            about.append(f"replay {task['replay']}")
        if task.get("reason"):
            about.append(text.clean(task["reason"]))
        if task.get("not_before") and word == "queued":
            about.append(f"not before {text.clean(task['not_before'])}")
        state = (f"  {text.state(word)}", text.STYLES.get(word, ""))
        lines.append([state, (f"  {text.clean(task['id'])}  ", "bold"), ("  ".join(about), "")])
        for one in attempts:
            lines += attempt(one, now)
    return lines


def headers(delivery: Mapping[str, Any]) -> list[Line]:
    """The headers kept of the request, in the order they came."""
    kept: Sequence[Sequence[Any]] = delivery.get("headers") or ()
    if not kept:
        return [[("  none kept", "dim")]]
    return [[(f"  {text.clean(name)}: ", "dim"), (text.clean(value), "")] for name, value in kept]


def payload(body: bytes, id: str) -> list[Line]:
    """The payload as indented JSON; as it came where it is no JSON, is very big, or would lose something so."""
    if len(body) > LAID_OUT:
        note = f"  {text.size(len(body))}: its first {text.size(SHOWN)}; all of it: covenq show --payload {id}"
        return [[(note, "yellow")], *_block(body[:SHOWN].decode("utf-8", "replace"))]
    try:
        laid_out = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return _block(body.decode("utf-8", "replace"))
    return _block(laid_out)


def _block(content: str) -> list[Line]:
    return [[("  " + line, "")] for line in text.clean_block(content)]


class DetailScreen(Screen[None]):
    """A layer over the lists. Kept current while it is open; Esc peels it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("left_square_bracket", "step(-1)", "Older", show=False, tooltip="the delivery above it in the list"),
        Binding("right_square_bracket", "step(1)", "Newer", show=False, tooltip="the delivery below it in the list"),
        Binding("l", "logs", "Logs", tooltip="what the newest attempt wrote"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(
        self, id: str, source: Callable[[], Source | None], lane: BackgroundThread, step: Callable[[int], str | None]
    ) -> None:
        """`step` goes on in the list this came from, up (-1) or down (1): the delivery there, None at its end."""
        super().__init__()
        self._delivery = id
        self._step = step
        self._source = source
        self._lane = lane
        self._story: Story | None = None
        self._payload: list[Line] | None = None
        self._busy = False
        self._again = False

    def compose(self) -> ComposeResult:
        yield Static(Content(f"delivery {text.clean(self._delivery)}"), id="detail-title")
        yield Lines([[("… reading", "dim")]])
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self._load()

    @property
    def delivery(self) -> Object | None:
        """What is shown, once it is read."""
        return None if self._story is None else self._story.delivery

    def action_step(self, direction: int) -> None:
        id = self._step(direction)
        if id is None or id == self._delivery:
            return
        self._delivery, self._story, self._payload = id, None, None
        self.query_one("#detail-title", Static).update(Content(f"delivery {text.clean(id)}"))
        self.query_one(Lines).show([[("… reading", "dim")]])
        self.query_one(Lines).scroll_home(animate=False)
        self.mark_changed()

    def mark_changed(self) -> None:
        """The journal has grown: read the delivery again, one read at a time."""
        if self._busy:
            self._again = True
        else:
            self._load()

    @work(group="detail")
    async def _load(self) -> None:
        self._busy = True
        try:
            await self._read()
            await asyncio.sleep(PACE)
        finally:
            self._busy = False
        if self._again and is_open(self):
            self._again = False
            self._load()

    async def _read(self) -> None:
        source, id = self._source(), self._delivery
        if source is None:
            return
        try:
            found = await self._lane.call(lambda: read(source, id))
            body = self._payload
            if body is None:
                body = await self._lane.call(lambda: _read_payload(source, id))
            if id != self._delivery:  # stepped on meanwhile
                self._again = True
                return
            self._story, self._payload = found, body
        except DaemonUnreachable:
            return  # the app is opening the source again, and says so; what is shown stays
        except Failure as error:
            said: list[Line] = [[(f"✗ {text.clean(error)}", "red")], [(text.clean(error.hint), "")]]
            if is_open(self):
                self.query_one(Lines).show(said)
            return
        if is_open(self) and id == self._delivery and self._story is not None:
            self._show(self._story)

    def _show(self, story: Story) -> None:
        now = time.time()
        lines = summary(story.delivery, now)
        lines += [*_heading("Tasks"), *tasks(story, now)]
        lines += [*_heading("Headers"), *headers(story.delivery)]
        lines += [*_heading("Payload"), *(self._payload or [])]
        self.query_one(Lines).show(lines)

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_logs(self) -> None:
        attempts = [one for _, its in self._story.tasks for one in its] if self._story is not None else []
        if not attempts:
            self.notify("nothing has run for it yet", markup=False)
            return
        newest = max(attempts, key=lambda one: int(one.get("claim_seq") or 0))
        self.app.push_screen(LogScreen(newest, self._source, self._lane))


def _read_payload(source: Source, id: str) -> list[Line]:
    try:
        return payload(source.payload(id), id)
    except NotFound as error:
        return [[(f"  {text.clean(error)}", "dim")]]
