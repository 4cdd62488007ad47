"""The confirmation dialog of an action: its plan first, then the question, then its result.

It serves one decision: whether this is done. The plan's lines are the command's (`covenq.operate.act.plan_text`).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Static

from covenq.client.suggestion import suggested
from covenq.errors import Failure
from covenq.operate.answers import PlanAnswer, Skipped
from covenq.tui import text
from covenq.tui.actions import Action, How, Noun
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.dialog import Dialog
from covenq.tui.screens.reason import ReasonInput
from covenq.tui.screens.screen_stack import is_on_stack

LISTED_MAX = 6
"""Ids, and reasons to skip, that are listed; further ids are counted."""
OTHER_ROWS = 7
WARNING_ROWS = 2
"""Of a dialog, beside the plan: border, title, force, question, reason, buttons; and the warning, where there is one."""
GROUPS_MIN = 4
"""Groups of a plan that are shown in little room; twice as many rows are left for what is skipped and would wait."""
SHOWN_S = 0.3
"""Between two looks at how far it is."""


def _counted(count: int, noun: Noun) -> str:
    return f"{text.number(count)} {noun[0] if count == 1 else noun[1]}"


def _skipped(skipped: Sequence[Skipped], done: Sequence[str], noun: Noun) -> str:
    """How many are skipped whole, and of how many of those done a part is skipped."""
    among = set(done)
    partly = {one.id for one in skipped if one.id in among}
    whole = sum(one.id not in among for one in skipped)
    return _counted(whole, noun) + (f", and parts of {text.number(len(partly))}" if partly else "")


def done_lines(result: PlanAnswer, noun: Noun, words: Sequence[str]) -> list[str]:
    """The result in words, and the equivalent command."""
    done, skipped = result.done, result.skipped
    lines = [f"done      {_counted(len(done), noun)}"]
    for one in done[:LISTED_MAX]:
        tasks = " ".join(text.short_id(task) for task in one.tasks)
        lines.append(f"  {text.short_id(one.id)}" + (f" → {tasks}" if tasks else ""))
    if len(done) > LISTED_MAX:
        lines.append(f"  … and {text.number(len(done) - LISTED_MAX)} more")
    if skipped:
        lines.append(f"skipped   {_skipped(skipped, [one.id for one in done], noun)}")
        lines += [f"  {text.short_id(one.id)}: {text.clean(one.reason)}" for one in skipped[:LISTED_MAX]]
    return [*lines, "", "the same from a shell:", f"  {text.clean(suggested(shlex.join(words)))}"]


class Confirm(Dialog[bool]):
    """Shows an action's plan, applies it if confirmed, then shows the result. Cancel has the focus.

    Dismissed with True if the action was applied.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("f", "force", "Force"),
        Binding("q", "app.quit", "Quit"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, action: Action, thread: BackgroundThread) -> None:
        super().__init__()
        self._action = action
        self._thread = thread
        self._force = False
        self._applying = False
        self._done = False
        self._planned: PlanAnswer | None = None
        self._working = ""
        """What is going on, in words; empty while nothing is."""
        self._reached = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(
                Content(f"{self._action.verb} {text.clean(self._action.target.description)}"), id="dialog-title"
            )
            with VerticalScroll(id="dialog-plan"):
                yield Static(Content("asking what would be done…"), id="dialog-body")
            yield Static(Content(self._action.warning), id="warning")
            yield Static(id="force")
            yield Static(id="question")
            yield ReasonInput()
            with Horizontal(id="dialog-buttons"):
                yield Button("Cancel", id="cancel")
                yield Button(self._action.verb, id="go", disabled=True)

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()
        self.set_interval(SHOWN_S, self._show_progress)
        self._plan()

    def on_resize(self, event: events.Resize) -> None:
        """Keep the question and the buttons in view, however long the plan is."""
        self.query_one("#dialog-plan").styles.max_height = self._room()

    def _room(self) -> int:
        """Rows that the plan may take."""
        return max(3, self.room - OTHER_ROWS - (WARNING_ROWS if self._action.warning else 0))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._action.forceable and not (self._applying or self._done) if action == "force" else True

    def action_force(self) -> None:
        self._force = not self._force
        self._plan()

    @work(exclusive=True)
    async def _plan(self) -> None:
        go, force = self.query_one("#go", Button), self._force
        mark = self.query_one("#force", Static)
        mark.display = self._action.forceable
        self.query_one("#warning").display = bool(self._action.warning)
        mark.update(Content(f"[{'x' if force else ' '}] f  force: also what has completed"))
        go.disabled = True
        self._ask("")
        self._working = "asking what would be done…"
        try:
            plan = await self._thread.call(lambda: self._action.plan(How(force=force), self._reach))
        except Failure as error:
            self._show_body([f"refused: {text.clean(error)}", text.clean(error.hint)])
            return
        finally:
            self._working = ""
        self._planned = plan
        if plan.summary is not None:
            self._show_body(
                self._action.lines(plan, plan.summary, time.time(), max(GROUPS_MIN, self._room() - GROUPS_MIN * 2))
            )
        else:  # an older daemon's
            self._show_body([f"eligible  {_counted(len(plan.eligible), self._action.noun)}"])
        if plan.eligible:
            self._ask(f"{self._action.verb} {_counted(len(plan.eligible), self._action.noun)}?")
        go.disabled = not plan.eligible

    def _reach(self, count: int) -> None:
        """Called where the work is done."""
        self._reached = count

    def _show_progress(self) -> None:
        if self._working and self._reached:
            self._show_body([f"{self._working} {text.number(self._reached)} so far"])

    def _ask(self, question: str) -> None:
        if is_on_stack(self):
            found = self.query_one("#question", Static)
            found.update(Content(question))
            found.display = bool(question)

    def _show_body(self, lines: list[str]) -> None:
        if not is_on_stack(self):
            return
        self.query_one("#dialog-body", Static).update(Content("\n".join(lines)))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one("#cancel", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "go":
            self._apply()
        else:
            self.action_leave()

    @work(exclusive=True)
    async def _apply(self) -> None:
        how = How(force=self._force, reason=self.query_one(ReasonInput).reason)
        self._applying = True
        self.query_one("#go", Button).disabled = True
        self.query_one("#force").display = False
        self._ask("")
        self.query_one("#warning").display = False
        self.query_one(ReasonInput).display = False
        cancel = self.query_one("#cancel", Button)
        cancel.label = "Close"
        cancel.focus()
        self._show_body(["working…"])
        plan, self._reached, self._working = self._planned, 0, "working…"
        assert plan is not None, "the button is enabled by a plan"
        try:
            result = await self._thread.call(lambda: self._action.apply(how, plan, self._reach))
        except Failure as error:
            self._show_body([f"failed: {text.clean(error)}", text.clean(error.hint)])
            return
        finally:
            self._applying, self._working = False, ""
        self._done = True
        self._show_body(done_lines(result, self._action.noun, self._action.command(how)))

    def action_leave(self) -> None:
        if not self._applying:  # while it is applied Esc waits for the result; `q` doesn't
            self.dismiss(self._done)
