"""The command palette: the actions available on the screen in view, the pages, and the saved filters, by fuzzy search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.dom import DOMNode

from covenq.tui import text
from covenq.tui.panes.pane import AnyPane
from covenq.tui.screens.help import enabled_bindings, key_name

MOVES = frozenset({"move(-1)", "move(1)", "page(-1)", "page(1)", "oldest", "follow"})
"""Actions of a list that are done with its keys alone: they would come first, before all that one looks for."""


class Host(Protocol):
    """What the palette needs of the application it is opened over."""

    @property
    def pane(self) -> AnyPane | None: ...
    @property
    def screen_stack(self) -> Sequence[DOMNode]: ...
    async def saved_filters(self) -> dict[str, str]: ...
    async def run_action(self, action: str, default_namespace: DOMNode | None = None) -> bool: ...


class Entry(NamedTuple):
    """Its name, a detail shown below it, and what it runs."""

    name: str
    detail: str
    run: Callable[[], object]


class Commands(Provider):
    """Every enabled key binding of the screen that the palette was opened over; the pages; the saved filters."""

    async def startup(self) -> None:
        app: Host = self.app  # type: ignore[assignment]  # only the dashboard has this provider
        saved = await app.saved_filters() if app.pane is not None and self.screen is app.screen_stack[0] else {}
        self._entries = list(self._entries_of(app, saved))

    def _entries_of(self, app: Host, saved: Mapping[str, str]) -> Iterator[Entry]:
        actions = set()
        for node, binding in enabled_bindings(self.screen):
            if binding.action in actions or not binding.description or binding.action in MOVES:
                continue
            actions.add(binding.action)
            name, _, what = (binding.tooltip or binding.description).partition(": ")
            if binding.action.startswith("page("):
                name, what = "go", binding.description
            title = f"{name}: {what}" if what else name
            yield Entry(title, f"key {key_name(binding.key)}", partial(app.run_action, binding.action, node))
        pane = app.pane
        if pane is not None:
            for name, words in saved.items():
                yield Entry(f"filter: {text.clean(name)}", f"/{text.clean(words)}", partial(pane.apply_filter, words))

    async def discover(self) -> Hits:
        for entry in self._entries:
            yield DiscoveryHit(Content(entry.name), entry.run, entry.name, entry.detail)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for entry in self._entries:
            score = matcher.match(entry.name)
            if score > 0:
                yield Hit(score, matcher.highlight(entry.name), entry.run, entry.name, entry.detail)
