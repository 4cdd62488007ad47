"""`covenq tail`: the journal's records, as they come."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.filter_hints import say_unknown_values
from covenq.cli.filter_words import filter_argument
from covenq.cli.followed import Followed
from covenq.cli.options import SEQ_MAX, ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import say
from covenq.cli.record_line import print_record
from covenq.errors import DaemonUnreachable, StateBehind, StateUnreadable, UsageError
from covenq.model import parse_duration

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.model.answers import Tail, TailItem

NEWEST = 10
"""Records printed without --since and --after."""
WAIT_S = 25.0
"""Seconds for which the daemon holds the request until a record comes (long polling)."""
PIPE_WAIT_S = 2.0
"""The same where a reader may leave meanwhile: it is looked for between two requests."""


def tail(
    words: Annotated[list[str] | None, filter_argument("-f")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as records come, until Ctrl-C. Also -f.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DURATION", help="Begin so long ago: 10m, 2h.")
    ] = None,
    after: Annotated[
        int | None,
        typer.Option("--after", min=0, max=SEQ_MAX, metavar="SEQ", help="Begin behind this record; 0 is the first."),
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Tell what the journal records, as it comes.

    The arguments are a filter: then only what concerns deliveries and tasks that match. Following goes on over restarts
    of the daemon, and misses nothing. Without --since and --after it begins with the last ten.

    \b
      covenq tail -f
      covenq tail -f state:failed
      covenq tail --since 1h repo:octo/hello --jsonl
    """
    filter = [word for word in words or [] if word != "-f"]  # as a short option it would be found in every `-owner:foo`
    follow = follow or "-f" in (words or [])
    if since is not None and after is not None:
        raise UsageError("--since and --after name two beginnings", hint="Give one of them.")
    if follow and json and not output.is_json_lines():
        raise UsageError("--json is one document, and what is followed has no end", hint="Use --jsonl.")
    _say_mistyped(filter, data, config)
    stream = RecordStream(filter, follow, None if since is None else parse_duration(since), after, data, config)
    if json and not output.is_json_lines():
        output.emit_items(chain.from_iterable(stream), lambda: stream.position)
        return
    found = 0
    for items in stream:
        found += len(items)
        for item in items:
            print_record(item, json)
        output.flush()
    if not found and filter and since is None and after is None:
        _say_how_far(stream.position or 0)


def _say_mistyped(filter: list[str], data: str | None, config: str | None) -> None:
    """Before anything is waited for. Where it can't be known now, the stream says why, or waits for what is wrong to end."""
    if not filter:
        return
    try:
        with source(data, config) as opened:
            say_unknown_values(opened, filter, "deliveries")
    except (DaemonUnreachable, StateBehind, StateUnreadable):
        return


class RecordStream(Followed["TailItem"]):
    """The journal's records; `position` is the cursor behind the last of them."""

    def __init__(
        self,
        filter: list[str],
        follow: bool,
        since_s: float | None,
        after: int | None,
        data: str | None,
        config: str | None,
    ) -> None:
        super().__init__(follow, data, config)
        self.position = after
        self._filter = filter
        self._since_s = since_s
        self._epoch: str | None = None

    def _ask(self, opened: Source) -> tuple[list[TailItem], bool]:
        wait_max = PIPE_WAIT_S if output.is_piped() else WAIT_S
        wait = wait_max if self.follow and opened.live and self.position is not None else 0.0
        newest = NEWEST if self.position is None and self._since_s is None else None
        found = opened.tail(self._filter, after=self.position, since_s=self._since_s, newest=newest, wait_s=wait)
        self._since_s = None
        self.position = _position(found, self._epoch)
        self._epoch = found.epoch
        return found.items, found.next >= found.head


def _position(found: Tail, epoch: str | None) -> int:
    """The cursor to continue from. After a restore the journal may be shorter than before."""
    if epoch is not None and found.epoch != epoch:
        say("The journal was restored or salvaged meanwhile: going on from its end as it is now.")
        return found.head
    return found.next


def _say_how_far(head: int) -> None:
    """That nothing matched need not mean that nothing came: without a beginning only the newest records are looked at."""
    from covenq.operate.inspect.tail import SCAN_MAX

    if head > SCAN_MAX:
        say(f"None of the last {SCAN_MAX:,} records matches; --since or --after begins earlier.")
