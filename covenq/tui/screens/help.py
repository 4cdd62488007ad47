"""Help: the keys of the focused widget and its ancestors, read from their bindings, and the filter grammar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from covenq.filter.grammar import FIELDS
from covenq.tui import text

Result = TypeVar("Result")

KeyHelp = tuple[str, str]
"""The key as people write it, and what it does."""

GRAMMAR = """\
field:value  field:a,b is either  -field:value  not:field:value  sender:*[bot]
age<1h  since:2d  before:1h  payload.issue.user.login:octocat  "a phrase"
bare words search repo, title and ids; terms are and. Tab completes."""

WIDTH = 70
"""Cells of a line: it is whole on a screen of 80."""
HANGING = 17
"""Cells before what a key does."""

_KEY_NAMES = {
    "slash": "/",
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "escape": "Esc",
    "enter": "Enter",
    "space": "Space",
    "tab": "Tab",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "plus": "+",
    "minus": "-",
    "ctrl+p": "Ctrl+P",
    "ctrl+s": "Ctrl+S",
}
_TEXTUAL_KEYS = frozenset({"ctrl+c", "ctrl+q", "super+c"})
"""Textual's own keys, which the help leaves out."""
_FOCUS_ACTIONS = frozenset({"app.focus_next", "app.focus_previous"})
"""Left out too: most screens have one widget that takes the focus."""
_UNLISTED_KEYS = frozenset({"ctrl+b", "ctrl+f"})
"""Synonyms of PgUp and PgDn."""


def key_name(key: str) -> str:
    """A key as people write it."""
    return _KEY_NAMES.get(key, key)


def key_sections(sections: Iterable[tuple[str, Iterable[Binding]]]) -> list[tuple[str, list[KeyHelp]]]:
    """Bindings as sections of (title, keys). Keys of one action share a line; of bindings of one key the first is listed."""
    listed_keys: set[str] = set()
    found: list[tuple[str, list[KeyHelp]]] = []
    for title, bindings in sections:
        by_action: dict[str, tuple[list[str], str]] = {}
        for binding in bindings:
            if binding.key in listed_keys or binding.key in _UNLISTED_KEYS or not binding.description:
                continue
            listed_keys.add(binding.key)
            names, _ = by_action.setdefault(binding.action, ([], binding.tooltip or binding.description))
            names.append(key_name(binding.key))
        listed = [(" ".join(names), what) for names, what in by_action.values()]
        if listed:
            found.append((title, listed))
    return found


def help_text(sections: list[tuple[str, list[KeyHelp]]], *, grammar: bool) -> str:
    lines: list[str] = []
    for title, listed in sections:
        lines.append(title)
        for names, what in listed:
            first, *rest = text.wrap(what, WIDTH - HANGING)
            lines += [f"  {names:<{HANGING - 3}} {first}", *(" " * HANGING + one for one in rest)]
        lines.append("")
    if grammar:
        lines += ["Filter", *(f"  {line}" for line in GRAMMAR.splitlines()), "", "Fields"]
        row = " "
        for field in FIELDS:
            if len(row) + len(field) > 72:
                lines.append(row)
                row = " "
            row += f" {field}"
        lines += [row, "  payload.*"]
    return "\n".join(lines)


class Help(ModalScreen[None]):
    """The keys of the screen that it was opened over, those of the focused widget first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter", "dismiss", "Close"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, sections: list[tuple[str, list[KeyHelp]]], *, grammar: bool) -> None:
        super().__init__()
        self._text = help_text(sections, grammar=grammar)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content("Keys" if "Filter" not in self._text else "Keys and filters"), id="dialog-title")
            with VerticalScroll():
                yield Static(Content(self._text), id="help")


def sections_of(screen: Screen[Result]) -> list[tuple[str, list[KeyHelp]]]:
    """The keys enabled on `screen` now: the focused widget's, then those of its ancestors, then the app's."""
    by_node: dict[int, tuple[str, list[Binding]]] = {}
    for node, binding in enabled_bindings(screen):
        by_node.setdefault(id(node), (_title(node), []))[1].append(binding)
    return key_sections(by_node.values())


def enabled_bindings(screen: Screen[Result]) -> Iterator[tuple[DOMNode, Binding]]:
    """Each binding enabled on `screen` now, with the node that has it."""
    for node, binding, enabled, _ in screen.active_bindings.values():
        if enabled and not binding.system and binding.key not in _TEXTUAL_KEYS and binding.action not in _FOCUS_ACTIONS:
            yield node, binding


def _title(node: DOMNode) -> str:
    if isinstance(node, App):
        return "Everywhere"
    return "Here" if isinstance(node, Screen) else _TITLES.get(type(node).__name__, type(node).__name__)


_TITLES = {
    "RowTable": "The list",
    "Lines": "The text",
    "OverviewPage": "The overview",
    "JournalPage": "The journal",
    "TreeView": "The tree",
    "ListPane": "Its filter",
}
