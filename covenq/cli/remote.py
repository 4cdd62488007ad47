"""`--url` and `--token-file`: the same command for a remote daemon.

Every command that reads or acts through a source takes them (`covenq.cli.options`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from covenq.cli.output import say
from covenq.errors import UsageError
from covenq.net.address import Remote, remotes

_selected_remotes: ContextVar[tuple[Remote, ...]] = ContextVar("chosen", default=())


def selected_remote() -> Remote | None:
    """The remote daemon that this command is to talk to, the first of several; None for this machine's."""
    return next(iter(selected_remotes()), None)


def selected_remotes() -> tuple[Remote, ...]:
    """The same for a command that talks to whichever of several leads; none for this machine's."""
    return _selected_remotes.get()


def _select(urls: Sequence[str], token_file: str | None, data: str | None) -> tuple[Remote, ...]:
    """The remote daemons that the options and the environment name. `--data` overrides COVENQ_URL. Raises UsageError."""
    if data is not None:
        if urls:
            raise UsageError("--url and --data name two places", hint="Give one of them.")
        if token_file is None:
            return ()
    return remotes(urls, token_file, os.environ)


@contextmanager
def selection(urls: Sequence[str], token_file: str | None, data: str | None) -> Iterator[None]:
    """Set, for the `with`, which remote daemons are selected, and warn if a token is sent in clear. Raises UsageError."""
    found = _select(urls, token_file, data)
    if any(one.exposed for one in found):
        say("covenq: warning: the token crosses the network in clear; https:// would keep it.")
    before = _selected_remotes.set(found)
    try:
        yield
    finally:
        _selected_remotes.reset(before)
