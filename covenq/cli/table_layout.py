"""What of a table is shown in so many columns of a terminal: which of its columns, how wide, and how its ids are written.

It decides what a person who looks for one row sees of each. A row is one line. Where there is no room for all, what says nothing
goes first: columns without a cell, then those that are the same in every row, which is said below the table once. Then ids are
written short, as commands take them, and columns go by rank. What is left is cut where it may be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

from covenq.text import shorten, width

GAP = "  "
LEAST = 8
"""Columns that what may be cut is cut to at last, on a terminal narrower than foreseen."""

Row = TypeVar("Row")
"""What a table has a line for: a command's own object, of which each column makes its cell."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column: its heading, its cells, and what becomes of it on a narrow terminal."""

    heading: str
    cell: Callable[[Row], object]
    right: bool = False
    """Whether cells are aligned right."""
    shrink: int | None = None
    """The least width it may shrink to; None: it is never cut, because an id that is cut is no id."""
    colour: Callable[[str], str] | None = None
    rank: int = 0
    """Of columns that don't fit, the highest rank goes first; 0 never goes."""
    cut: Callable[[str, int], str] = shorten
    """How a cell is cut."""
    short: int = 0
    """Of ids that may be written short: the least characters, of which more are shown where they don't tell them apart."""
    wraps: bool = False
    """Whether its cells are sentences, which are wrapped at words where others are cut; or paths, which are whole on a line of
    their own if it is the last column."""


@dataclass(slots=True)
class Layout:
    """Of a table's columns those that are shown, by their index, with their widths."""

    widths: dict[int, int]
    prefix: dict[int, int] = field(default_factory=dict)
    """Of the ids that are written short, how long they are."""
    constant: dict[int, str] = field(default_factory=dict)
    """Those that are not shown because every row of the sample has this cell; an empty one too."""
    dropped: list[int] = field(default_factory=list)
    """Those that there is no room for."""

    def total(self) -> int:
        return total(self.widths.values())


def total(widths: Collection[int]) -> int:
    """The columns that cells of these widths take in a line."""
    return sum(widths) + len(GAP) * max(0, len(widths) - 1)


def layout(
    columns: Sequence[Column[Row]], rows: Sequence[Sequence[str]], room: int | None, *, more: bool = False
) -> Layout:
    """What is shown of rows of cells in `room` columns; everything, whole, without it. `more`: these are not all rows."""
    found = Layout(
        {i: max(width(column.heading), *(width(row[i]) for row in rows)) for i, column in enumerate(columns)}
    )
    if room is None or found.total() <= room:
        return found
    _drop_constant(found, columns, rows, room)
    if found.total() > room:
        _write_short(found, columns, rows, more)
    least = _least_widths(columns, rows, room)
    while _least_total(found, least) > room:
        able = [i for i in found.widths if columns[i].rank]
        if not able:
            break
        worst = max(able, key=lambda i: columns[i].rank)
        del found.widths[worst]
        found.dropped.append(worst)
    for each in (least, dict.fromkeys(least, LEAST)):
        shrink(found.widths, {i: wide for i, wide in each.items() if i in found.widths}, room)
    last = next(reversed(found.widths))
    if columns[last].wraps:
        shrink(found.widths, {last: LEAST}, room)
    found.dropped.sort()
    return found


def _drop_constant(found: Layout, columns: Sequence[Column[Row]], rows: Sequence[Sequence[str]], room: int) -> None:
    """Drop the columns without a cell, then of those that are the same in every row as many as needed, the highest rank first."""
    able = sorted((i for i, column in enumerate(columns) if column.rank), key=lambda i: -columns[i].rank)
    for i in able:
        if not any(row[i] for row in rows):
            found.constant[i] = ""
            del found.widths[i]
    for i in able:
        if found.total() <= room or len(rows) < 2:
            return
        if i in found.widths and columns[i].heading and all(row[i] == rows[0][i] for row in rows):
            found.constant[i] = rows[0][i]
            del found.widths[i]


def _write_short(found: Layout, columns: Sequence[Column[Row]], rows: Sequence[Sequence[str]], more: bool) -> None:
    for i in found.widths:
        least = columns[i].short
        if least:
            # Of many rows those of the sample may differ in fewer characters than all do.
            length = max(least, telling(row[i] for row in rows)) + (4 if more else 0)
            shown = max(width(columns[i].heading), *(width(row[i][:length]) for row in rows))
            if shown < found.widths[i]:
                found.widths[i], found.prefix[i] = shown, length


def telling(ids: Iterable[str]) -> int:
    """How many of their first characters tell all of them apart."""
    return max((_alike(one, other) + 1 for one, other in pairwise(sorted(set(ids)))), default=0)


def _alike(one: str, other: str) -> int:
    """How many characters they begin with are the same."""
    differs = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differs, min(len(one), len(other)))


def _least_widths(columns: Sequence[Column[Row]], rows: Sequence[Sequence[str]], room: int) -> dict[int, int]:
    """The least width of each column that may be cut: of sentences that of a long word, if that leaves room for others."""
    found = {i: column.shrink for i, column in enumerate(columns) if column.shrink is not None}
    for i in found:
        if columns[i].wraps:
            longest = max((width(word) for row in rows for word in row[i].split()), default=0)
            found[i] = max(found[i], min(longest, room // 3))
    return found


def _least_total(found: Layout, least: dict[int, int]) -> int:
    """The columns that the table takes at least."""
    return total([min(wide, least.get(i, wide)) for i, wide in found.widths.items()])


def shrink(widths: dict[int, int], least: dict[int, int], room: int) -> None:
    """Take the excess from the widest of those that have a least width, one by one, in place."""
    excess = total(widths.values()) - room
    while excess > 0:
        able = [i for i in least if widths[i] > least[i]]
        if not able:
            return
        widths[max(able, key=lambda i: widths[i])] -= 1
        excess -= 1
