"""`covenq tui`: the dashboard."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from covenq.cli import output
from covenq.cli.context import locate
from covenq.cli.options import ConfigOption, DataOption, TokenFileOption, UrlOption
from covenq.cli.remote import selected_remote
from covenq.errors import UsageError


def tui(
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, and refuse to act.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """The dashboard, from the keyboard.

    Deliveries and tasks live, filtered, opened, replayed and requeued, and the journal verified.
    """
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)) or os.environ.get("TERM") == "dumb":
        raise UsageError("the dashboard needs a terminal", hint="`covenq deliveries` and `covenq tasks` don't.")
    remote_address = selected_remote()
    if remote_address is not None:
        from covenq.client.open import open_remote
        from covenq.tui.app import run

        raise typer.Exit(run(lambda: open_remote(remote_address), None, read_only=read_only))
    where = locate(data, config)

    from covenq.client.open import open_source
    from covenq.tui.app import run

    code = run(
        lambda: open_source(where.data, where.config), where.data, journal=where.config.journal, read_only=read_only
    )
    raise typer.Exit(code)
