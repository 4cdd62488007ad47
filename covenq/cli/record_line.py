"""A record of the journal as a line on stdout, for `covenq tail` and `covenq listen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covenq.cli import output
from covenq.cli.output import clean

if TYPE_CHECKING:
    from covenq.model.answers import TailItem

HANG = 22
"""Columns by which later lines are indented: only times stand where a record begins."""
KIND_COLOURS = {"received": output.WARNING, "completed": output.GOOD, "failed": output.BAD, "retry": output.BAD}


def print_record(item: TailItem, json: bool = False) -> None:
    """Print it."""
    if json:
        output.emit_jsonl([item])
        return
    # Here, because it imports the state's tables, which `--help` doesn't need.
    from covenq.operate.inspect.tail import line_parts as parts_of

    coloured = output.has_colour(output.stdout())
    _, _, word = item.kind.partition(".")
    kind = output.paint(f"{clean(item.kind):<20}", KIND_COLOURS.get(word, ""), coloured)
    rest = "  ".join(clean(part) for part in parts_of(item) if part)
    output.prose(f"{output.timestamp(item.at)}  {item.seq:>8}  {kind}  {rest}".rstrip(), HANG)
