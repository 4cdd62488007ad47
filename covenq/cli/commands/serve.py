"""`covenq serve`: the daemon, in the foreground."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli.context import locate
from covenq.cli.options import SEQ_MAX, ConfigOption, DataOption
from covenq.errors import DaemonUnreachable, Failure, PortBusy, Refused, UsageError

if TYPE_CHECKING:
    from covenq.config.load import Config


def serve(
    bind: Annotated[
        str | None,
        typer.Option("--bind", metavar="HOST:PORT", help="Where to listen. Else COVENQ_BIND, the configuration's."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, max=1024, metavar="N", help="Tasks that run at the same time.")
    ] = None,
    accept_head: Annotated[
        int | None,
        typer.Option(
            "--accept-head",
            min=0,
            max=SEQ_MAX,
            metavar="SEQ",
            help="Go on with a journal that lost its newest records: it ends at SEQ, and that is known.",
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Take over from the daemon that runs in the data directory, if one does: no connection is refused.",
        ),
    ] = False,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="FORMAT", help="human or json. Else the configuration's.")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", metavar="LEVEL", help="debug (a line a delivery), info, warning or error."),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Receive webhooks and run their tasks.

    In the foreground, until SIGTERM or Ctrl-C; then what is in flight is finished, and the journal closed. SIGHUP has
    the configuration and its secrets read again, as does a change of their files.
    COVENQ_WEBHOOK_SECRET adds a webhook secret; without any, one is made in the data directory at the first start.
    """
    from covenq.tasks.execution import process_setup

    process_setup.prepare()

    from covenq.config.load import LOG_FORMATS, LOG_LEVELS, parse_bind

    if bind is not None:
        parse_bind(bind)
        # Each reading of the configuration is to have it, this one and every later one: it is checked beside the other addresses.
        os.environ["COVENQ_BIND"] = bind
    where = locate(data, config)
    require_one_of("--log-format", log_format, LOG_FORMATS)
    require_one_of("--log-level", log_level, LOG_LEVELS)

    def adjust(read: Config) -> Config:
        read = replace(read, log_format=log_format or read.log_format, log_level=log_level or read.log_level)
        return read if concurrency is None else replace(read, concurrency=concurrency)

    from covenq.daemon import run
    from covenq.daemon.start import StartOptions

    options = StartOptions(accept_head=accept_head, adjust=adjust, take_over=take_over)
    try:
        code = run.run(adjust(where.config), where.data, options)
    except PortBusy:
        raise_if_running(where.data, take_over=take_over)
        raise
    raise typer.Exit(code)


def raise_if_running(data: Path, *, take_over: bool) -> None:
    """Raises Refused if a daemon of this data directory runs: then it is that which has the port.

    `take_over`: it was to hand over, and did not.
    """
    from covenq.client.open import open_running
    from covenq.net import unix_socket
    from covenq.operate.maintain.journal_lock import process_of
    from covenq.paths import TAKEOVER_NAME

    owner, found = process_of(data), None
    running = open_running(data)
    if running is not None:
        with running:
            try:
                found = running.status()
            except DaemonUnreachable:
                pass  # it answered a moment ago: it ends, or hangs
            except Failure as error:
                words = f"{owner or 'a daemon'} has {data}, and its status can't be had: {error}"
                raise Refused(words, hint=error.hint) from error
    if found is None:
        if owner is None:
            return
        raise Refused(
            f"{owner} has {data}, and doesn't answer",
            hint="It starts, stops or hangs: look at its log. Or give this one a --data and a --bind of its own.",
        )
    who = f"pid {found.pid}, covenq {found.version},"
    if not take_over:
        raise Refused(
            f"covenq runs on {data} already: pid {found.pid}, receiving on {found.webhook_url}",
            hint="`covenq status` shows it; --take-over takes its place. Or give this one a --data and a --bind of its own.",
        )
    try:
        unix_socket.connect(data / TAKEOVER_NAME, 1.0).close()
    except OSError:
        raise Refused(
            f"{who} runs on {data}, and can't hand over: nothing listens at its {TAKEOVER_NAME}",
            hint="Stop it, and start this one without --take-over. One of an earlier version has none.",
        ) from None
    raise Refused(f"{who} has taken over meanwhile", hint="`covenq status` shows it; to replace that one, ask again.")


def require_one_of(option: str, given: str | None, known: tuple[str, ...]) -> None:
    """Raises UsageError if the option's value isn't one of these."""
    if given is not None and given not in known:
        raise UsageError(f"{option} {given[:40]!r} is none there is", hint=f"Say one of {', '.join(known)}.")
