"""A delivery's payload as a tree: fold, search, copy the path or the value of a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from covenq.client.interface import Source
from covenq.errors import Failure
from covenq.json_text import json_text
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.jsontree import Node, decode_payload
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.treeview import TreeView

COPIED_MAX = 64 * 1024
"""Characters put on the clipboard at most: terminals drop much longer ones."""


class SearchInput(Input):
    """The line that a search is typed in. Enter goes to the next match, Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.focus_next", "Back", show=False)]


class PayloadScreen(Screen[None]):
    """Read when it is opened; a payload never changes. Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("slash", "search", "Search", priority=True),  # before the next key is handed on, to the tree
        Binding("n", "find_next(1)", "Next"),
        Binding("N", "find_next(-1)", "Previous", show=False),
        Binding("y", "copy_path", "Copy path"),
        Binding("Y", "copy_value", "Copy value"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, id: str, source: Callable[[], Source | None], thread: BackgroundThread) -> None:
        super().__init__()
        self._delivery = id
        self._source = source
        self._thread = thread
        self._query = ""

    def compose(self) -> ComposeResult:
        yield Static(Content(f"payload of {text.clean(self._delivery)}"), id="detail-title")
        yield SearchInput(id="search", placeholder="a name, or part of a value", compact=True)
        yield TreeView()
        yield Static("… reading", id="payload-line")
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one("#search").display = False
        self.query_one(TreeView).focus()
        self._load()

    @property
    def view(self) -> TreeView:
        return self.query_one(TreeView)

    @work(group="payload")
    async def _load(self) -> None:
        source, id = self._source(), self._delivery
        if source is None:
            self._show_status("there is no source at the moment")
            return
        try:
            value = await self._thread.call(lambda: decode_payload(source.payload(id)))
        except Failure as error:
            self._show_status(f"✗ {text.clean(error)} {text.clean(error.hint)}")
            return
        if is_on_stack(self):
            self.view.show(value)

    def _show_status(self, words: str) -> None:
        if is_on_stack(self):
            self.query_one("#payload-line", Static).update(Content(words))

    def on_tree_view_cursor_moved(self) -> None:
        node = self.view.current
        self._show_status(f"{text.clean(node.path) or '.'}")

    # Searching

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not isinstance(self.focused, SearchInput) if action == "search" else True

    def action_search(self) -> None:
        line = self.query_one(SearchInput)
        line.display = True
        line.value = self._query
        self.set_focus(line)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._query = event.value
        self._leave_search()
        self._find(1)

    def _leave_search(self) -> None:
        self.query_one(SearchInput).display = False
        self.view.focus()

    def action_find_next(self, direction: int) -> None:
        self._find(direction)

    @work(group="search", exclusive=True)
    async def _find(self, direction: int) -> None:
        view, query = self.view, self._query
        if not query:
            return
        tree, current = view.tree_model, view.current
        # On another thread: a large payload has a million nodes.
        try:
            found: Node | None = await self._thread.call(lambda: tree.find(query, current, backwards=direction < 0))
        except Failure as error:
            self._show_status(f"✗ {text.clean(error)} {text.clean(error.hint)}")
            return
        if not is_on_stack(self):
            return
        if found is None:
            self._show_status(f"nothing holds {text.clean(query)!r}")
        else:
            view.go_to(found)

    # Copying

    def action_copy_path(self) -> None:
        self._copy(self.view.current.path or ".")

    def action_copy_value(self) -> None:
        value = self.view.current.value
        try:
            self._copy(value if isinstance(value, str) else json_text(value, indent=2))
        except ValueError:
            self._show_status("it holds a number too large to be read exactly; covenq show --payload writes it")

    def _copy(self, words: str) -> None:
        if len(words) > COPIED_MAX:
            self._show_status("too long for a clipboard; covenq show --payload writes it to a file")
            return
        self.app.copy_to_clipboard(words)
        self._show_status(f"copied: {text.clean(words[:200])}")

    def action_leave(self) -> None:
        if self.query_one(SearchInput).has_focus:
            self._leave_search()
        else:
            self.dismiss(None)
