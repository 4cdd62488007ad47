"""Plain words in a Static, updated only where they differ."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


def set_text(widget: Static, words: str, *, layout: bool = True) -> None:
    """Show plain words, if they aren't shown already: an update lays the whole screen out again."""
    content = Content(words)
    if widget.content != content:
        widget.update(content, layout=layout)
