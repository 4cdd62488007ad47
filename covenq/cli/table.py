"""Tables on stdout, drawn alike by every command: aligned columns that fit a terminal, printed row by row.

Not through rich.table, although rich is a dependency. Measured with 2,000 tasks stored, in processor time of the whole
command: `covenq tasks` with its 50 rows took a fifth more (1.20 ×, of which importing rich is most), `covenq secrets` 1.13 ×,
and `covenq tasks --limit 0` 3.4 ×. A rich Table also holds every row until the last is known, where this one holds at most
SAMPLE of a million; and it pads the last column with spaces, which scripts would see.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, TypeVar

from covenq.cli.output import BOLD, clean, has_colour, is_terminal, line, paint, stdout
from covenq.cli.text_width import shorten, width

SAMPLE = 200
"""Rows read before the first is printed, to find the widths. Later rows that are wider make their line longer."""
GAP = "  "

Row = TypeVar("Row")
"""What a table has a line for: a command's own object, of which each column makes its cell."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column: its heading, its cells, its alignment and its least width.

    `cell` is a function from a row to its cell; `right` aligns the cells right; `shrink` is the least width it may shrink to on
    a narrow terminal (None: it is never cut, because an id that is cut is no id).
    """

    heading: str
    cell: Callable[[Row], object]
    right: bool = False
    shrink: int | None = None
    colour: Callable[[str], str] | None = None


def print_table(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> int:
    """Print aligned rows under their headings, as they come; return how many. No rows: no headings either.

    On a terminal, columns that may shrink do so until the line fits; in a pipe nothing is cut.
    """
    out = stdout()
    to_terminal, coloured = is_terminal(out), has_colour(out)
    cells = ([clean(column.cell(row)) for column in columns] for row in rows)
    sample = list(islice(cells, SAMPLE))
    if not sample:
        return 0
    widths = [max(width(column.heading), *(width(row[i]) for row in sample)) for i, column in enumerate(columns)]
    if to_terminal:
        _shrink(columns, widths, shutil.get_terminal_size().columns)
    headings = [_pad(column.heading, widths[i], column.right) for i, column in enumerate(columns)]
    line(paint(GAP.join(headings).rstrip(), BOLD, coloured))
    count = 0
    for row in chain(sample, cells):
        line(_row_text(columns, widths, row, coloured, cut=to_terminal))
        count += 1
    return count


def _shrink(columns: Sequence[Column[Row]], widths: list[int], room: int) -> None:
    """Take the excess from the widest shrinkable columns, one by one, in place."""
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - room
    while excess > 0:
        able = [i for i, column in enumerate(columns) if column.shrink is not None and widths[i] > column.shrink]
        if not able:
            return
        widest = max(able, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1


def _row_text(
    columns: Sequence[Column[Row]], widths: Sequence[int], cells: Sequence[str], coloured: bool, *, cut: bool
) -> str:
    parts = []
    for column, room, cell in zip(columns, widths, cells, strict=True):
        text = shorten(cell, room) if cut and column.shrink is not None else cell
        padded = _pad(text, room, column.right)
        parts.append(paint(padded, column.colour(cell), coloured) if column.colour else padded)
    return GAP.join(parts).rstrip()


def _pad(text: str, to: int, right: bool) -> str:
    gap = " " * max(0, to - width(text))
    return gap + text if right else text + gap
