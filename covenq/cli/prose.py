"""Sentences on a terminal: wrapped at words, with a hanging indent, so that none is cut by the terminal in mid-word.

Whoever reads them looks for what to type next: commands, ids and paths are copied from there, so a line ends at a space, and not
inside of `a command between backticks` if it fits on a line. In a pipe nothing is wrapped: who reads that searches it by lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from covenq.text import width

HANG = 2
"""Columns by which a sentence's second and later lines are indented, if nothing else is said."""

_GLUE = "\u00a0"
"""Between the words of what isn't broken. No cleaned text has one, for `output.clean` escapes it."""
_UNIT = re.compile(r"( *)((?:`[^`]*`|[^ ])+)")
"""The spaces before a unit, and the unit: a word, or what stands between backticks, with what touches it."""
_WORD = re.compile(f"([ {_GLUE}]*)([^ {_GLUE}]+)")


def unbroken(text: str) -> str:
    """The text, of which a sentence that it is put into is not broken inside: a command without backticks, or a time."""
    return text.replace(" ", _GLUE)


def wrap(text: str, room: int | None, hang: int = HANG) -> list[str]:
    """The lines of one cleaned line of text: at most `room` columns each, if no word is longer; as it is without `room`.

    All but the first are indented by `hang` columns. Text that fits stays as it is, its spaces too.
    """
    if room is None or width(text) <= room:
        return [text.replace(_GLUE, " ")]
    hang = min(hang, room // 2)
    lines: list[str] = []
    line, used = "", 0
    for gap, unit in _units(text, room):
        taken = width(unit)
        if used + len(gap) + taken > room:
            if line:
                lines.append(line)
            indent = max(0, min(hang if line else len(gap), room - taken))  # a long path is better whole than indented
            line, used = " " * indent + unit, indent + taken
        else:
            line, used = line + gap + unit, used + len(gap) + taken
    return [*lines, line]


def _units(text: str, room: int) -> Iterator[tuple[str, str]]:
    """What is not broken, each with the spaces before it. A unit of several words that fits on no line is given in words."""
    for gap, unit in _UNIT.findall(text):
        if width(unit) <= room:
            yield gap, unit.replace(_GLUE, " ")
            continue
        for number, (inner, word) in enumerate(_WORD.findall(unit)):
            yield (inner if number else gap).replace(_GLUE, " "), word
