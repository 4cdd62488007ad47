"""What waits, and why, as lines of the Overview: of each cause how many, what holds them, and what to type.

They serve one decision: what to do about work that doesn't move.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from covenq.model.waiting import TONES, glyph, scope_name, waiting_text
from covenq.tui import text
from covenq.tui.widgets.lines import Line

if TYPE_CHECKING:
    from covenq.model.waiting import WaitingTasks

_NUMBER, _SCOPE = 9, 20
"""Cells of how many, and of what holds them."""
_TEXT_MIN = 24


def waiting_lines(found: Sequence[WaitingTasks], now: float, width: int) -> list[Line]:
    """The section, empty if nothing waits; no line is cut in a word that fits into the width."""
    if not found:
        return []
    lines: list[Line] = [[("Waiting", "bold"), (f"  {text.number(sum(one.count for one in found))}", "")]]
    for one in found:
        style = TONES.get(one.cause, "")
        scope = text.fit(text.clean(scope_name(one.scope)), _SCOPE)
        head = f"  {glyph(one.cause)} {text.number(one.count):>{_NUMBER}} {scope}  "
        words = text.clean(waiting_text(one, now))
        if one.oldest is not None:
            words += f"; oldest {text.age(one.oldest, now)}"
        indent = text.cells(head)
        if width - indent < _TEXT_MIN:
            lines.append([(head, style)])
            indent, head = 6, " " * 6
        rest = textwrap.wrap(words, max(_TEXT_MIN, width - indent), break_long_words=False, break_on_hyphens=False)
        command = text.clean(one.command or "")
        if command and text.cells(rest[-1]) + 2 + text.cells(command) <= width - indent:
            beside, command = f"  {command}", ""
        else:
            beside = ""
        lines += [[(head if not n else " " * indent, style), (part, "")] for n, part in enumerate(rest)]
        lines[-1].append((beside, "bold"))
        if command:
            lines.append([(" " * max(0, min(indent, width - text.cells(command))), ""), (command, "bold")])
    return lines
