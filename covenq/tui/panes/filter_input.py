"""The keys of the line that a filter is typed in, and the values it completes from the rows listed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from textual.events import Key as KeyEvent
from textual.message import Message
from textual.widgets import Input

from covenq.tui.rows import Row

COMPLETED_FIELDS = (
    "repo", "event", "action", "route", "sender", "owner", "label", "worker", "node", "reason", "secret", "number", "guid",
    "id",
)  # fmt: skip
"""Fields whose values are suggested from the rows listed."""
VALUES_MAX = 200
"""Values suggested of each field."""


class FilterInput(Input):
    """Tab completes, down and up choose, Enter applies what stands there, Esc leaves the filter as it was."""

    class Cancelled(Message):
        """Esc was pressed."""

    class Completed(Message):
        """Tab was pressed."""

    class Moved(Message):
        """Down (1) or up (-1) was pressed."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    async def on_key(self, event: KeyEvent) -> None:
        message: Message
        match event.key:
            case "tab":
                message = self.Completed()
            case "escape":
                message = self.Cancelled()
            case "down" | "up":
                message = self.Moved(1 if event.key == "down" else -1)
            case _:
                return
        event.stop()
        event.prevent_default()
        self.post_message(message)


def completion_values(rows: Iterable[Row], routes: Iterable[str] = ()) -> dict[str, list[str]]:
    """Field to the values that the rows have of it, sorted, at most VALUES_MAX each; `routes` are there beside theirs."""
    found: dict[str, set[str]] = {field: set() for field in COMPLETED_FIELDS}
    found["route"].update(islice(routes, VALUES_MAX))
    for row in rows:
        for field, values in found.items():
            value: object = getattr(row, field, None)
            if value is not None and len(values) < VALUES_MAX:
                values.add(str(value))
    return {field: sorted(values) for field, values in found.items()}
