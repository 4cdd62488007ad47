"""Tables on stdout, drawn alike by every command: aligned columns that fit a terminal, printed row by row.

Not through rich.table, although rich is a dependency. Measured with 2,000 tasks stored, in processor time of the whole
command: `covenq tasks` with its 50 rows took a fifth more (1.20 ×, of which importing rich is most), `covenq secrets` 1.13 ×,
and `covenq tasks --limit 0` 3.4 ×. A rich Table also holds every row until the last is known, where this one holds at most
SAMPLE of a million; and it pads the last column with spaces, which scripts would see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest

from covenq.cli.output import BOLD, MUTED, clean, has_colour, line, paint, stdout
from covenq.cli.prose import wrap
from covenq.cli.table_layout import GAP, LEAST, Column, Layout, Row, layout, shrink, total
from covenq.cli.terminal_width import columns as columns_of
from covenq.text import shorten_middle, width

__all__ = ["SAMPLE", "Column", "print_table"]

SAMPLE = 200
"""Rows read before the first is printed, to find the widths. Of later rows that are wider more is cut."""


def print_table(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> int:
    """Print aligned rows under their headings, as they come; return how many. No rows: no headings either.

    On a terminal what doesn't fit is left out, written short or cut (`covenq.cli.table_layout`), and below the table stands what
    was left out; in a pipe nothing is.
    """
    out = stdout()
    room, coloured = columns_of(out), has_colour(out)
    cells = ([clean(column.cell(row)) for column in columns] for row in rows)
    sample = list(islice(cells, SAMPLE))
    if not sample:
        return 0
    following = list(islice(cells, 1))
    found = layout(columns, sample, room, more=bool(following))
    headings = [_padded(columns[i], columns[i].heading, wide) for i, wide in found.widths.items()]
    line(paint(GAP.join(headings).rstrip(), BOLD, coloured))
    count = 0
    varied: set[int] = set()
    for row in chain(sample, following, cells):
        line(_row_text(columns, found, row, room, coloured))
        count += 1
        varied.update(i for i, said in found.constant.items() if row[i] != said)
    for words in _left_out(columns, found, varied):
        line(paint("\n".join(wrap(words, room)), MUTED, coloured))
    return count


def _left_out(columns: Sequence[Column[Row]], found: Layout, varied: set[int]) -> Iterator[str]:
    """What every row has, and the columns that are not shown."""
    same = [
        f"{columns[i].heading.lower()} {said}" for i, said in sorted(found.constant.items()) if said and i not in varied
    ]
    if same:
        yield f"{', '.join(same)} for all"
    dropped = [
        columns[i].heading.lower() for i in sorted({*found.dropped, *varied}) if columns[i].heading
    ]  # or it is a bar
    if dropped:
        yield f"no room for {', '.join(dropped)}"


def _row_text(
    columns: Sequence[Column[Row]], found: Layout, cells: Sequence[str], room: int | None, coloured: bool
) -> str:
    """A row as it is drawn: a line; of one that ends with a sentence, perhaps more."""
    parts = []
    for i, wide in found.widths.items():
        column, text = columns[i], cells[i]
        if i in found.prefix:
            text = text[: found.prefix[i]]
        if room is not None and len(text) > wide // 2 and width(text) > wide:  # no character takes more than two
            shown = {i: cells[i][: found.prefix.get(i)] for i in found.widths}
            return _cut_text(columns, found, shown, room, coloured)
        padded = _padded(column, text, wide)
        parts.append(paint(padded, column.colour(cells[i]), coloured) if column.colour else padded)
    return GAP.join(parts).rstrip()


def _cut_text(columns: Sequence[Column[Row]], found: Layout, shown: dict[int, str], room: int, coloured: bool) -> str:
    """A row of which something is wider than its column: a line, and more where sentences are wrapped."""
    widths = _widths_of_row(columns, found, shown, room)
    last = next(reversed(widths))
    start = total(widths.values()) - widths[last]
    blocks = [_block(columns[i], shown[i], wide, i == last) for i, wide in widths.items()]
    lines = []
    for texts in zip_longest(*blocks, fillvalue=""):
        parts = []
        for (i, wide), text in zip(widths.items(), texts, strict=True):
            padded, colour = _padded(columns[i], text, wide), columns[i].colour
            parts.append(paint(padded, colour(shown[i]), coloured) if colour else padded)
        before, end = GAP.join(parts[:-1]).rstrip(), texts[-1]
        if not columns[last].wraps or start + width(end) <= room:
            lines.append(GAP.join(parts).rstrip())
            continue
        if before:  # a path, say, that is whole only on a line of its own
            lines.append(before)
        lines.append(" " * max(0, min(start, room - width(end))) + end)
    return "\n".join(lines)


def _widths_of_row(columns: Sequence[Column[Row]], found: Layout, shown: dict[int, str], room: int) -> dict[int, int]:
    """The widths of a row's cells: its columns', if none of it is wider that isn't cut, as may be in a row after the sample.

    Then others are cut more, and an id that there is no room for is a … in `shown`.
    """
    cuttable = [i for i in found.widths if columns[i].shrink is not None]
    taken = {
        i: width(columns[i].cut(shown[i], wide) if i in cuttable else shown[i]) for i, wide in found.widths.items()
    }
    wider = [i for i, wide in found.widths.items() if taken[i] > wide and not columns[i].wraps]
    if not wider:
        return found.widths
    widths = found.widths | {i: taken[i] for i in wider}
    least = {i: LEAST if columns[i].wraps else width(columns[i].cut(shown[i], 1)) for i in cuttable}
    for i in sorted(wider, key=lambda i: -columns[i].rank):
        shrink(widths, {j: max(LEAST, wide) for j, wide in least.items()}, room)
        if total(widths.values()) > room and columns[i].rank:
            shown[i], widths[i] = "…", found.widths[i]
    shrink(widths, least, room)
    shrink(widths, {i: width(shown[i]) for i in widths if i not in cuttable}, room)  # of this row alone
    return widths


def _block(column: Column[Row], text: str, wide: int, is_last: bool) -> list[str]:
    """The lines of a cell. Of a sentence a word that is longer than its column is cut, but for the last column's."""
    if column.shrink is None and not (column.wraps and is_last):
        return [text]
    if not column.wraps:
        return [column.cut(text, wide)]
    lines = wrap(text, wide, 0)
    return lines if is_last else [shorten_middle(one, wide) for one in lines]


def _padded(column: Column[Row], text: str, to: int) -> str:
    if text.isascii():
        return text.rjust(to) if column.right else text.ljust(to)
    gap = " " * max(0, to - width(text))
    return gap + text if column.right else text + gap
