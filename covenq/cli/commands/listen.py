"""`covenq listen`: what GitHub sends, taken from its delivery log by a daemon of its own, in the foreground."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli.context import locate
from covenq.cli.filter_hints import say_unknown_to_routes
from covenq.cli.filter_words import filter_argument
from covenq.cli.options import ConfigOption, DataOption
from covenq.errors import ConfigError, Refused

if TYPE_CHECKING:
    from covenq.config.load import Config


def listen(
    words: Annotated[list[str] | None, filter_argument()] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, max=1024, metavar="N", help="Tasks that run at the same time.")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error. Else warning."),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Take what GitHub sends from its log, run tasks, and print what comes.

    The daemon of `covenq serve` with [github] ingress = "log": GitHub needs to reach nothing here. It goes on from where it last
    stopped, until Ctrl-C. The arguments are a filter of what is printed.

    \b
      covenq listen
      covenq listen event:issues
    """
    from covenq.tasks.execution import process_setup

    process_setup.prepare()

    from covenq.cli.commands.serve import require_one_of
    from covenq.config.ingress import INGRESS_VARIABLE, LOG
    from covenq.config.load import LOG_LEVELS
    from covenq.filter.grammar import parse

    require_one_of("--log-level", log_level, LOG_LEVELS)
    filter = list(words or [])
    parse(filter)
    _require_listenable(locate(data, config).config)
    os.environ[INGRESS_VARIABLE] = LOG  # each reading of the configuration is to have it, this one and every later one
    where = locate(data, config)
    say_unknown_to_routes(filter, [route.name for route in where.config.routes])

    def adjust(read: Config) -> Config:
        read = replace(read, log_level=log_level or ("warning" if read.log_level == "info" else read.log_level))
        return read if concurrency is None else replace(read, concurrency=concurrency)

    from covenq.cli.listening import Listening
    from covenq.daemon import run
    from covenq.daemon.start import StartOptions

    listening = Listening(where.data, where.config, filter)
    code = run.run(adjust(where.config), where.data, StartOptions(adjust=adjust, observer=listening))
    listening.finish()
    raise typer.Exit(code)


def _require_listenable(config: Config) -> None:
    """Raises ConfigError where there is no log to listen to, Refused where deliveries come otherwise by this configuration."""
    if not config.github_logs.all:
        raise ConfigError(
            "the configuration names no delivery log of GitHub's to listen to",
            hint="`covenq init --github-app --ingress log` makes an App and writes it; or add a [[github.hook]]: covenq.toml(5).",
        )
    if not config.follows_log and config.public_url is not None:
        raise Refused(
            f"by this configuration deliveries come to {config.public_url}{config.webhook_path}, and would come twice",
            hint='Run `covenq serve`; or, if nothing is to be delivered there, write ingress = "log" into [github].',
        )
