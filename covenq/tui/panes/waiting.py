"""What waits, and why, as lines of the Overview: of each cause how many, what holds them, and what to type.

They serve one decision: what to do about work that doesn't move. A line opens the list of what waits there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from covenq.client.suggestion import suggested
from covenq.filter.explain import quoted
from covenq.model.waiting import TONES, glyph, scope_name, waiting_text
from covenq.tui import text
from covenq.tui.widgets.lines import Line, Link, LinkedLine

if TYPE_CHECKING:
    from covenq.model.waiting import WaitingTasks

_SCOPE_MAX = 20
"""Cells of what holds them."""
LINES_MAX = 8
"""Causes that are told; of more, those that come first in the order of causes, and the number of the others."""
_TEXT_MIN = 24


def waiting_lines(found: Sequence[WaitingTasks], now: float, width: int) -> list[Line]:
    """The section, empty if nothing waits; no line is cut in a word that fits into the width."""
    if not found:
        return []
    lines: list[Line] = [[("Waiting", "bold"), (f"  {text.number(sum(one.count for one in found))}", "")]]
    digits = max(len(text.number(one.count)) for one in found)
    scope_width = min(_SCOPE_MAX, max(text.cells(text.clean(scope_name(one.scope))) for one in found))
    for one in found[:LINES_MAX]:
        style, link = TONES.get(one.cause, ""), _link(one)
        scope = text.fit(text.clean(scope_name(one.scope)), scope_width)
        head = f"  {glyph(one.cause)} {text.number(one.count):>{digits}} {scope}  "
        words = text.clean(waiting_text(one, now))
        if one.oldest is not None:
            words += f"; oldest {text.age(one.oldest, now)}"
        indent = text.cells(head)
        if width - indent < _TEXT_MIN:
            lines.append(LinkedLine([(head, style)], link))
            indent, head = 6, " " * 6
        parts = textwrap.wrap(words, max(_TEXT_MIN, width - indent), break_long_words=False, break_on_hyphens=False)
        command = text.clean(suggested(one.command or ""))
        if command and text.cells(parts[-1]) + 2 + text.cells(command) <= width - indent:
            beside, command = f"  {command}", ""
        else:
            beside = ""
        lines += [
            LinkedLine([(head if not n else " " * indent, style), (part, "")], link) for n, part in enumerate(parts)
        ]
        lines[-1].append((beside, "bold"))
        if command:
            before = " " * max(0, min(indent, width - text.cells(command)))
            lines.append(LinkedLine([(before, ""), (command, "bold")], link))
    if rest := found[LINES_MAX:]:
        more = f"  and {text.number(sum(one.count for one in rest))} for {len(rest)} other causes: covenq status"
        lines.append(LinkedLine([(more, "muted")], Link("tasks", "state:queued")))
    return lines


def _link(one: WaitingTasks) -> Link:
    """The queued tasks of what holds them, as far as a filter can say it."""
    what, _, name = (one.scope or "").partition(" ")
    of = f" {what}:{quoted(name)}" if what in ("route", "repo", "installation") and name else ""
    return Link("tasks", f"state:queued{of}")
