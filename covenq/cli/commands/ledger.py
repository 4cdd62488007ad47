"""`covenq ledger`: what GitHub's delivery logs list, hour by hour, what of it came, and what is still missing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import clean, say
from covenq.cli.table import Column, print_table
from covenq.errors import UsageError
from covenq.model import parse_duration
from covenq.model.ledger import STATES, missing_text
from covenq.text import shorten_middle

if TYPE_CHECKING:
    from covenq.model.status import LedgerHour, ReconcileStatus

REASONS_SHOWN = 10
_WORDS = {"held": "came"}
"""What people read elsewhere than the state: held back is what was fetched and not routed."""


def ledger(
    since: Annotated[
        str, typer.Option("--since", metavar="D", help="The hours of this time until now: 6h, 30d.")
    ] = "3d",
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show what GitHub sent, what of it came, and what is missing.

    A row for each hour in which GitHub first sent something, as the daemon's passes over its delivery logs found it: how many
    deliveries it lists, how many came, were fetched, are still open and until when GitHub can be asked for them, are lost, and
    are left out (refused, erased, not wanted, or sent before covenq was there).

    \b
      covenq ledger
      covenq ledger --since 30d --json
    """
    since_s = parse_duration(since)
    if not since_s:
        raise UsageError("--since 0 is no time", hint="Write how far back: 6h, 2d.")
    with source(data, config) as opened:
        found = opened.ledger(since_s=since_s)
        passes = opened.status().reconcile
    if json:
        output.emit_page(found.items, next=found.next, missing=None if passes is None else passes.missing)
        return
    now = time.time()
    print_table(columns(found.items, now), found.items)
    for words in _sums(found.items, passes, now):
        say(words)


def columns(rows: Sequence[LedgerHour], now: float) -> list[Column[LedgerHour]]:
    """Those that have anything to say: with all of them and one log a row has 80 columns."""
    found: list[Column[LedgerHour]] = [Column("HOUR (UTC)", lambda row: f"{row.hour[:10]} {row.hour[11:16]}")]
    if len({row.log for row in rows}) > 1:
        found.append(Column("LOG", lambda row: row.log, shrink=8, cut=shorten_middle))
    found.append(Column("LISTED", lambda row: row.listed, right=True))
    optional: list[Column[LedgerHour]] = [
        Column("CAME", lambda row: row.held or "", right=True, rank=1),
        Column("RESENT", lambda row: row.redelivered or "", right=True, rank=3),
        Column("FETCHED", lambda row: row.fetched or "", right=True, rank=2),
        Column("OPEN", lambda row: row.open or "", right=True, colour=lambda _: output.BAD),
        Column("GONE IN", lambda row: output.left(row.forgotten_at, now), right=True),
        Column("LOST", lambda row: row.unrecoverable or "", right=True),
        Column(
            "LEFT OUT", lambda row: row.refused + row.erased + row.before_us + row.not_wanted or "", right=True, rank=4
        ),
        Column("ON WAY", lambda row: row.on_its_way or "", right=True, rank=5),
    ]
    return [*found, *(one for one in optional if any(one.cell(row) for row in rows))]


def _sums(rows: Sequence[LedgerHour], passes: ReconcileStatus | None, now: float) -> Iterator[str]:
    """What the rows come to, and why there may be none, or not all."""
    if passes is None:
        yield "No delivery log of GitHub's is configured: [github.app] or [[github.hook]] names one."
        return
    if rows:
        totals = {state: sum(getattr(row, state) for row in rows) for state in STATES}
        words = {state: _WORDS.get(state) or state.replace("_", " ") for state in totals}
        told = ", ".join(f"{words[state]} {number:,}" for state, number in totals.items() if number)
        yield f"{output.count(sum(row.listed for row in rows), 'delivery', 'deliveries')} listed: {told}."
    else:
        yield "Nothing that GitHub sent in that time was compared, or it sent nothing."
    reasons: Counter[str] = Counter()
    for row in rows:
        reasons.update(row.reasons)
    for reason, number in reasons.most_common(REASONS_SHOWN):
        yield f"  {number:,}: {clean(reason)}"
    if passes.missing is not None:
        yield missing_text(passes.missing, now)
    if passes.every_s is None:
        yield "The daemon makes no passes ([reconcile] every), and only they are counted."
    for one in passes.logs:
        if one.last is not None and one.last.error is not None:
            yield f"{clean(one.log)}: the newest pass did not reach its end: {clean(one.last.error)}"
