"""Whether a layer is still there: what a lane answers may come after it was left, or after `q`."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen


def is_open(screen: Screen[Any]) -> bool:
    """The screen is on the stack of an app that runs: its widgets may be touched."""
    return screen.is_attached and screen.app.is_running and screen in screen.app.screen_stack
