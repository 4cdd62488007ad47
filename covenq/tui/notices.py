"""Short notices in the corner of the dashboard. They are plain text: nothing in them is parsed as markup."""

from __future__ import annotations

from typing import Literal, Protocol

from covenq.errors import CovenqError
from covenq.tui import text
from journal.errors import JournalError


class Notifier(Protocol):
    """The application, as far as it shows notices."""

    def notify(self, message: str, *, severity: Literal["information", "error"], markup: bool) -> None: ...


def notify(app: Notifier, words: str, *, error: bool = False) -> None:
    app.notify(words, severity="error" if error else "information", markup=False)


def notify_failure(app: Notifier, failure: CovenqError | JournalError) -> None:
    """What failed, and its hint."""
    notify(app, f"{text.clean(failure)}. {text.clean(failure.hint)}", error=True)
