"""The line that a filter is typed in, and the values it completes from the rows listed."""

from __future__ import annotations

from collections.abc import Iterable

from textual.events import Key as KeyEvent
from textual.message import Message
from textual.widgets import Input

from covenq.tui.rows import Row

COMPLETED_FIELDS = (
    "repo", "event", "action", "route", "sender", "owner", "label", "worker", "reason", "secret", "number",
)  # fmt: skip
"""Fields whose values are suggested from the rows listed."""
VALUES_MAX = 200
"""Values suggested of each field."""


class FilterInput(Input):
    """Tab takes the suggestion, Enter applies what was typed, Esc leaves the filter as it was."""

    class Cancelled(Message):
        """Esc was pressed."""

    async def on_key(self, event: KeyEvent) -> None:
        if event.key == "tab":
            event.stop()
            event.prevent_default()
            self.action_end()
            self.action_cursor_right()  # takes the suggestion, if there is one
        elif event.key == "escape":
            event.stop()
            event.prevent_default()
            self.post_message(self.Cancelled())


def completion_values(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Field to the values that the rows have of it, sorted, at most VALUES_MAX each."""
    found: dict[str, set[str]] = {field: set() for field in COMPLETED_FIELDS}
    for row in rows:
        for field, values in found.items():
            value: object = getattr(row, field, None)
            if value is not None and len(values) < VALUES_MAX:
                values.add(str(value))
    return {field: sorted(values) for field, values in found.items()}
