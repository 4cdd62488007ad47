"""`covenq stats`: what came, over time, by event, repository and route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption, Words
from covenq.cli.output import say
from covenq.cli.table import Column, print_table
from covenq.model import parse_duration

BAR_WIDTH = 24
"""Columns of the longest bar."""

Item = Mapping[str, Any]
Shape = tuple[str, list[Column[Item]]]
"""What is counted, and the columns behind that."""


def stats(
    words: Words = None,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="What came in this time until now: 1h, 7d.")
    ] = "1d",
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Count what came, and what became of it.

    Over time, by event, by repository and by route. The arguments are a filter.

    \b
      covenq stats --since 7d
      covenq stats repo:octo/hello event:issues
    """
    with source(data, config) as opened:
        found = opened.stats(words or [], since_s=parse_duration(since))
    if json:
        output.emit_json(found)
        return
    if not found["deliveries"]:
        say("Nothing that matches came in that time.")
        return
    states = ", ".join(f"{state} {number:,}" for state, number in found["states"].items())
    output.line(
        f"{output.count(found['deliveries'], 'delivery', 'deliveries')}, {output.size(found['bytes'])}: {states}"
    )
    if found["duplicates"]:
        output.line(f"{output.count(found['duplicates'], 'duplicate')} beside them")
    _table("SINCE", [{**one, "name": output.timestamp(one["at"])} for one in found["time"]], _OF_TIME)
    _table("EVENT", found["events"], _OF_DELIVERIES)
    _table("REPOSITORY", found["repos"], _OF_DELIVERIES)
    _table("ROUTE", found["routes"], _OF_TASKS)
    for what, number in found["more"].items():
        if number:
            say(f"{number:,} other {what} came less often.")


def bar(number: int, most: int) -> str:
    """A bar of at most BAR_WIDTH columns, and of at least one for any number above 0."""
    if not number or not most:
        return ""
    mark = "█" if "utf" in (getattr(output.stdout(), "encoding", None) or "").lower() else "#"
    return mark * max(1, round(BAR_WIDTH * number / most))


def _failed(item: Item) -> object:
    return item["failed"] or ""


_OF_TIME: Shape = ("deliveries", [Column("FAILED", _failed, right=True)])
_OF_DELIVERIES: Shape = (
    "deliveries",
    [Column("FAILED", _failed, right=True), Column("IGNORED", lambda item: item["ignored"] or "", right=True)],
)
_OF_TASKS: Shape = (
    "tasks",
    [
        Column("ATTEMPTS", lambda item: item["attempts"], right=True),
        Column("FAILED", lambda item: item["states"].get("failed", ""), right=True),
        Column("WAITING", lambda item: item["states"].get("queued", ""), right=True),
    ],
)


def _table(heading: str, rows: Sequence[Item], shape: Shape) -> None:
    what, more = shape
    if not rows:
        return
    most = max(row[what] for row in rows)
    columns: list[Column[Item]] = [
        Column(heading, lambda row: row["name"] or "-", shrink=12),
        Column(what.upper(), lambda row: row[what], right=True),
        Column("", lambda row: bar(row[what], most)),
        *more,
    ]
    output.line()
    print_table(columns, rows)
