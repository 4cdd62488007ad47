"""Whether a screen is still open: a background thread's answer may come after it was closed, or after `q`."""

from __future__ import annotations

from typing import TypeVar

from textual.screen import Screen

Result = TypeVar("Result")


def is_on_stack(screen: Screen[Result]) -> bool:
    """The screen is on the stack of a running app: its widgets may be updated."""
    return screen.is_attached and screen.app.is_running and screen in screen.app.screen_stack
