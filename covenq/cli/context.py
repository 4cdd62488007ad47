"""The context of a command: its configuration and data directory, and the source it reads and acts through.

A daemon may run with a configuration that no command would find by itself: `serve --config` names it once. What a command says of
"the configuration" is then the daemon's own (`locate_in_use`), which the daemon is asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covenq.cli.output import clean, say
from covenq.cli.remote import selected_remote
from covenq.errors import ConfigError, DaemonUnreachable, Refused
from covenq.paths import CONFIG_NAME, JOURNAL_NAME, SOCKET_NAME
from journal.presence import exists, is_directory, is_named

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.client.remote import RemoteSource
    from covenq.config.load import Config
    from covenq.model.rows import Delivery


@dataclass(frozen=True, slots=True)
class Location:
    """The configuration and the data directory."""

    config: Config
    data: Path


def locate(data: str | None, config: str | None) -> Location:
    """The location that `--data`, `--config` and the environment name.

    Raises ConfigError; and Refused where a file, or a link that leads nowhere, is in the place of a directory: a disk that isn't
    mounted is no journal without deliveries.
    """
    from covenq.config import load as configuration

    path = configuration.config_path(config, os.environ, data)
    loaded = configuration.load(path, os.environ)
    where = configuration.data_dir(data, os.environ, loaded)
    _refuse_other_than_directory(where, "choose another with --data or COVENQ_DATA.")
    if loaded.journal.url is None:
        _refuse_other_than_directory(where / JOURNAL_NAME, "put back the directory with the journal's segments.")
    return Location(loaded, where)


def locate_in_use(data: str | None, config: str | None, *, say: Callable[[str], None] = say) -> Location:
    """As `locate`, with the configuration that the data directory's daemon uses, where one answers and none was named.

    `say` is told of a daemon that uses another one than `locate` finds. Raises as `locate`.
    """
    from covenq.config import load as configuration

    named = config or os.environ.get("COVENQ_CONFIG")
    try:
        found = locate(data, config)
    except ConfigError:
        directory = None if named else known_data_dir(data, config)
        used = None if directory is None else daemon_config(directory)
        if directory is None or used is None or _is_same_file(used, config_path(data, config)):
            raise
    else:
        directory, used = found.data, daemon_config(found.data)
        if used is None or (found.config.path is not None and _is_same_file(used, found.config.path)):
            return found
        if named:
            say(f"The running daemon uses another configuration: {clean(used)}")
            return found
    say(f"The configuration is the running daemon's: {clean(used)}")
    return Location(configuration.load(used, os.environ), directory)


def daemon_config(data: Path) -> Path | None:
    """The configuration's file of the daemon of that data directory; None if it uses none, or no daemon answers this user."""
    try:
        running = _running(data)
        if running is None:
            return None
        with running:
            used = running.status().config
    except (DaemonUnreachable, OSError):  # gone meanwhile, or a directory that this user may not look into
        return None
    return None if used is None else Path(used)


_silent: set[Path] = set()
"""Data directories whose daemon did not answer this command: it is waited for once, and once more after `ask_again`."""


def ask_again() -> None:
    """Ask a daemon that did not answer once more at the next opening: for what follows, and waits for one to be started."""
    _silent.clear()


def _running(data: Path) -> RemoteSource | None:
    """The daemon of that data directory, if one answers. Raises OSError for a directory that this user may not look into."""
    from covenq.client.open import open_running

    running = None if data in _silent else open_running(data)
    if running is None and exists(data / SOCKET_NAME):
        _silent.add(data)
    return running


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


def local_data_dir(data: str | None, config: str | None) -> Path | None:
    """The data directory that `source` uses, itself or through its daemon; None for a remote daemon."""
    if selected_remote() is not None:
        return None
    try:
        return locate(data, config).data
    except ConfigError:
        return known_data_dir(data, config)


def known_data_dir(data: str | None, config: str | None) -> Path | None:
    """The data directory, if it is known without the configuration, for when that can't be read; None if it isn't."""
    from covenq.config.load import data_dir

    known = data or os.environ.get("COVENQ_DATA") or not (config or os.environ.get("COVENQ_CONFIG"))
    return data_dir(data, os.environ) if known else None


def _refuse_other_than_directory(path: Path, hint: str) -> None:
    """Raises Refused. What can't be looked at is reported by whatever uses it."""
    try:
        if not is_named(path) or is_directory(path):
            return
        leads_nowhere = not exists(path)
    except OSError:
        return
    if leads_nowhere:
        raise Refused(f"{path} leads to {path.resolve()}, where nothing is", hint=f"Mount what that is on, or {hint}")
    raise Refused(f"{path} is no directory", hint=f"{hint[:1].upper()}{hint[1:]}")


def is_not_a_directory(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False  # missing, or not readable: whatever uses it reports that


def config_path(data: str | None, config: str | None) -> Path:
    """Where the configuration is, or would be."""
    from covenq.config import load as configuration

    found = configuration.config_path(config, os.environ, data)
    return found if found is not None else configuration.data_dir(data, os.environ) / CONFIG_NAME


@contextmanager
def source(data: str | None, config: str | None) -> Iterator[Source]:
    """The daemon that `--url` names, else this machine's if one answers, else the files; closed at the end of the `with`."""
    from covenq.client.open import open_files, open_remote

    remote_address = selected_remote()
    if remote_address is not None:  # nothing of this machine is read, not even its configuration
        with open_remote(remote_address) as remote:
            yield remote
        return
    try:
        where = locate(data, config)
    except ConfigError as error:
        # A configuration that the daemon refuses to reload must not keep an operator from asking it why.
        directory = known_data_dir(data, config)
        running = None if directory is None else _running(directory)
        if running is None:
            raise
        say(f"covenq: {error} (the running daemon answers all the same, by the configuration it has read)")
        with running:
            yield running
        return
    with _running(where.data) or open_files(where.data, where.config) as opened:
        yield opened


def newest_of(opened: Source, filter: str) -> Delivery | None:
    """The newest delivery that the filter matches."""
    return next(iter(opened.deliveries(filter, limit=1).items), None)
