"""A JSON document as a tree that folds: values and arithmetic only, drawn by `covenq.tui.widgets.treeview`.

A payload of 25 MiB has a million nodes, of which a screen shows fifty. So a node's children are made when it is first
opened, and only what is open has lines.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from covenq.tui import text

CHILDREN_MAX = 10_000
"""Children shown of one node; the tree says how many there are, and `covenq show --payload` prints all."""
TEXT_MAX = 2_000
"""Characters shown of a string."""

_CHILDREN_LOCK = threading.Lock()
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(slots=True, eq=False)
class Node:
    """One value. `name` is its key or index as drawn, `path` its path as `covenq show --path` takes it."""

    name: str
    path: str
    value: object
    depth: int
    parent: Node | None = None
    open: bool = False
    _children: list[Node] | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """How many members it has."""
        return len(self.value) if isinstance(self.value, dict | list) else 0

    @property
    def has_children(self) -> bool:
        return self.size > 0

    @property
    def hidden_count(self) -> int:
        """How many children are not shown."""
        return max(0, self.size - CHILDREN_MAX)

    def children(self) -> list[Node]:
        """Made once, at the first call: a search on another thread and the screen must get the same nodes."""
        if self._children is None:
            with _CHILDREN_LOCK:
                if self._children is None:
                    self._children = [self._child(key, value) for key, value in _members(self.value)]
        return self._children

    def _child(self, key: str | int, value: object) -> Node:
        name = f"[{key}]" if isinstance(key, int) else text.clean(key)
        return Node(name, self.path + path_step(key), value, self.depth + 1, self)


def _members(value: object) -> Iterator[tuple[str | int, object]]:
    members: Iterator[tuple[str | int, object]]
    if isinstance(value, dict):
        members = iter(value.items())
    elif isinstance(value, list):
        members = iter(enumerate(value))
    else:
        return
    for _, member in zip(range(CHILDREN_MAX), members, strict=False):
        yield member


def path_step(key: str | int) -> str:
    """One step of a path: `.name`, `[0]`, or `["any other name"]`."""
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if _IDENTIFIER.match(key) else f"[{json.dumps(key)}]"


def render_value(value: object) -> tuple[str, str]:
    """A value in one line, and its style. Of objects and arrays only the size is shown."""
    match value:
        case dict():
            return (f"{{{len(value)}}}" if value else "{}"), "muted"
        case list():
            return (f"[{len(value)}]" if value else "[]"), "muted"
        case str():
            cut = value if len(value) <= TEXT_MAX else value[:TEXT_MAX] + "…"
            return f'"{text.clean(cut)}"', "good"
        case bool():
            return ("true" if value else "false"), "warning"
        case None:
            return "null", "muted"
        case _:
            return text.clean(str(value)[:TEXT_MAX]), "waiting"


class Tree:
    """The document and which of its nodes are open. The lines are the visible nodes, in the document's order."""

    def __init__(self, value: object) -> None:
        self.root = Node("payload", "", value, 0, open=True)
        self._lines: list[Node] | None = None

    @property
    def lines(self) -> list[Node]:
        if self._lines is None:
            self._lines = list(self._walk())
        return self._lines

    def _walk(self) -> Iterator[Node]:
        # A stack, not recursion: a payload may be nested deeper than Python recurses.
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            if node.open and node.has_children:
                stack.extend(reversed(node.children()))

    def set_open(self, node: Node, open: bool) -> None:
        if node.has_children and node.open != open:
            node.open = open
            self._lines = None

    def toggle(self, node: Node) -> None:
        self.set_open(node, not node.open)

    def open_below(self, node: Node, limit: int = 20_000) -> None:
        """Open the node and what is below it, up to `limit` nodes."""
        stack, seen = [node], 0
        while stack and seen < limit:
            one = stack.pop()
            seen += 1
            if one.has_children:
                one.open = True
                stack.extend(one.children())
        self._lines = None

    def close_below(self, node: Node) -> None:
        """Close everything that was opened below the node, and, unless it is the root, the node."""
        stack = [node]
        while stack:
            one = stack.pop()
            one.open = one is self.root
            stack.extend(one._children or ())
        self._lines = None

    def reveal(self, node: Node) -> int:
        """Open every ancestor of the node; its line."""
        above = node.parent
        while above is not None:
            self.set_open(above, True)
            above = above.parent
        return self.lines.index(node)

    def find(self, words: str, after: Node | None = None, *, backwards: bool = False) -> Node | None:
        """The next node, in the document's order and wrapping round its end, whose name or scalar value contains `words`.

        Case-insensitive. Closed nodes are searched too. None if there is no match.
        """
        wanted = words.casefold()
        if not wanted:
            return None
        first: Node | None = None
        before: Node | None = None
        last: Node | None = None
        passed = after is None
        for node in self._all():
            if node is after:
                passed = True
                if backwards and before is not None:
                    return before
                continue
            if not self._matches(node, wanted):
                continue
            if not backwards and passed:
                return node
            first = first or node
            before = last = node
        return last if backwards else first

    @staticmethod
    def _matches(node: Node, wanted: str) -> bool:
        if wanted in node.name.casefold():
            return True
        return not node.has_children and wanted in render_value(node.value)[0].casefold()

    def _all(self) -> Iterator[Node]:
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            if node.has_children:
                stack.extend(reversed(node.children()))


def decode_payload(body: bytes) -> object:
    """The JSON document in a body, or in its form field `payload`; a body that is neither, as text."""
    from covenq.github.request import decode

    found = decode(body)
    return found if found is not None else body.decode("utf-8", "replace")
