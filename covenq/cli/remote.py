"""`--url` and `--token-file`: the same command for a remote daemon.

Every command that reads or acts through a source takes them (`covenq.cli.options`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from covenq.cli.output import say
from covenq.errors import UsageError
from covenq.net.address import Remote, remote

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


@contextmanager
def selection(url: str | None, token_file: str | None, data: str | None) -> Iterator[None]:
    """Set, for the `with`, which remote daemon is selected, and warn if its token is sent in clear. Raises UsageError."""
    found = select_remote(url, token_file, data)
    if found is not None and found.exposed:
        say("covenq: warning: the token crosses the network in clear; https:// would keep it.")
    before = _selected_remote.set(found)
    try:
        yield
    finally:
        _selected_remote.reset(before)
