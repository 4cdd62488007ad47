"""Where the data is, and the source that a command reads and writes through: a daemon or the files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covenq.cli.output import say
from covenq.cli.remote import chosen
from covenq.config import load as configuration
from covenq.config.load import Config
from covenq.errors import ConfigError, Refused
from covenq.paths import CONFIG_NAME

if TYPE_CHECKING:
    from covenq.client.interface import Source


@dataclass(frozen=True, slots=True)
class Location:
    """Where everything is: the configuration and the data directory."""

    config: Config
    data: Path


def locate(data: str | None, config: str | None) -> Location:
    """What `--data`, `--config` and the environment say. Raises ConfigError."""
    path = configuration.config_path(config, os.environ, data)
    loaded = configuration.load(path, os.environ)
    where = configuration.data_dir(data, os.environ, loaded)
    if _is_something_else(where):
        raise Refused(f"{where} is no directory", hint="Choose another with --data or COVENQ_DATA.")
    return Location(loaded, where)


def here(data: str | None, config: str | None) -> Path | None:
    """The data directory that `source` reads or whose daemon it asks; None where that is another machine's."""
    if chosen() is not None:
        return None
    try:
        return locate(data, config).data
    except ConfigError:
        return known_directory(data, config)


def known_directory(data: str | None, config: str | None) -> Path | None:
    """The data directory, where that is known without reading the configuration, because that can't be read."""
    known = data or os.environ.get("COVENQ_DATA") or not (config or os.environ.get("COVENQ_CONFIG"))
    return configuration.data_dir(data, os.environ) if known else None


def _is_something_else(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False  # not there, or not to be seen: who uses it says so


def config_path(data: str | None, config: str | None) -> Path:
    """Where the configuration is, or belongs."""
    found = configuration.config_path(config, os.environ, data)
    return found if found is not None else configuration.data_dir(data, os.environ) / CONFIG_NAME


@contextmanager
def source(data: str | None, config: str | None) -> Iterator[Source]:
    """The daemon if one answers, else the files, or the daemon that `--url` names; closed at the end of the `with`."""
    from covenq.client.open import open_remote, open_running, open_source

    elsewhere = chosen()
    if elsewhere is not None:  # nothing of this machine is asked, not even its configuration
        with open_remote(elsewhere) as remote:
            yield remote
        return
    try:
        where = locate(data, config)
    except ConfigError as error:
        # What a daemon refuses to reload must not keep anyone from asking it why.
        directory = known_directory(data, config)
        running = None if directory is None else open_running(directory)
        if running is None:
            raise
        say(f"covenq: {error} (the running daemon answers all the same, by the configuration it has read)")
        with running:
            yield running
        return
    with open_source(where.data, where.config) as opened:
        yield opened
