"""Snapshots of state.db: one made for another node, and another node's put in the place of one that can't be used.

A snapshot is a file that another machine made, so nothing of it is believed before it was looked at (`check`): the tables are to
be those that covenq makes, word for word, the pages whole, and its position a record that this node's own journal has. Whether
the rows are those of the fold only a fold can tell: that is trusted, as the node is by whoever gave both its token.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from covenq import atomic_file
from covenq.errors import SnapshotUnusable, StateBehind
from covenq.paths import FETCHED_NAME, SNAPSHOT_NAME
from covenq.state import lock, schema
from covenq.state.opening import position_in
from covenq.state.readers import connect
from covenq.state.schema import Position
from covenq.text import escape
from journal.interface import Reading
from journal.presence import exists
from journal.private_database import make_private

KEPT_BYTES = 256 << 20
"""Of the disk's free space, what a snapshot leaves to all else."""
STEPS = 100_000
"""Steps of SQLite's machine between two questions whether to go on."""
_SUFFIXES = ("", "-journal", "-wal", "-shm")
_TEXT_MAX = 1 << 20
"""Bytes of a statement in a schema; the longest that covenq makes has a few thousand."""


@dataclass(frozen=True, slots=True)
class About:
    """What a snapshot has, or would have."""

    position: Position
    bytes: int
    """Of a file that isn't made yet: at most, about."""


def about(path: Path) -> About:
    """What a snapshot of the state.db at `path` would have. Raises StateBehind, sqlite3.Error."""
    with closing(connect(path, "ro")) as conn:
        return _about(conn)


def make(path: Path, to: Path, ends: Callable[[], bool]) -> About:
    """Write a snapshot of the state.db at `path`, another file, its user's alone; all that is folded when it begins is in it.

    Raises StateBehind, and sqlite3.Error: OperationalError, with SQLITE_INTERRUPT, once it `ends()`.
    """
    remove(to)
    make_private(to)
    try:
        with closing(connect(path, "ro")) as conn:
            _about(conn)
            conn.set_progress_handler(ends, STEPS)
            conn.execute("VACUUM INTO ?", (str(to),))
        with closing(connect(to, "ro")) as conn:
            return _about(conn)
    except BaseException:
        remove(to)
        raise


def remove(path: Path) -> None:
    """Remove the file, and what SQLite may have left beside it. Raises OSError."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def remove_leftovers(data: Path) -> None:
    """Remove what a crash left of snapshots. Raises OSError."""
    for name in (SNAPSHOT_NAME, FETCHED_NAME):
        remove(data / name)


def is_usable(path: Path, journal: Reading) -> bool:
    """Whether the fold goes on from the state.db at `path`: one of this schema and of this journal, however far it is."""
    if not exists(path):
        return False
    try:
        with closing(connect(path, "ro")) as conn:
            return position_in(conn, journal) is not None
    except sqlite3.DatabaseError:
        return False


def has_room(directory: Path, size: int) -> bool:
    """Whether a file of so many bytes leaves KEPT_BYTES free. Raises OSError."""
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize - size >= KEPT_BYTES


def check(path: Path, journal: Reading, ends: Callable[[], bool]) -> Position:
    """The position of another node's state.db, if this node can go on from it. Nothing else has the file open, or writes to it.

    Raises SnapshotUnusable, also once it `ends()`, and JournalError.
    """
    try:
        with closing(connect(path, "ro&immutable=1")) as conn:
            conn.execute("PRAGMA trusted_schema = OFF")
            conn.execute("PRAGMA cell_size_check = ON")
            conn.set_progress_handler(ends, STEPS)
            found = _checked_tables(conn)
            _check_position(found, journal)
            pages = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
    except (sqlite3.Error, ValueError, TypeError) as error:  # the last two of a position that is none
        raise SnapshotUnusable(
            "checking it took too long" if ends() else f"it can't be read: {escape(str(error))}"
        ) from error
    if pages != "ok":
        raise SnapshotUnusable(f"its pages are damaged: {str(pages)[:200]}")
    return found


def install(fetched: Path, path: Path, lock_s: float) -> None:
    """Give a checked file the name of state.db, durably; what was there goes. Raises OSError, StateLocked, CovenqError."""
    held = lock.take(path, lock_s)
    try:
        for suffix in _SUFFIXES[1:]:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        fetched.rename(path)
        atomic_file.sync_directory(path.parent)
    finally:
        held.release()


def _about(conn: sqlite3.Connection) -> About:
    """Raises StateBehind for a file that is made anew, or is to be."""
    conn.execute("BEGIN")  # position and size are of one moment
    try:
        found = schema.position(conn) if schema.version(conn) == schema.VERSION else None
        if found is None or schema.missing_indexes(conn):
            raise StateBehind("state.db is being made anew here")
        pages, size = (int(conn.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    finally:
        conn.execute("ROLLBACK")
    return About(found, pages * size)


def _checked_tables(conn: sqlite3.Connection) -> Position:
    """The position. Raises SnapshotUnusable, sqlite3.Error."""
    usual = conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _TEXT_MAX)
    if (version := schema.version(conn)) != schema.VERSION:
        raise SnapshotUnusable(f"it has the schema {version}, and this covenq {schema.VERSION}")
    with closing(connect(None, "rwc")) as made:
        schema.create(made)
        expected = _things(made)
    if _things(conn) != expected:
        raise SnapshotUnusable("its tables are not those that covenq makes")
    if (found := schema.position(conn)) is None:
        raise SnapshotUnusable("it has no position")
    conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, usual)
    return found


def _things(conn: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Every table, index and trigger, with the statement that makes it."""
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return sorted((tuple(row) for row in rows), key=repr)


def _check_position(found: Position, journal: Reading) -> None:
    """Raises SnapshotUnusable, JournalError."""
    witness = found.witness
    if witness.journal != journal.id:
        raise SnapshotUnusable("it is of another journal")
    if found.epoch != journal.epoch:
        raise SnapshotUnusable("it is of another epoch of the journal")
    record = journal.get(witness.seq) if witness.seq > 0 else None
    if record is None:
        raise SnapshotUnusable(f"it is at record {witness.seq}, which the journal doesn't have")
    if record.sum != witness.sum:
        raise SnapshotUnusable(f"it has seen another record {witness.seq} than the journal has")
