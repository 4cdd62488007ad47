"""Modal layers: the confirmation of an action with its plan, and the help."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from covenq.errors import Failure
from covenq.tui import text
from covenq.tui.actions import Act, Noun
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.is_open import is_open

LISTED = 6
"""Ids a plan shows; the rest are counted."""


def _counted(count: int, noun: Noun) -> str:
    return f"{text.number(count)} {noun[0] if count == 1 else noun[1]}"


def _left_out(skipped: Sequence[dict[str, Any]], taken: Sequence[str], noun: Noun) -> str:
    """How many are skipped, and of how many that are taken a part is."""
    among = set(taken)
    parts = {one["id"] for one in skipped if one["id"] in among}
    whole = sum(one["id"] not in among for one in skipped)
    return _counted(whole, noun) + (f", and parts of {text.number(len(parts))}" if parts else "")


def plan_lines(plan: dict[str, Any], noun: Noun) -> list[str]:
    """A plan in words: how many are eligible, and every reason to skip with how many it holds back."""
    eligible, skipped = plan["eligible"], plan["skipped"]
    lines = [f"eligible  {_counted(len(eligible), noun)}"]
    lines += [f"  {text.clean(one)}" for one in eligible[:LISTED]]
    if len(eligible) > LISTED:
        lines.append(f"  … and {text.number(len(eligible) - LISTED)} more")
    lines.append(f"skipped   {_left_out(skipped, eligible, noun)}")
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
        lines.append(f"skipped   {_left_out(skipped, [one['id'] for one in done], noun)}")
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

    def __init__(self, act: Act, lane: BackgroundThread) -> None:
        super().__init__()
        self._act = act
        self._lane = lane
        self._force = False
        self._going = False
        self._done = False

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content(f"{self._act.verb} {text.clean(self._act.target.told)}"), id="dialog-title")
            yield Static(Content("asking what would be done…"), id="dialog-body")
            yield Static(Content(self._act.warning), id="warning")
            yield Static(id="force")
            with Horizontal(id="dialog-buttons"):
                yield Button("Cancel", id="cancel")
                yield Button(self._act.verb, id="go", disabled=True)

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()
        self._plan()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._act.forceable and not (self._going or self._done) if action == "force" else True

    def action_force(self) -> None:
        self._force = not self._force
        self._plan()

    @work(exclusive=True)
    async def _plan(self) -> None:
        go, force = self.query_one("#go", Button), self._force
        mark = self.query_one("#force", Static)
        mark.display = self._act.forceable
        self.query_one("#warning").display = bool(self._act.warning)
        mark.update(Content(f"[{'x' if force else ' '}] f  force: also what has completed"))
        go.disabled = True
        try:
            plan = await self._lane.call(lambda: self._act.apply(True, force))
        except Failure as error:
            self._say([f"refused: {text.clean(error)}", text.clean(error.hint)])
            return
        self._say(plan_lines(plan, self._act.noun))
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
        self.query_one("#warning").display = False
        cancel = self.query_one("#cancel", Button)
        cancel.label = "Close"
        cancel.focus()
        self._say(["working…"])
        try:
            result = await self._lane.call(lambda: self._act.apply(False, force))
        except Failure as error:
            self._say([f"failed: {text.clean(error)}", text.clean(error.hint)])
            return
        finally:
            self._going = False
        self._done = True
        self._say(done_lines(result, self._act.noun, self._act.command(force)))

    def action_leave(self) -> None:
        if not self._going:  # what it did is worth the wait; `q` doesn't wait
            self.dismiss(self._done)
