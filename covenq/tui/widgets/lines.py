"""A scrolling document by Textual's Line API: prepared lines, of which only those in view are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from covenq.model.palette import DARK
from covenq.tui import text
from covenq.tui.theme import palette_in_use, run_style

Line = list[tuple[str, str]]
"""Runs of (clean text, tone or a Rich style without colours)."""

WIDTH_MAX = 4000
"""Cells of the longest line that can be scrolled to; longer lines are cut with an ellipsis."""


def labelled(name: str, value: object, style: str = "") -> Line:
    """A label and its value, cleaned; an absent one is a dash."""
    return [(f"  {name:<12}", "muted"), (text.ABSENT if value is None else text.clean(value), style)]


def plain(lines: Sequence[Line]) -> str:
    """The document as text."""
    return "\n".join("".join(run for run, _ in line) for line in lines)


class Lines(ScrollView, can_focus=True):
    """Shows `lines`. Arrow keys, page keys, `g` and `G` scroll, to the sides too: a line that goes on ends with an ellipsis."""

    DEFAULT_CSS = """
    Lines { height: 1fr; scrollbar-size: 0 1; }
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
        self._palette = DARK
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
        palette = palette_in_use(self.app.theme)
        if palette is not self._palette:
            self._palette, self._strips = palette, {}
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        index = round(self.scroll_y) + y
        width = self.scrollable_content_region.width
        base = self._base or self.rich_style
        if index >= len(self.lines):
            return Strip.blank(width, base)
        strip = self._strips.get(index)
        if strip is None:
            strip = Strip(Segment(run, run_style(self._palette, style)) for run, style in self.lines[index])
            if strip.cell_length > WIDTH_MAX:
                strip = Strip([*strip.crop(0, WIDTH_MAX - 1), Segment("…")])
            if len(self._strips) > 2000:
                self._strips.clear()
            self._strips[index] = strip
        left = round(self.scroll_x)
        shown = strip.crop_extend(left, left + width, base)
        if strip.cell_length > left + width:  # instead of a bar below, which says so of one line and takes another
            shown = Strip([*shown.crop(0, width - 1), Segment("…")])
        return shown.apply_style(base)
