"""`covenq refused`: the log of refused requests, and what to do about each reason."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import LIMIT_MAX, ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import clean, say
from covenq.cli.table import Column, print_table
from covenq.errors import Failure
from covenq.model.short_ids import GUID_SHORT
from covenq.operate.inspect.story_text import UNPROVEN
from covenq.text import shorten_middle

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.intake.refusal_log import Refusal
    from covenq.model.status import Status

Latest = Annotated[
    int, typer.Option("--limit", min=0, max=LIMIT_MAX, metavar="N", help="The newest so many; 0 is all that are kept.")
]
SHOWN_MAX = 20


def refused(
    limit: Latest = 20,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show the latest requests that were refused, and why.

    A refused request leaves nothing in the journal; this is from a log beside it that keeps the newest, two files of 1 MiB.
    Under the list is what to do about each reason, and how many could not be kept, as on a full disk, since the daemon started.
    """
    with source(data, config) as opened:
        found = opened.refused(limit=limit)
        status = None if json else _status_of(opened)
    if json:
        output.emit_page(found, next=None)
    elif not print_table(COLUMNS, found) and status is not None and status.refused_unkept:
        _say_unkept(status)
    elif not found:
        say(
            "Nothing was refused. If deliveries are missing they never reached covenq: look at GitHub's list of recent "
            "deliveries, in the settings of the webhook, for what it says about each."
        )
    else:
        _say_hints(found)
        say(f"{UNPROVEN[0].upper()}{UNPROVEN[1:]}.")
        if status is not None and status.refused_unkept:
            _say_unkept(status)


def _status_of(opened: Source) -> Status | None:
    """A daemon's, which knows what it could not log; None without one, or where it can't tell."""
    if not opened.live:
        return None
    try:
        return opened.status()
    except Failure:
        return None


def _say_unkept(status: Status) -> None:
    """What was refused, and is in no list: the log of it could not be written."""
    words = ", ".join(f"{clean(word)} {number:,}" for word, number in status.refused_unkept.items())
    number = sum(status.refused_unkept.values())
    was = "was" if number == 1 else "were"
    say(
        f"{output.count(number, 'request')} {was} refused since {clean(status.started_at)[:19]}Z, when the daemon started, "
        f"and could not be kept: {words}. The disk was full, or the log could not be written: `covenq status`."
    )


def _say_hints(found: list[Refusal]) -> None:
    """Each hint once, the most frequent first."""
    counted = Counter((one.error, one.hint) for one in found)
    say()
    for (word, hint), number in counted.most_common(SHOWN_MAX):
        say(f"{clean(word)} ({number:,}): {clean(hint) or 'this version knows no hint for it'}")


def _client_text(one: Refusal) -> str:
    words = ["GitHub" if one.github else "", "by proxy" if one.proxied else "", one.client or ""]
    return clean(" ".join(word for word in words if word))


def _event_or_path(one: Refusal) -> str:
    return clean(one.event or (one.path if one.path != "/webhook" else "") or "")


COLUMNS: list[Column[Refusal]] = [
    Column("AGE", lambda one: output.age(one.at, time.time()), right=True, rank=1),
    Column("UTC", lambda one: output.minute(one.at, time.time()), right=True, rank=5),
    Column("STATUS", lambda one: one.status, right=True, rank=5),
    Column("REASON", lambda one: one.error),
    Column("WHAT", _event_or_path, shrink=12, cut=shorten_middle, rank=2),
    Column("DELIVERY", lambda one: one.delivery, rank=3, short=GUID_SHORT),
    Column("HOOK", lambda one: one.hook, rank=6),
    Column("FROM", _client_text, shrink=12, rank=7),
    Column("DETAIL", lambda one: one.detail, shrink=30, rank=4),
]
