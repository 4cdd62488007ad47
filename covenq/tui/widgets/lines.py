"""A scrolling document by Textual's Line API: prepared lines, of which only those in view are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from covenq.model.palette import DARK
from covenq.tui import text
from covenq.tui.theme import palette_in_use, run_style, selected_style

Line = list[tuple[str, str]]
"""Runs of (clean text, tone or a Rich style without colours)."""


class Link(NamedTuple):
    """What a line opens: the name of a list, and the filter that it is listed by."""

    page: str
    filter: str


class LinkedLine(list[tuple[str, str]]):
    """A line that opens a list."""

    def __init__(self, runs: Iterable[tuple[str, str]], link: Link | None) -> None:
        super().__init__(runs)
        self.link = link


def link_of(line: Line) -> Link | None:
    return line.link if isinstance(line, LinkedLine) else None


WIDTH_MAX = 4000
"""Cells of the longest line that can be scrolled to; longer lines are cut with an ellipsis."""


def labelled(name: str, value: object, style: str = "") -> Line:
    """A label and its value, cleaned; an absent one is a dash."""
    return [(f"  {name:<12}", "muted"), (text.ABSENT if value is None else text.clean(value), style)]


def plain(lines: Sequence[Line]) -> str:
    """The document as text."""
    return "\n".join("".join(run for run, _ in line) for line in lines)


def _without_first_cell(line: Line) -> Line:
    """Of a line that begins with a space, for a mark in its place."""
    return [(line[0][0].removeprefix(" "), line[0][1]), *line[1:]] if line else []


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
        self.cursor: int | None = None
        """The line that is marked, in a document that has one to choose."""
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
        if index == self.cursor:
            marked = [("▸", ""), *_without_first_cell(self.lines[index])]
            line = [Segment(run, selected_style(self._palette, tone, base)) for run, tone in marked]
            return Strip(line).adjust_cell_length(width, selected_style(self._palette, "", base))
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
