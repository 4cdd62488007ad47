"""The differences of two deliveries: in their state and columns, in their headers and in their payloads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import msgspec
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from covenq.client.interface import Source
from covenq.errors import Failure, NotFound
from covenq.tui import text
from covenq.tui.background import BackgroundThread
from covenq.tui.screens.screen_stack import is_on_stack
from covenq.tui.widgets.jsondiff import ABSENT, DIFFERENCES_MAX, Difference, differences
from covenq.tui.widgets.jsontree import decode_payload, render_value
from covenq.tui.widgets.key_footer import KeyFooter
from covenq.tui.widgets.lines import Line, Lines

if TYPE_CHECKING:
    from covenq.model.rows import OneDelivery

SKIPPED_FIELDS = frozenset({"headers", "tasks", "last_seq"})
"""Fields of a delivery that are compared elsewhere, or always differ."""


def diff_lines(old: OneDelivery, new: OneDelivery, bodies: tuple[object, object]) -> list[Line]:
    """The differences of two deliveries and their decoded payloads (None: dropped by retention)."""
    one, other = (
        {name: value for name, value in msgspec.to_builtins(row).items() if name not in SKIPPED_FIELDS}
        for row in (old, new)
    )
    found: list[Line] = []
    found += _section("Delivery", differences(one, other))
    found += _section("Headers", differences(_headers(old), _headers(new)))
    if None in bodies:
        found += [[("", "")], [("Payload", "bold")], [("  a payload that was dropped can't be compared", "muted")]]
    else:
        found += _section("Payload", differences(*bodies))
    return found


def _headers(delivery: OneDelivery) -> dict[str, str]:
    return dict(delivery.headers or ())


def _section(title: str, found: Iterator[Difference]) -> list[Line]:
    listed: list[Line] = [[("", "")], [(title, "bold")]]
    count = 0
    for count, one in enumerate(itertools.islice(found, DIFFERENCES_MAX), 1):  # noqa: B007 - used below
        listed.append([(f"  {text.clean(one.path) or '.'}", "")])
        listed += [_side("-", one.old, "bad"), _side("+", one.new, "good")]
    if not count:
        listed.append([("  the same", "muted")])
    elif next(found, None) is not None:
        listed.append([(f"  … only the first {text.number(DIFFERENCES_MAX)} are listed", "warning")])
    return listed


def _side(mark: str, value: object, style: str) -> Line:
    return [(f"    {mark} ", style), ("(absent)" if value is ABSENT else render_value(value)[0], style)]


def compare(source: Source, one: str, other: str) -> list[Line]:
    """Read both and compare them. Blocks. Raises Failure."""
    old, new = source.delivery(one), source.delivery(other)
    return diff_lines(old, new, (_payload(source, one), _payload(source, other)))


def _payload(source: Source, id: str) -> object:
    try:
        return decode_payload(source.payload(id))
    except NotFound:
        return None


class DiffScreen(Screen[None]):
    """`-` is the first delivery, `+` the second. Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("question_mark", "app.help", "Help"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, one: str, other: str, source: Callable[[], Source | None], thread: BackgroundThread) -> None:
        super().__init__()
        self._ids = (one, other)
        self._source = source
        self._thread = thread

    def compose(self) -> ComposeResult:
        one, other = (text.clean(id) for id in self._ids)
        yield Static(Content(f"- {one}\n+ {other}"), id="diff-title")
        yield Lines([[("… reading", "muted")]])
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self._load()

    @work(group="diff")
    async def _load(self) -> None:
        source, (one, other) = self._source(), self._ids
        if source is None:
            return
        try:
            found = await self._thread.call(lambda: compare(source, one, other))
        except Failure as error:
            found = [[(f"✗ {text.clean(error)}", "bad")], [(text.clean(error.hint), "")]]
        if is_on_stack(self):
            self.query_one(Lines).show(found)
