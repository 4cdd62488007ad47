"""`covenq tail`: the journal's records, as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import ask_again, source
from covenq.cli.filter_hints import say_unknown_values
from covenq.cli.filter_words import filter_argument
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
RETRY_S = 0.5
"""Seconds between two attempts to reach a daemon."""


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


@dataclass(slots=True)
class RecordStream:
    """The journal's records, one list per request; `position` is the cursor behind the last of them."""

    filter: list[str]
    follow: bool
    since_s: float | None
    position: int | None
    data: str | None
    config: str | None
    epoch: str | None = None

    def __iter__(self) -> Iterator[list[TailItem]]:
        """With `follow` it never ends, and waits for a daemon that isn't running, or whose state is behind; else it raises."""
        waiting = behind = False
        while True:
            try:
                with source(self.data, self.config) as opened:
                    if waiting and not opened.live:
                        _wait()
                        continue
                    if waiting:
                        say("The daemon is back.")
                    waiting = False
                    for items in self._requests(opened):
                        behind = False
                        yield items
                    return
            except (StateBehind, StateUnreadable):
                if not self.follow:
                    raise
                if not behind:
                    say("The state can't be read now, or is behind: waiting for it.")
                behind = True
                _wait()
            except DaemonUnreachable:
                if not self.follow:
                    raise
                if not waiting:
                    say("No daemon is running: waiting for it.")
                waiting = True
                _wait()

    def _requests(self, opened: Source) -> Iterator[list[TailItem]]:
        wait_max = PIPE_WAIT_S if output.is_piped() else WAIT_S
        while True:
            if self.follow:
                output.stop_if_unread()
            wait = wait_max if self.follow and opened.live and self.position is not None else 0.0
            newest = NEWEST if self.position is None and self.since_s is None else None
            found = opened.tail(self.filter, after=self.position, since_s=self.since_s, newest=newest, wait_s=wait)
            self.since_s = None
            self.position = _position(found, self.epoch)
            self.epoch = found.epoch
            yield found.items
            if found.next >= found.head:
                if not self.follow:
                    return
                if not opened.live:
                    raise DaemonUnreachable("there is no daemon")


def _wait() -> None:
    output.pause(RETRY_S)
    ask_again()


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
