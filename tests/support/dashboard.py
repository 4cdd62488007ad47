"""Drives the dashboard through Textual's Pilot: opens it, waits for it, reads what it has drawn."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from textual.pilot import Pilot
from textual.widgets import Static

from covenq.client.interface import Source
from covenq.client.open import open_source
from covenq.config.load import Config
from covenq.model.rows import Delivery, LatestAttempt, Task
from covenq.tui.app import Dashboard
from covenq.tui.panes.filter_input import FilterInput
from covenq.tui.widgets.lines import Lines, plain

SIZES = [(80, 24), (160, 50)]

PYTHON = json.dumps(sys.executable)

ROUTES = f"""
[worker]
concurrency = 1

[[route]]
name = "fine"
match = "event:issues action:opened"
run = [{PYTHON}, "-c", "pass"]

[[route]]
name = "bad"
match = "event:issues action:closed"
run = [{PYTHON}, "-c", "raise SystemExit(3)"]
"""


def dashboard(data: Path, *, read_only: bool = False, filters: Path | None = None) -> Dashboard:
    def opener() -> Source:
        return open_source(data, Config())

    return Dashboard(opener, data, read_only=read_only, filters=filters or data / "filters.json")


async def until(pilot: Pilot[int], true: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    """Wait until `true()` holds, letting the dashboard run."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}\n{drawn(pilot.app)}"
        await pilot.pause(0.02)
    await pilot.pause()


def drawn(app: object) -> str:
    """The screen as text, line by line."""
    assert isinstance(app, Dashboard)
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def notices(app: Dashboard) -> str:
    """What the notices say that are shown at the moment; on the screen their words are wrapped."""
    return " ".join(one.message for one in app._notifications)


def rows(app: Dashboard) -> list[str]:
    """The rows in view, as drawn."""
    assert app.pane is not None
    table = app.pane.table
    texts = [table.render_line(y).text for y in range(1, table.size.height)]
    return [line for line in texts if line.strip()]


R = TypeVar("R", Delivery, Task, LatestAttempt)


def loaded(app: Dashboard, kind: type[R]) -> list[R]:
    """The rows that are loaded of the list in view, oldest first."""
    assert app.pane is not None
    kept = app.pane.table.rows
    return [row for at in range(kept.count) if isinstance(row := kept.row(at), kind)]


def current_row(app: Dashboard, kind: type[R]) -> R | None:
    """The row under the cursor, if it is loaded."""
    row = app.pane.table.current if app.pane is not None else None
    return row if isinstance(row, kind) else None


def first_row(app: Dashboard) -> str:
    """The first row in view, empty while none is drawn."""
    return next(iter(rows(app)), "")


def row_count(app: Dashboard) -> int:
    return app.pane.table.rows.count if app.pane is not None and app.pane.table.rows.loaded else -1


def document(app: Dashboard) -> str:
    return plain(app.screen.query_one(Lines).lines)


def static_text(app: Dashboard, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


def on(app: Dashboard, kind: type) -> Callable[[], bool]:
    return lambda: isinstance(app.screen, kind)


async def enter_filter(pilot: Pilot[int], words: str) -> None:
    """Enter a filter, its words at once: Pilot takes long for single keys."""
    await pilot.press("slash")
    assert isinstance(pilot.app.focused, FilterInput)
    pilot.app.focused.value = words
    await pilot.press("enter")
