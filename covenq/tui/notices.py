"""Short notices in the corner of the dashboard. They are plain text: nothing in them is parsed as markup."""

from __future__ import annotations

from typing import Any

from textual.app import App

from covenq.errors import CovenqError
from covenq.tui import text
from journal.errors import JournalError


def notify(app: App[Any], words: str, *, error: bool = False) -> None:
    app.notify(words, severity="error" if error else "information", markup=False)


def notify_failure(app: App[Any], failure: CovenqError | JournalError) -> None:
    """What failed, and its hint."""
    notify(app, f"{text.clean(failure)}. {text.clean(failure.hint)}", error=True)
