"""The line of a dialog for a reason, which is recorded with what is done."""

from __future__ import annotations

from textual.widgets import Input

REASON_MAX = 500
"""Characters."""


class ReasonInput(Input):
    """Empty: no reason is recorded. `key` is what leads to it from where the focus is when the dialog opens."""

    def __init__(self, value: str = "", *, key: str = "Shift+Tab") -> None:
        placeholder = f"reason, if one is to be kept in the journal ({key})"
        super().__init__(value, placeholder=placeholder, id="reason", compact=True, max_length=REASON_MAX)

    @property
    def reason(self) -> str | None:
        return self.value.strip() or None
