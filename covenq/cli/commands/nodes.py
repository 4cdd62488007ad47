"""`covenq nodes`: the nodes that share the journal, which of them leads, and how far each is.

It serves two decisions: where to look when something is wrong, and whether a node may be stopped: another has to stand by.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import clean
from covenq.cli.table import Column, print_table
from covenq.errors import DaemonUnreachable, NotFound

if TYPE_CHECKING:
    from covenq.model.status import KnownNode


def nodes(
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show the nodes that share the journal, and which of them leads.

    Of a journal in PostgreSQL: one node takes deliveries in, the others stand by and take over. `away` has said nothing for 5 s,
    `stopped` was stopped in order. OWES counts deliveries that were erased, and that a node may still have content of.
    """
    with source(data, config) as opened:
        found = opened.status()
    if not found.nodes and found.journal.engine != "postgres":
        raise NotFound("no other node can have this journal: it is in files", hint="Look at `covenq status`.")
    if not found.nodes:
        raise DaemonUnreachable(
            "no daemon here says which nodes there are",
            hint="It starts again within some seconds after a handover; or ask another node: its machine, or --url.",
        )
    if json:
        output.emit_page(found.nodes)
        return
    from covenq.model.nodes_text import config_word, owed_text

    now = time.time()
    columns: list[Column[KnownNode]] = [
        Column("NODE", lambda one: clean(one.name) + (" (here)" if one.here else "")),
        Column("STATE", lambda one: one.state),
        Column("SINCE", lambda one: output.elapsed(one.since, now)),
        Column("SEEN", lambda one: output.elapsed(one.seen, now)),
        Column("BEHIND", lambda one: "-" if one.behind is None else f"{one.behind:,}", right=True, rank=1),
        Column("CONFIG", config_word, rank=2),
        Column("CLOCK", lambda one: _clock(one.clock_ahead_s), right=True, rank=3),
        Column("OWES", lambda one: f"{one.owes:,}" if one.owes else "-", right=True, rank=2),
        Column("VERSION", lambda one: clean(one.version or "-"), rank=3),
        Column("ADDRESS", lambda one: clean(one.address or "-"), rank=1),
    ]
    print_table(columns, found.nodes)
    for one in found.nodes:
        if one.owes:
            output.say(f"{clean(owed_text(one))}.")


def _clock(ahead_s: float | None) -> str:
    """How far a node's clock is ahead of the database's."""
    return "-" if ahead_s is None else f"{round(-ahead_s * 1000):+,} ms"
