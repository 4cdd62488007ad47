"""`covenq notify`: what operators were told without asking, and what they are still to be told; and a test of it.

It serves two decisions: whether one can rely on being told, and, after a quiet night, whether there was anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import BAD, GOOD, WARNING, clean, say
from covenq.cli.table import Column, print_table
from covenq.errors import UsageError
from covenq.model.notices import BEGAN, trouble

if TYPE_CHECKING:
    from covenq.model.notices import Notice, Notices, OwedNotice, SentNotice

notify = typer.Typer(
    name="notify", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)

Row = TypeVar("Row")

SHOWN = 20
"""Notices that were sent which are shown; --json has all that are kept."""


@notify.callback(invoke_without_command=True)
def listing(
    ctx: typer.Context,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show what was told unasked, and what is still to be told; test it.

    [notify] in the configuration names a command or an address that is told when something begins and when it ends: the intake
    closes, damage, a route fails, a receiver is left alone, something waits too long, deliveries are missing, the disk fills.

    \b
      covenq notify
      covenq notify test
    """
    if ctx.invoked_subcommand is not None:
        if json or any(value is not None for value in (data, config, url, token_file)):
            word = ctx.invoked_subcommand
            raise UsageError(f"options stand behind {word}", hint=f"As in `covenq notify {word} --data DIR`.")
        return
    with source(data, config) as opened:
        found = opened.notices()
    if json:
        output.emit_json(found)
    else:
        _show(found, time.time())


@notify.command()
def test(
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Send a test notice now, once, and say what became of it.

    Through the daemon, by its configuration and its environment; where none runs, from here. Exits with 1 if anybody who is to
    be told didn't take it, with 4 if nobody is.
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Notify

    with source(data, config) as opened:
        live = opened.live
        done = opened.act(operations.NOTIFY, Notify())
    with output.report_of_act():
        if json:
            output.emit_json(done)
        else:
            for one in done.targets:
                word = "took" if one.ok else "FAILED"
                colour = GOOD if one.ok else BAD
                told = output.paint(f"{word:6}", colour, output.has_colour(output.stdout()))
                output.prose(f"{told} {one.to:3}  {clean(one.detail)} ({one.took_ms / 1000:.1f} s)", 12)
            if not live:
                say("No daemon runs: it was sent from here.")
    if not all(one.ok for one in done.targets):
        raise typer.Exit(1)


def _show(found: Notices, now: float) -> None:
    for words in () if found.status is None else trouble(found.status, now):
        say(clean(words))
    if found.owed:
        owed: list[Column[OwedNotice]] = [
            Column("OWED TO", lambda one: one.to),
            Column("SINCE", lambda one: output.age(one.notice.at, now)),
            Column("TRIES", lambda one: one.tries, right=True, rank=1),
            *_columns(lambda one: one.notice),
        ]
        print_table(owed, found.owed)
        if found.sent:
            output.line()
    if found.sent:
        sent: list[Column[list[SentNotice]]] = [
            Column("AT", lambda one: output.clock(one[0].at, now)),
            Column("TOLD", lambda one: ", ".join(each.to if each.ok else f"not {each.to}" for each in one), rank=3),
            *_columns(lambda one: one[0].notice),
        ]
        by_notice: dict[str, list[SentNotice]] = {}
        for each in found.sent:
            by_notice.setdefault(each.notice.id, []).append(each)
        print_table(sent, list(by_notice.values())[:SHOWN])
    if not found.configured:
        say("Nobody is told of anything: the configuration has no [notify]. covenq.toml(5) says how.")
    elif not found.owed and not found.sent:
        say("Nothing has been told yet: nothing began. `covenq notify test` shows whether it would get through.")


def _columns(notice_of: Callable[[Row], Notice]) -> list[Column[Row]]:
    """The notice itself: whether something began or ended, and what."""
    return [
        Column("STATE", lambda one: notice_of(one).state, colour=lambda word: WARNING if word == BEGAN else GOOD),
        Column("KIND", lambda one: notice_of(one).kind, rank=2),
        Column("NOTICE", lambda one: notice_of(one).text, shrink=24, wraps=True),
    ]
