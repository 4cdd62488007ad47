"""The line above every page: the tabs, and the source's state. What it says are pure functions to text."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.widgets import Static

from covenq.client.interface import Source
from covenq.tui import text

PAGES = (
    ("1", "overview", "Overview"),
    ("2", "deliveries", "Deliveries"),
    ("3", "tasks", "Tasks"),
    ("4", "attempts", "Attempts"),
    ("5", "journal", "Journal"),
)
"""Key, name and title of each page."""


_TITLE = " covenq "


class Tabs(Static):
    """The line with the tabs: a click on one opens its page, as its key does."""

    async def on_click(self, event: events.Click) -> None:
        name = page_at(event.x)
        if name is not None:
            await self.run_action(f"app.page('{name}')")


def tabs(page: str, source_state: str) -> Content:
    shown: list[Content | str | tuple[str, str]] = [(_TITLE, "bold")]
    for key, name, title in PAGES:
        shown.append((_tab(key, title), "reverse" if name == page else ""))
    shown.append((f"  {source_state}", ""))
    return Content.assemble(*shown)


def _tab(key: str, title: str) -> str:
    return f" {key} {title} "


def page_at(column: int) -> str | None:
    """The page whose tab is at this column of the line; None where there is none."""
    end = len(_TITLE)
    for key, name, title in PAGES:
        start, end = end, end + len(_tab(key, title))
        if start <= column < end:
            return name
    return None


def source_state(source: Source | None, error: BaseException | None, *, read_only: bool) -> str:
    """Whether a daemon answers, and where; `error` is why there is no source."""
    if source is None:
        return "… opening" if error is None else "✗ no source"
    mode = "  read-only" if read_only else ""
    return f"{'● live' if source.live else '○ stopped'}{mode}  {text.clean(source.where)}"
