"""Modal layers: the confirmation of an action with its plan, and the help."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from covenq.errors import Failure
from covenq.tui import text
from covenq.tui.lanes import Lane
from covenq.tui.layer import is_open

Apply = Callable[[bool, bool], dict[str, Any]]
"""(dry_run, force) → {"eligible", "skipped", "done"}. Blocks."""

LISTED = 6
"""Ids a plan shows; the rest are counted."""


Noun = tuple[str, str]
"""One, and several."""


def _counted(count: int, noun: Noun) -> str:
    return f"{text.number(count)} {noun[0] if count == 1 else noun[1]}"


def plan_lines(plan: dict[str, Any], noun: Noun) -> list[str]:
    """A plan in words: how many are eligible, and every reason to skip with how many it holds back."""
    eligible, skipped = plan["eligible"], plan["skipped"]
    lines = [f"eligible  {_counted(len(eligible), noun)}"]
    lines += [f"  {text.clean(one)}" for one in eligible[:LISTED]]
    if len(eligible) > LISTED:
        lines.append(f"  … and {text.number(len(eligible) - LISTED)} more")
    lines.append(f"skipped   {_counted(len(skipped), noun)}")
    reasons: dict[str, list[str]] = {}
    for one in skipped:
        reasons.setdefault(str(one["reason"]), []).append(str(one["id"]))
    for reason, ids in list(reasons.items())[:LISTED]:
        lines.append(f"  {text.clean(reason)}: " + (text.clean(ids[0]) if len(ids) == 1 else text.number(len(ids))))
    return lines


def done_lines(result: dict[str, Any], noun: Noun, words: Sequence[str]) -> list[str]:
    """What was done, in words, and the command that does the same."""
    done, skipped = result["done"], result["skipped"]
    lines = [f"done      {_counted(len(done), noun)}"]
    for one in done[:LISTED]:
        tasks = " ".join(text.clean(task) for task in one.get("tasks", ()))
        lines.append(f"  {text.clean(one['id'])}" + (f" → {tasks}" if tasks else ""))
    if len(done) > LISTED:
        lines.append(f"  … and {text.number(len(done) - LISTED)} more")
    if skipped:
        lines.append(f"skipped   {_counted(len(skipped), noun)}")
        lines += [f"  {text.clean(one['id'])}: {text.clean(one['reason'])}" for one in skipped[:LISTED]]
    return [*lines, "", "the same from a shell:", f"  {shlex.join(words)}"]


class Confirm(ModalScreen[bool]):
    """Shows what an action would do, does it if asked, then what it did. Cancel has the focus.

    Dismissed with True once something was done.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("f", "force", "Force"),
        Binding("q", "app.quit", "Quit"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(
        self, *, verb: str, noun: Noun, apply: Apply, words: Callable[[bool], list[str]], lane: Lane, forceable: bool
    ) -> None:
        super().__init__()
        self._verb = verb
        self._noun = noun
        self._apply = apply
        self._words = words
        self._lane = lane
        self._forceable = forceable
        self._force = False
        self._going = False
        self._done = False

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content(self._verb), id="dialog-title")
            yield Static(Content("asking what would be done…"), id="dialog-body")
            yield Static(id="force")
            with Horizontal(id="dialog-buttons"):
                yield Button("Cancel", id="cancel")
                yield Button(self._verb, id="go", disabled=True)

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()
        self._plan()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._forceable and not (self._going or self._done) if action == "force" else True

    def action_force(self) -> None:
        self._force = not self._force
        self._plan()

    @work(exclusive=True)
    async def _plan(self) -> None:
        go, force = self.query_one("#go", Button), self._force
        mark = self.query_one("#force", Static)
        mark.display = self._forceable
        mark.update(Content(f"[{'x' if force else ' '}] f  force: also what has completed"))
        go.disabled = True
        try:
            plan = await self._lane.call(lambda: self._apply(True, force))
        except Failure as error:
            self._say([f"refused: {text.clean(error)}", text.clean(error.hint)])
            return
        self._say(plan_lines(plan, self._noun))
        go.disabled = not plan["eligible"]

    def _say(self, lines: list[str]) -> None:
        if not is_open(self):
            return
        self.query_one("#dialog-body", Static).update(Content("\n".join(lines)))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "go":
            self._go()
        else:
            self.action_leave()

    @work(exclusive=True)
    async def _go(self) -> None:
        force = self._force
        self._going = True
        self.query_one("#go", Button).disabled = True
        self.query_one("#force").display = False
        cancel = self.query_one("#cancel", Button)
        cancel.label = "Close"
        cancel.focus()
        self._say(["working…"])
        try:
            result = await self._lane.call(lambda: self._apply(False, force))
        except Failure as error:
            self._say([f"failed: {text.clean(error)}", text.clean(error.hint)])
            return
        finally:
            self._going = False
        self._done = True
        self._say(done_lines(result, self._noun, self._words(force)))

    def action_leave(self) -> None:
        if not self._going:  # what it did is worth the wait; `q` doesn't wait
            self.dismiss(self._done)


HELP = """\
1 2 3 5     Overview, Deliveries, Tasks, Journal
↑ ↓ k j     move up (and pause), down; PageUp PageDown: a screenful
g Home      the oldest row (reads older rows until it is there)
G End       the newest row, and follow what arrives
Enter       open the delivery
/           filter; Enter applies it, Esc leaves it as it was
Esc         peel a layer: help, dialog, delivery, then the filter
r           replay the delivery: new tasks by today's routes
u           requeue: run its failed, cancelled or superseded tasks again
v           verify the journal
q           quit

Filter      field:value  field:a,b  -field:value  age<1h  since:2d  "a b"
            sender:*[bot]; bare words search repo, title and ids
Fields      id guid hook seq event action repo repo_id owner sender sha
            installation number label state reason route kind worker
            category attempts duplicates size source secret twin age
            since before payload.*"""


class Help(ModalScreen[None]):
    """Every key, and the filter grammar on one page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter", "dismiss", "Close"),
        Binding("q", "app.quit", "Quit"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content("Keys and filters"), id="dialog-title")
            with VerticalScroll():
                yield Static(Content(HELP))
