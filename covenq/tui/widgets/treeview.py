"""The widget of a JSON tree, by Textual's Line API, so a payload of a million nodes scrolls like a small one."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from covenq.tui.theme import palette_in_use, run_style, selected_style
from covenq.tui.widgets.jsontree import Node, Tree, render_value

_INDENT = 2


class TreeView(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows `tree`; the cursor is on one node. Enter and Space fold, `+` opens all below, `-` closes all below."""

    DEFAULT_CSS = """
    TreeView { height: 1fr; overflow-x: hidden; scrollbar-size: 1 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("g,home", "edge(-1)", "Top", show=False),
        Binding("G,end", "edge(1)", "End", show=False),
        Binding("enter,space", "fold", "Fold"),
        Binding("right,l", "open", "Open", show=False),
        Binding("left,h", "close", "Close", show=False),
        Binding("plus", "open_below", "Open all"),
        Binding("minus", "close_below", "Close all"),
    ]

    class CursorMoved(Message):
        """The cursor is on another node."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, TreeView.CursorMoved)

    def __init__(self, value: object = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.tree_model = Tree(value)
        self.cursor = 0

    def show(self, value: object) -> None:
        """Show another document, from its root."""
        self.tree_model = Tree(value)
        self.cursor = 0
        self._tree_changed()

    @property
    def current(self) -> Node:
        lines = self.tree_model.lines
        return lines[min(self.cursor, len(lines) - 1)]

    def go_to(self, node: Node) -> None:
        """Put the cursor on a node, opening its ancestors."""
        self.cursor = self.tree_model.reveal(node)
        self._tree_changed()

    def render_line(self, y: int) -> Strip:
        index = round(self.scroll_y) + y
        width, base = self.scrollable_content_region.width, self.rich_style
        lines = self.tree_model.lines
        if index >= len(lines):
            return Strip.blank(width, base)
        node, current = lines[index], index == self.cursor
        mark = ("▾ " if node.open else "▸ ") if node.has_children else "  "
        value, style = render_value(node.value)
        if node.open and node.hidden_count:
            value += f"  the first {len(node.children()):,} of {node.size:,}"
        palette = palette_in_use(self.app.theme)
        line = selected_style(palette, "", base) if current else base
        drawn = [
            Segment(" " * (_INDENT * node.depth) + mark + node.name, line + Style(bold=True)),
            Segment("  ", line),
            Segment(value, selected_style(palette, style, base) if current else base + run_style(palette, style)),
        ]
        return Strip(drawn).adjust_cell_length(width, line)

    def on_mount(self) -> None:
        self._tree_changed()

    def on_resize(self, event: events.Resize) -> None:
        self._tree_changed()

    def on_click(self, event: events.Click) -> None:
        index = round(self.scroll_y) + event.y
        if index < len(self.tree_model.lines):
            was_current = index == self.cursor
            self._move_cursor(index)
            if was_current:
                self.action_fold()

    def _tree_changed(self) -> None:
        count = len(self.tree_model.lines)
        self.virtual_size = Size(1, count)
        self._move_cursor(min(self.cursor, count - 1))

    def _move_cursor(self, index: int) -> None:
        self.cursor = max(0, min(index, len(self.tree_model.lines) - 1))
        height, top = max(1, self.size.height), round(self.scroll_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, force=True)
        self.refresh()
        self.post_message(self.CursorMoved())

    def action_move(self, step: int) -> None:
        self._move_cursor(self.cursor + step)

    def action_page(self, direction: int) -> None:
        self._move_cursor(self.cursor + direction * max(1, self.size.height - 1))

    def action_edge(self, direction: int) -> None:
        self._move_cursor(0 if direction < 0 else len(self.tree_model.lines) - 1)

    def action_fold(self) -> None:
        self.tree_model.toggle(self.current)
        self._tree_changed()

    def action_open(self) -> None:
        if self.current.open:
            self.action_move(1)
            return
        self.tree_model.set_open(self.current, True)
        self._tree_changed()

    def action_close(self) -> None:
        node = self.current
        if (not node.open or not node.has_children) and node.parent is not None:
            self.go_to(node.parent)
            return
        self.tree_model.set_open(node, False)
        self._tree_changed()

    def action_open_below(self) -> None:
        self.tree_model.open_below(self.current)
        self._tree_changed()

    def action_close_below(self) -> None:
        node = self.current
        self.tree_model.close_below(node)
        self.go_to(node)
