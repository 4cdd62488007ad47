"""A database for each data directory, in the server of this process. Those that are given back are used again.

An empty database takes the server longer to make than the tables of a journal to remove.
"""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from tests.support.postgres.server import cluster

_ENDED = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()"""

_used: dict[Path, str] = {}
_free: list[str] = []


def url_of(data: Path) -> str:
    """The URL of its database, which has no tables at first. Skips the test where no server can be run."""
    place = _absolute(data)
    if place not in _used:
        _used[place] = _free.pop() if _free else _make()
    return _url(_used[place])


def give_back(directory: Path) -> None:
    """Empty the databases of data directories below this one; nobody may need them, or be connected to them, any more."""
    below = _absolute(directory)
    for place in [place for place in _used if place.is_relative_to(below)]:
        name = _used.pop(place)
        with psycopg.connect(_url(name), autocommit=True) as conn:
            conn.execute("SET client_min_messages = error")
            conn.execute(_ENDED)
            conn.execute("DROP SCHEMA IF EXISTS covenq CASCADE")
        _free.append(name)


def _make() -> str:
    name = f"covenq_{len(_used) + len(_free)}"
    cluster(standby=False).sql(f"CREATE DATABASE {name}")
    return name


def _url(name: str) -> str:
    return cluster(standby=False).url.replace("/postgres?", f"/{name}?")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - where a link stands, not where it leads
