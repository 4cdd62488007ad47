"""What to pause or resume, with a reason; and the question before the intake is closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from covenq.errors import Failure
from covenq.model.status import ReconcileStatus
from covenq.operate.act import intake_pause
from covenq.tui import text
from covenq.tui.screens.dialog import Dialog
from covenq.tui.screens.reason import ReasonInput
from covenq.tui.screens.screen_stack import is_on_stack

NOTHING = "leave everything as it is"
"""The first line, which is highlighted when the menu opens."""
LEFT_ALONE = "What runs already is left alone."


class PauseList(OptionList):
    """Ends at its ends: the last line, which closes the intake, is not beside the first."""

    def action_cursor_up(self) -> None:
        if self.highlighted:
            super().action_cursor_up()

    def action_cursor_down(self) -> None:
        if self.highlighted is None or self.highlighted < self.option_count - 1:
            super().action_cursor_down()


class PauseMenu(Dialog[tuple[int, str | None] | None]):
    """Lines to choose from, after one that does nothing. Dismissed with the index of the line and the reason, or None.

    It serves the decision what to hold, or to let go on: what that comes to is shown of the line that is highlighted.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, lines: Sequence[str], plan: Callable[[int], Awaitable[Sequence[str]]]) -> None:
        """`plan` tells, in clean lines, what choosing the line with that index comes to. Raises Failure."""
        super().__init__()
        self._lines = [NOTHING, *lines]
        self._plan = plan

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content("Pause or resume"), id="dialog-title")
            yield PauseList(*(Option(Content(text.clean(line))) for line in self._lines), id="menu")
            yield ReasonInput(key="Tab")
            yield Static(Content(LEFT_ALONE), id="dialog-body")

    def on_mount(self) -> None:
        found = self.query_one(PauseList)
        found.highlighted = 0
        found.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._show_plan(event.option_index - 1)

    @work(exclusive=True)
    async def _show_plan(self, index: int) -> None:
        lines: Sequence[str] = ()
        if index >= 0:
            try:
                lines = await self._plan(index)
            except Failure as error:
                lines = [text.clean(error)]
        if is_on_stack(self):
            self.query_one("#dialog-body", Static).update(Content("\n".join([*lines, LEFT_ALONE])))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(PauseList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_index == 0:
            self.dismiss(None)
        else:
            self.dismiss((event.option_index - 1, self.query_one(ReasonInput).reason))

    def action_down(self) -> None:
        self.query_one(PauseList).action_cursor_down()

    def action_up(self) -> None:
        self.query_one(PauseList).action_cursor_up()


class IntakeDialog(Dialog[tuple[str | None] | None]):
    """Says what closing the intake costs, and asks. Cancel has the focus. Dismissed with the reason, in a tuple, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("q", "app.quit", "Quit"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, reason: str | None, passes: ReconcileStatus | None) -> None:
        """`passes` is the status's."""
        super().__init__()
        self._reason = reason
        self._passes = passes

    def compose(self) -> ComposeResult:
        end = intake_pause.END.replace("`", "").removesuffix(" ends it.")
        with Vertical(id="dialog"):
            yield Static(Content("Pause the intake"), id="dialog-title")
            yield Static(Content(intake_pause.cost(self._passes).replace("`", "")), id="warning")
            yield Static(Content(f"\n{intake_pause.INSTEAD}\n{end}, or p here, ends it.\n"), id="dialog-body")
            yield ReasonInput(self._reason or "")
            with Horizontal(id="dialog-buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Pause the intake", id="go")

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one("#cancel", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss((self.query_one(ReasonInput).reason,) if event.button.id == "go" else None)

    def action_leave(self) -> None:
        self.dismiss(None)
