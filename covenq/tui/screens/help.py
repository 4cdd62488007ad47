"""Help: the keys of what has the focus, read from the bindings themselves, and the filter grammar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from covenq.filter.grammar import FIELDS

Key = tuple[str, str]
"""How a key is shown, and what it does."""

GRAMMAR = """\
field:value  field:a,b is either  -field:value  not:field:value  sender:*[bot]
age<1h  since:2d  before:1h  payload.issue.user.login:octocat  "a phrase"
bare words search repo, title and ids; terms are and. Tab completes."""

_SHOWN = {
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
_TEXTUAL = frozenset({"ctrl+c", "ctrl+q", "super+c"})
"""Keys of Textual's own that we don't tell of."""
_FOCUS = frozenset({"app.focus_next", "app.focus_previous"})
"""Most layers have one thing that has the focus."""
_LEFT_OUT = frozenset({"ctrl+b", "ctrl+f"})


def key_name(key: str) -> str:
    """A key as people write it."""
    return _SHOWN.get(key, key)


def keys(sections: Iterable[tuple[str, Iterable[Binding]]]) -> list[tuple[str, list[Key]]]:
    """Bindings as (title, keys) a section; keys of the same action stand together, and a key is told once."""
    told: set[str] = set()
    found: list[tuple[str, list[Key]]] = []
    for title, bindings in sections:
        by_action: dict[str, tuple[list[str], str]] = {}
        for binding in bindings:
            if binding.key in told or binding.key in _LEFT_OUT or not binding.description:
                continue
            told.add(binding.key)
            names, _ = by_action.setdefault(binding.action, ([], binding.tooltip or binding.description))
            names.append(key_name(binding.key))
        listed = [(" ".join(names), what) for names, what in by_action.values()]
        if listed:
            found.append((title, listed))
    return found


def words(sections: list[tuple[str, list[Key]]], *, grammar: bool) -> str:
    lines: list[str] = []
    for title, listed in sections:
        lines.append(title)
        lines += [f"  {names:<14} {what}" for names, what in listed]
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
    """The keys of the layer it was asked for on, the focused part's first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter", "dismiss", "Close"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, sections: list[tuple[str, list[Key]]], *, grammar: bool) -> None:
        super().__init__()
        self._words = words(sections, grammar=grammar)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Content("Keys" if "Filter" not in self._words else "Keys and filters"), id="dialog-title")
            with VerticalScroll():
                yield Static(Content(self._words), id="help")


def sections_of(screen: Screen[Any]) -> list[tuple[str, list[Key]]]:
    """What can be pressed on `screen` now: the focused part's keys, then those of what it is in, then everyone's."""
    by_node: dict[int, tuple[str, list[Binding]]] = {}
    for node, binding in pressable(screen):
        by_node.setdefault(id(node), (_title(node), []))[1].append(binding)
    return keys(by_node.values())


def pressable(screen: Screen[Any]) -> Iterator[tuple[DOMNode, Binding]]:
    """Each binding that would do something on `screen` now, with whose it is."""
    for node, binding, enabled, _ in screen.active_bindings.values():
        if enabled and not binding.system and binding.key not in _TEXTUAL and binding.action not in _FOCUS:
            yield node, binding


def _title(node: DOMNode) -> str:
    if isinstance(node, App):
        return "Everywhere"
    return "Here" if isinstance(node, Screen) else _TITLES.get(type(node).__name__, type(node).__name__)


_TITLES = {
    "RowTable": "The list",
    "Lines": "The text",
    "Journal": "The journal",
    "TreeView": "The tree",
    "ListPane": "Its filter",
}
