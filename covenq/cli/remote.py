"""`--url` and `--token-file`: the same command for a remote daemon.

They are added here to every command that reads or acts through a source; `covenq.cli.app.LOCAL` lists those that don't.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from covenq.cli.signature import Command, with_options
from covenq.errors import UsageError
from covenq.net.address import Remote, remote

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="A daemon elsewhere: the address of its API. Else COVENQ_URL."),
]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file", metavar="PATH", help="The token for --url. Else COVENQ_TOKEN_FILE, or COVENQ_TOKEN itself."
    ),
]

_selected_remote: ContextVar[Remote | None] = ContextVar("chosen", default=None)


def selected_remote() -> Remote | None:
    """The remote daemon that this command is to talk to; None for this machine's."""
    return _selected_remote.get()


def select_remote(url: str | None, token_file: str | None, data: str | None) -> Remote | None:
    """The remote daemon that the options and the environment name. `--data` overrides COVENQ_URL. Raises UsageError."""
    if data is not None:
        if url is not None:
            raise UsageError("--url and --data name two places", hint="Give one of them.")
        if token_file is None:
            return None
    return remote(url, token_file, os.environ)


def with_remote_options(function: Command) -> Command:
    """The command with the two options added."""

    def run(**given: Any) -> None:
        found = select_remote(given.pop("url"), given.pop("token_file"), given.get("data"))
        if found is not None and found.exposed:
            from covenq.cli.output import say

            say("covenq: warning: the token crosses the network in clear; https:// would keep it.")
        before = _selected_remote.set(found)
        try:
            function(**given)
        finally:
            _selected_remote.reset(before)

    return with_options(function, run, {"url": UrlOption, "token_file": TokenFileOption})
