"""The line above every page, as pure functions to text: the tabs, and the source's state."""

from __future__ import annotations

from textual.content import Content

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


def tabs(page: str, source_state: str) -> Content:
    shown: list[Content | str | tuple[str, str]] = [(" covenq ", "bold")]
    for key, name, title in PAGES:
        shown.append((f" {key} {title} ", "reverse" if name == page else ""))
    shown.append((f"  {source_state}", ""))
    return Content.assemble(*shown)


def source_state(source: Source | None, error: BaseException | None, *, read_only: bool) -> str:
    """Whether a daemon answers, and where; `error` is why there is no source."""
    if source is None:
        return "… opening" if error is None else "✗ no source"
    mode = "  read-only" if read_only else ""
    return f"{'● live' if source.live else '○ stopped'}{mode}  {text.clean(source.where)}"
