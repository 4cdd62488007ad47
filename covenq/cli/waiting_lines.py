"""The lines of what waits, and why: of each cause how many wait, what holds them, and the command that ends it.

They serve one decision: what to do about work that doesn't move. What a person can end stands first; a line without a command
needs none, or none of covenq's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covenq.cli import output
from covenq.cli.output import clean
from covenq.cli.prose import wrap
from covenq.client.suggestion import suggested
from covenq.model.waiting import TONES, WaitingTasks, glyph, scope_name, waiting_text
from covenq.text import shorten, shorten_middle, width

_COLOURS = {"bad": output.BAD, "warning": output.WARNING}
_SCOPE_MAX = 30
_TEXT_MIN = 24
"""Columns that the words need to stand beside what they are about."""
_GAP = "  "


def typed_here(found: Sequence[WaitingTasks]) -> None:
    """Complete the commands with the options by which this command was told where to look."""
    for one in found:
        if one.command is not None:
            one.command = suggested(one.command)


def waiting_lines(found: Sequence[WaitingTasks], now: float, room: int | None, *, coloured: bool) -> Iterator[str]:
    """The lines, each of at most `room` columns where a word, or a command, isn't longer; one for each without `room`."""
    counts = [f"{one.count:,}" for one in found]
    names = [shorten_middle(clean(scope_name(one.scope)), _SCOPE_MAX) for one in found]
    number, name = max(map(len, counts), default=0), max(map(width, names), default=0)
    for one, count, scope in zip(found, counts, names, strict=True):
        head = f"{glyph(one.cause)} {count:>{number}} {scope}{' ' * (name - width(scope))}"
        text = clean(waiting_text(one, now))
        if one.oldest is not None:
            text += f"; oldest {output.elapsed(one.oldest, now)}"
        yield from _laid_out(
            head, text, clean(one.command), room, _COLOURS.get(TONES.get(one.cause, ""), "") if coloured else ""
        )


def _laid_out(head: str, text: str, command: str, room: int | None, colour: str) -> Iterator[str]:
    painted = output.paint(head, colour, bool(colour))
    whole = f"{_GAP}{command}" if command else ""
    if room is None or width(head) + width(_GAP + text + whole) <= room:
        yield f"{painted}{_GAP}{text}{whole}"
        return
    indent = width(head) + len(_GAP)
    if room - indent < _TEXT_MIN:
        yield output.paint(shorten(head.rstrip(), room), colour, bool(colour))
        indent, first = 4, " " * 4
    else:
        first = painted + _GAP
    for line in wrap(text, max(1, room - indent), 0):
        yield first + line
        first = " " * indent
    if command:
        yield " " * max(0, min(indent, room - width(command))) + command
