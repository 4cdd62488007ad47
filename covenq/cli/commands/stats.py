"""`covenq stats`: what came, over time, by event, repository and route, and how long the routes' tasks waited and ran.

It serves two decisions: which repository or event a change in the load comes from, and which route is slow or fails, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from msgspec.structs import asdict

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.filter_hints import say_unknown_values
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption, Words
from covenq.cli.output import say
from covenq.cli.table import Column, print_table
from covenq.model import parse_duration
from covenq.model.route_times import categories_text, share_text, times_text
from covenq.text import shorten_middle

if TYPE_CHECKING:
    from covenq.model.answers import Interval, NameStats, RouteStats, Stats
    from covenq.model.route_times import RouteTimes

T = TypeVar("T")

BAR_WIDTH = 24
"""Columns of the longest bar."""


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

    Over time, by event, by repository and by route; of each route how many attempts completed, how long its tasks waited for
    their first attempt and how long attempts ran (in half of the cases at most P50, in 19 of 20 at most P95), and why attempts
    failed. The arguments are a filter.

    \b
      covenq stats --since 7d
      covenq stats repo:octo/hello event:issues
    """
    with source(data, config) as opened:
        found = opened.stats(words or [], since_s=parse_duration(since))
        say_unknown_values(opened, words, "deliveries")
    if json:
        output.emit_json(found)
        return
    if not found.deliveries:
        say("Nothing that matches came in that time.")
        return
    states = ", ".join(f"{state} {number:,}" for state, number in found.states.items())
    output.prose(f"{output.count(found.deliveries, 'delivery', 'deliveries')}, {output.size(found.bytes)}: {states}")
    if found.duplicates:
        output.line(f"{output.count(found.duplicates, 'duplicate')} beside them")
    _table(
        "SINCE", found.time, lambda one: output.timestamp(one.at), "deliveries", lambda one: one.deliveries, _OF_TIME
    )
    for heading, rows in (("EVENT", found.events), ("REPOSITORY", found.repos)):
        _table(heading, rows, lambda one: one.name, "deliveries", lambda one: one.deliveries, _OF_DELIVERIES)
    _table("ROUTE", found.routes, lambda one: one.name, "tasks", lambda one: one.tasks, _OF_TASKS)
    _times(found)
    for what, number in asdict(found.more).items():
        if number:
            say(f"{number:,} other {what} came less often.")


def bar(number: int, most: int) -> str:
    """A bar of at most BAR_WIDTH columns, and of at least one for any number above 0."""
    if not number or not most:
        return ""
    mark = "█" if "utf" in (getattr(output.stdout(), "encoding", None) or "").lower() else "#"
    return mark * max(1, round(BAR_WIDTH * number / most))


_OF_TIME: list[Column[Interval]] = [Column("FAILED", lambda one: one.failed or "", right=True)]
_OF_DELIVERIES: list[Column[NameStats]] = [
    Column("FAILED", lambda one: one.failed or "", right=True),
    Column("IGNORED", lambda one: one.ignored or "", right=True, rank=1),
]
_OF_TASKS: list[Column[RouteStats]] = [
    Column("FAILED", lambda one: one.states.get("failed", ""), right=True),
    Column("WAITING", lambda one: one.states.get("queued", ""), right=True),
]


def _times(found: Stats) -> None:
    """How attempts ended, and how long they waited and ran; nothing while there is none."""
    rows = [(one, one.times) for one in found.routes if one.times is not None]
    if not rows:
        return
    output.line()
    print_table(_OF_ATTEMPTS, rows)
    if found.sampled:
        read = sum(times.attempts for _, times in rows)
        say(f"Shares, times and failures are of {read:,} of the attempts, spread over the whole time.")


_OF_ATTEMPTS: list[Column[tuple[RouteStats, RouteTimes]]] = [
    Column("ROUTE", lambda row: row[0].name or "-", shrink=12, cut=shorten_middle),
    Column("ATTEMPTS", lambda row: row[0].attempts, right=True, rank=3),
    Column("OK", lambda row: share_text(row[1].ok), right=True),
    Column("WAIT P50", lambda row: times_text(row[1].waited)[0], right=True, rank=2),
    Column("P95", lambda row: times_text(row[1].waited)[1], right=True),
    Column("RUN P50", lambda row: times_text(row[1].ran)[0], right=True, rank=2),
    Column("P95", lambda row: times_text(row[1].ran)[1], right=True),
    Column("FAILED BY", lambda row: categories_text(row[1].categories), shrink=20),
]


def _table(
    heading: str,
    rows: Sequence[T],
    name_of: Callable[[T], str | None],
    what: str,
    number_of: Callable[[T], int],
    more: Sequence[Column[T]],
) -> None:
    if not rows:
        return
    most = max(map(number_of, rows))
    columns = [
        Column(heading, lambda row: name_of(row) or "-", shrink=20, cut=shorten_middle),
        Column(what.upper(), number_of, right=True),
        Column("", lambda row: bar(number_of(row), most), rank=2),
        *more,
    ]
    output.line()
    print_table(columns, rows)
