"""Opening a source: the daemon of a data directory if it answers, else the files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from covenq.config import load as configuration
from covenq.config.load import Config
from covenq.errors import ScopeInsufficient
from covenq.net.address import Remote
from covenq.paths import SOCKET_NAME
from journal.presence import exists

if TYPE_CHECKING:
    from covenq.client.local import LocalSource
    from covenq.client.remote import RemoteSource

ANSWER_S = 5.0
"""Seconds to wait for a daemon's first answer. Only a process that listens on the socket and doesn't answer takes them."""


def open_remote(remote: Remote) -> RemoteSource:
    """The daemon at that URL. Raises DaemonUnreachable, and Refused for a token that is not accepted."""
    from covenq.client.remote import RemoteSource
    from covenq.net.http_client import Client

    source = RemoteSource(Client(remote))
    with suppress(ScopeInsufficient):  # it is there, and takes the token, which is for some installations alone
        source.status()
    return source


def open_running(data: Path) -> RemoteSource | None:
    """The daemon of that data directory, if one answers on its socket."""
    # Imported where needed, here and below: a command that reads the files needs no HTTP, and one that reads no writes.
    if not exists(data / SOCKET_NAME):
        return None
    from covenq.client.remote import RemoteSource
    from covenq.net.http_client import Client

    client = Client(data / SOCKET_NAME)
    return RemoteSource(client) if client.answers(ANSWER_S) else None


def open_source(
    data: Path, config: Config | None = None, url: str | Remote | None = None
) -> RemoteSource | LocalSource:
    """The daemon of that data directory if one answers on its socket (or, if given, the one at `url`), else the files.

    `config` has the routes for replays without a daemon; None reads the usual file. Raises ConfigError, and with a
    `url` what `open_remote` raises.
    """
    if url is not None:
        return open_remote(Remote(url) if isinstance(url, str) else url)
    running = open_running(data)
    if running is not None:
        return running
    if config is None:
        config = configuration.load(configuration.config_path(None, os.environ, str(data)), os.environ)
    return open_files(data, config)


def open_files(data: Path, config: Config) -> LocalSource:
    """The files of that data directory, whose daemon doesn't answer, if there is one."""
    from covenq.client.local import LocalSource  # not imported where a daemon answers

    return LocalSource(data, config)
