"""`covenq usage`: what a month had of each installation, repository and familiar, in sums that add up to the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import (
    LIMIT_MAX,
    After,
    ConfigOption,
    DataOption,
    Json,
    Jsonl,
    TokenFileOption,
    UrlOption,
    Words,
    one_of,
)
from covenq.cli.output import clean, say
from covenq.cli.table import Column, print_table
from covenq.text import latency, shorten_middle

if TYPE_CHECKING:
    from covenq.model.usage import Usage, UsageRow, UsageSums

GROUPINGS = ("month", "installation", "repository", "familiar")

MonthOption = Annotated[
    str | None,
    typer.Option(
        "--month",
        metavar="YYYY-MM",
        help="The month, in UTC; all is every one. Without it this month.",
        autocompletion=one_of("all"),
    ),
]
ByOption = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="WHAT",
        help=f"Sum up by one thing alone: {', '.join(GROUPINGS[:-1])} or {GROUPINGS[-1]}.",
        autocompletion=one_of(*GROUPINGS),
    ),
]
Groups = Annotated[
    int, typer.Option("--limit", min=0, max=LIMIT_MAX, metavar="N", help="At most so many groups; 0 is all.")
]


def usage(
    words: Words = None,
    month: MonthOption = None,
    by: ByOption = None,
    limit: Groups = 0,
    after: After = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Sum up what a month had of each installation, repository and familiar.

    Deliveries accepted, ignored and come again, tasks, attempts, how these ended, and how long they ran. Each is a sum over the
    month's records, and of a month that is over it stays. The arguments are a filter of installation, repo, repo_id, owner
    and familiar.

    \b
      covenq usage --month 2026-11
      covenq usage --by installation
      covenq usage installation:42 --month all --by month --json
    """
    with source(data, config) as opened:
        found = opened.usage(words or [], month=month, by=by, limit=limit, after=after)
    if json:
        rest = {"month": found.month, "by": found.by, "seq": found.seq, "next": found.next, "total": found.total}
        output.emit_page(found.items, **rest)
        return
    if not found.items:
        say(f"Nothing that matches was recorded in {clean(found.month or 'any month')}.")
        return
    print_table([*_keys(found), *_SUMS], _lines(found))
    if found.next is not None:
        say(f"There is more: --after {clean(found.next)} goes on.")


class _Line(NamedTuple):
    """A line of the table: a group, or, without one, the total."""

    group: UsageRow | None
    sums: UsageSums


def _lines(found: Usage) -> Sequence[_Line]:
    """Of each month those with most deliveries first, then most attempts; and the total, where that isn't the only line again."""
    ordered = sorted(found.items, key=lambda one: (one.month or "", -one.accepted, -one.attempts))
    lines = [_Line(one, one) for one in ordered]
    return lines if len(lines) == 1 and found.next is None else [*lines, _Line(None, found.total)]


def _keys(found: Usage) -> Sequence[Column[_Line]]:
    """The columns of what the groups are told apart by: the month only where there may be several. The first names the total."""

    def cell(value_of: Callable[[UsageRow], object], *, first: bool) -> Callable[[_Line], object]:
        def text(line: _Line) -> object:
            if line.group is None:
                return "total" if first else ""
            value = value_of(line.group)
            return "-" if value is None else value

        return text

    wanted = [
        one for one in _KEYS if found.by == one.by or (found.by is None and (one.by != "month" or not found.month))
    ]
    return [
        Column(
            one.heading,
            cell(one.value, first=one is wanted[0]),
            rank=one.rank if one is not wanted[0] else 0,
            shrink=one.shrink,
            cut=shorten_middle,
        )
        for one in wanted
    ]


class _Key(NamedTuple):
    """A column of `_keys`."""

    by: str
    heading: str
    value: Callable[[UsageRow], object]
    rank: int = 0
    shrink: int | None = None


_KEYS = (
    _Key("month", "MONTH", lambda one: one.month),
    _Key("installation", "INSTALLATION", lambda one: one.installation, rank=2),
    _Key("repository", "REPOSITORY", lambda one: one.repo or one.repo_id, shrink=12),
    _Key("familiar", "FAMILIAR", lambda one: one.familiar, rank=3, shrink=8),
)
_SUMS: list[Column[_Line]] = [
    Column("ACCEPTED", lambda one: one.sums.accepted or "", right=True),
    Column("IGNORED", lambda one: one.sums.ignored or "", right=True, rank=6),
    Column("AGAIN", lambda one: one.sums.duplicated or "", right=True, rank=7),
    Column("TASKS", lambda one: one.sums.tasks or "", right=True, rank=8),
    Column("ATTEMPTS", lambda one: one.sums.attempts or "", right=True, rank=4),
    Column("COMPLETED", lambda one: one.sums.completed or "", right=True, rank=9),
    Column("FAILED", lambda one: one.sums.failed or "", right=True, rank=5),
    Column("RETRIED", lambda one: one.sums.retried or "", right=True, rank=10),
    Column("RAN", lambda one: latency(one.sums.seconds) if one.sums.seconds else "", right=True, rank=1),
]
