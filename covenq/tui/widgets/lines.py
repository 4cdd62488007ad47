"""A scrolling document by Textual's Line API: prepared lines, of which only those in view are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from covenq.tui import text

Line = list[tuple[str, str]]
"""Runs of (clean text, Rich style)."""

WIDTH_MAX = 4000
"""Cells of the longest line that can be scrolled to; longer lines are cut with an ellipsis."""


@lru_cache(maxsize=256)
def _style(definition: str) -> Style:
    return Style.parse(definition)


def labelled(name: str, value: object, style: str = "") -> Line:
    """A label and its value, cleaned; an absent one is a dash."""
    return [(f"  {name:<12}", "dim"), (text.ABSENT if value is None else text.clean(value), style)]


def plain(lines: Sequence[Line]) -> str:
    """The document as text."""
    return "\n".join("".join(run for run, _ in line) for line in lines)


class Lines(ScrollView, can_focus=True):
    """Shows `lines`. Arrow keys, page keys, `g` and `G` scroll."""

    DEFAULT_CSS = """
    Lines { height: 1fr; scrollbar-size: 1 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "End", show=False),
    ]

    def __init__(self, lines: Sequence[Line] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: Sequence[Line] = []
        self._base: Style | None = None
        self._strips: dict[int, Strip] = {}
        self.show(lines)

    def show(self, lines: Sequence[Line]) -> None:
        """Show another document, at the same scroll position."""
        self.lines = lines
        self._strips = {}
        widest = max((sum(cell_len(run) for run, _ in line) for line in lines), default=0)
        self.virtual_size = Size(min(widest, WIDTH_MAX), len(lines))
        self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        self._base = self.rich_style  # visits every ancestor: once for all lines
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        index = round(self.scroll_y) + y
        width = self.size.width
        base = self._base or self.rich_style
        if index >= len(self.lines):
            return Strip.blank(width, base)
        strip = self._strips.get(index)
        if strip is None:
            strip = Strip(Segment(run, _style(style)) for run, style in self.lines[index])
            if strip.cell_length > WIDTH_MAX:
                strip = Strip([*strip.crop(0, WIDTH_MAX - 1), Segment("…")])
            if len(self._strips) > 2000:
                self._strips.clear()
            self._strips[index] = strip
        left = round(self.scroll_x)
        return strip.crop_extend(left, left + width, base).apply_style(base)
