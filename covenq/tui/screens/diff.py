"""Two deliveries side by side: what differs in what is known of them, in their headers and in their payloads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from covenq.client.interface import Source
from covenq.errors import Failure, NotFound
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.is_open import is_open
from covenq.tui.widgets.jsondiff import ABSENT, LIMIT, Difference, differences
from covenq.tui.widgets.jsontree import decoded, shown
from covenq.tui.widgets.lines import Line, Lines

LEFT_OUT = frozenset({"ok", "headers", "tasks", "last_seq"})
"""Of a delivery's object: told elsewhere, or different by nature."""


def lines(old: Mapping[str, Any], new: Mapping[str, Any], bodies: tuple[object, object]) -> list[Line]:
    """The differences of two delivery objects and their decoded payloads (None: dropped), in words."""
    one = {name: value for name, value in old.items() if name not in LEFT_OUT}
    other = {name: value for name, value in new.items() if name not in LEFT_OUT}
    found: list[Line] = []
    found += _section("Delivery", differences(one, other))
    found += _section("Headers", differences(_headers(old), _headers(new)))
    if None in bodies:
        found += [[("", "")], [("Payload", "bold")], [("  a payload that was dropped can't be compared", "dim")]]
    else:
        found += _section("Payload", differences(*bodies))
    return found


def _headers(delivery: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in delivery.get("headers") or ()}


def _section(title: str, found: Iterator[Difference]) -> list[Line]:
    listed: list[Line] = [[("", "")], [(title, "bold")]]
    count = 0
    for count, one in enumerate(itertools.islice(found, LIMIT), 1):  # noqa: B007 - told below
        listed.append([(f"  {text.clean(one.path) or '.'}", "")])
        listed += [_side("-", one.old, "red"), _side("+", one.new, "green")]
    if not count:
        listed.append([("  the same", "dim")])
    elif next(found, None) is not None:
        listed.append([(f"  … only the first {text.number(LIMIT)} are listed", "yellow")])
    return listed


def _side(mark: str, value: Any, style: str) -> Line:
    return [(f"    {mark} ", style), ("(absent)" if value is ABSENT else shown(value)[0], style)]


def read(source: Source, one: str, other: str) -> list[Line]:
    """Both, compared. Blocks. Raises Failure."""
    old, new = source.delivery(one), source.delivery(other)
    return lines(old, new, (_payload(source, one), _payload(source, other)))


def _payload(source: Source, id: str) -> object:
    try:
        return decoded(source.payload(id))
    except NotFound:
        return None


class DiffScreen(Screen[None]):
    """`-` is the first delivery, `+` the second. Esc peels it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, one: str, other: str, source: Callable[[], Source | None], lane: BackgroundThread) -> None:
        super().__init__()
        self._ids = (one, other)
        self._source = source
        self._lane = lane

    def compose(self) -> ComposeResult:
        one, other = (text.clean(id) for id in self._ids)
        yield Static(Content(f"- {one}\n+ {other}"), id="diff-title")
        yield Lines([[("… reading", "dim")]])
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self._load()

    @work(group="diff")
    async def _load(self) -> None:
        source, (one, other) = self._source(), self._ids
        if source is None:
            return
        try:
            found = await self._lane.call(lambda: read(source, one, other))
        except Failure as error:
            found = [[(f"✗ {text.clean(error)}", "red")], [(text.clean(error.hint), "")]]
        if is_open(self):
            self.query_one(Lines).show(found)
