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


GAP = 2


def tabs(page: str, source_state: str, where: str, width: int) -> Content:
    """The pages, the state of the source, and where it is: of a path that is too long the end, which says most."""
    shown: list[Content | str | tuple[str, str]] = [(_TITLE, "bold")]
    for key, name, title in PAGES:
        shown.append((_tab(key, title), "reverse" if name == page else ""))
    shown.append((f"  {source_state}", ""))
    room = width - Content.assemble(*shown).cell_length - GAP
    if end := _end_of(where, room):
        shown.append((" " * GAP + end, ""))
    return Content.assemble(*shown)


def _end_of(where: str, room: int) -> str:
    """A path or an address, or as many of its last parts as there is room for, none if for none."""
    parts = where.split("/")
    shorter = ("/".join(["…", *parts[at:]]) for at in range(1, len(parts)))
    return next((one for one in (where, *shorter) if text.cells(one) <= room), "")


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
    """Whether a daemon answers; `error` is why there is no source."""
    if source is None:
        return "… opening" if error is None else "✗ no source"
    mode = "  read-only" if read_only else ""
    return f"{'● live' if source.live else '○ stopped'}{mode}"
