"""Which engine an address means: opening a journal for reading without knowing what keeps it.

Every command may import this package, so an engine is imported when it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from journal.errors import EngineNotInstalled, EngineUnknown

if TYPE_CHECKING:
    from journal.interface import Reader


IN_DATABASE = "database"
"""A file in a journal's directory whose records are in a database: it is no empty one."""


def open_reader(address: str | Path, *, upto: int | None = None) -> Reader:
    """A reader of the journal at `address`, up to what is proven durable, or up to the head that its running writer names.

    `address` is the journal's directory: a path, or a `file:` URL without a host; or a `postgresql:` URL. With `upto` nothing is
    looked through at the opening. Raises EngineUnknown for another scheme, JournalGone if there is no journal, FormatUnknown.
    Damage is not raised, but reported by `Reader.damage`; with `upto`, JournalDamaged where a header is.
    """
    if is_database(address):
        require_postgres()
        from journal.postgres.reader import open_reader as open_database

        return open_database(str(address), upto=upto)
    from journal.file.reader import open_reader as open_directory

    return open_directory(_directory(address), upto=upto)


def require_postgres() -> None:
    """Raises EngineNotInstalled where what the PostgreSQL engine needs isn't there."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise EngineNotInstalled("a journal in PostgreSQL needs psycopg, which is not installed") from None


def is_database(address: str | Path) -> bool:
    """Whether it is the URL of a PostgreSQL database."""
    return isinstance(address, str) and address.lower().startswith(("postgresql://", "postgres://"))


def _directory(address: str | Path) -> Path:
    scheme, colon, path = str(address).partition(":")
    if isinstance(address, Path) or not colon or "/" in scheme:
        return Path(address)
    if scheme.lower() != "file":
        raise EngineUnknown(f"no engine of this covenq reads a journal at {scheme}:")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if host not in ("", "localhost"):
            raise EngineUnknown(f"a file: address names a directory on this machine, and {host} is a host")
        path = slash + rest
    from urllib.parse import unquote

    return Path(unquote(path))
