"""Opening state.db to fold into it: as it is, made where it is missing, another's or ruined, or only as it was left.

Called by whoever holds its lock (`covenq.state.lock`): a file that can't be used is removed here.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from covenq.errors import CovenqError, DiskFull, StateNotAsLeft
from covenq.state import schema, seen
from covenq.state.building import CACHE_KIB, Building
from covenq.state.readers import connect, is_damage
from covenq.state.schema import Position
from journal.errors import JournalDamaged
from journal.interface import Reading
from journal.presence import exists
from journal.private_database import is_full, make_private
from journal.records import NO_SUM, Damage, Witness

WAL_BYTES = 64 << 20
BUILT_RECORDS = 20_000
"""Of a journal that has as many, state.db is built anew without the indexes that can be made at its end."""


Opened = tuple[sqlite3.Connection, Position, Building]


def open_writer(path: Path, journal: Reading, at_least: Witness | None) -> Opened:
    """The connection that folds, the position, and the fold. As `StateStore` has it."""
    try:
        if at_least is not None:
            return _open_as_left(path, journal, at_least)
        return _open_or_make(path, journal)
    except sqlite3.Error as error:
        if is_full(error, path):
            raise DiskFull(f"{path} can't be opened: {error}") from error
        raise CovenqError(
            f"{path} can't be opened: {error}",
            hint="Check the disk's space and this user's permission on the data directory.",
        ) from error


def position_in(conn: sqlite3.Connection, journal: Reading) -> Position | None:
    """The position of the tables; None if they are of another journal, epoch or schema."""
    if schema.version(conn) != schema.VERSION:
        return None
    found = schema.position(conn)
    if found is None or found.witness.journal != journal.id or found.epoch != journal.epoch:
        return None
    return found


def start(conn: sqlite3.Connection, journal: Reading) -> Position:
    """Empty tables, inside the caller's transaction; of a long journal without most indexes, which `Building` makes."""
    built = journal.head().seq >= BUILT_RECORDS
    schema.create(conn, indexes=not built)
    if built:
        seen.start(conn)
    first = Position(Witness(journal.id, 0, NO_SUM), journal.epoch)
    schema.set_position(conn, first.witness, first.epoch)
    return first


def _open_or_make(path: Path, journal: Reading) -> Opened:
    try:
        return _open_made(path, journal)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        # It is not a database, or a corrupt one, or marked as that; all that was in it is in the journal.
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _open_made(path, journal)


def _open_made(path: Path, journal: Reading) -> Opened:
    make_private(path)
    conn = connect(path, "rwc")
    try:
        _set_up(conn)
        conn.execute("BEGIN IMMEDIATE")
        if schema.version(conn) == schema.MARKED:
            raise sqlite3.DatabaseError("it was found to be damaged")  # some pages: the whole file goes
        found = position_in(conn, journal) or start(conn, journal)
        conn.execute("COMMIT")
        _check_not_ahead(found, journal, path)
        return conn, found, Building(conn, journal.head().seq)
    except BaseException:
        conn.close()
        raise


def _open_as_left(path: Path, journal: Reading, at_least: Witness) -> Opened:
    expected = f"and its readers have seen record {at_least.seq} of journal {at_least.journal} in it"
    if not exists(path):
        raise StateNotAsLeft(f"{path} is not there, {expected}")
    try:
        conn = connect(path, "rw")
        try:
            conn.execute("BEGIN")
            version = schema.version(conn)
            usable = version in (schema.VERSION, schema.MARKED)
            found = schema.position(conn) if usable else None
            conn.execute("COMMIT")
            if not usable:
                raise StateNotAsLeft(f"{path} has the schema {version} and not {schema.VERSION}, {expected}")
            if found is None or not _is_past(found, journal, at_least):
                raise StateNotAsLeft(f"{path} is at {'no record' if found is None else found}, {expected}")
            _check_not_ahead(found, journal, path)
            _set_up(conn)  # not before: it writes to an empty file
            return conn, found, Building(conn, journal.head().seq)
        except BaseException:
            conn.close()
            raise
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise StateNotAsLeft(f"{path} can't be read ({error}), {expected}") from error


def _is_past(found: Position, journal: Reading, at_least: Witness) -> bool:
    """Whether this position of this journal, in its epoch, is at that record or past it."""
    if found.witness.journal != journal.id or found.epoch != journal.epoch or at_least.journal != journal.id:
        return False
    if found.witness.seq <= at_least.seq:
        return found.witness == at_least
    if at_least.seq == 0:
        return True
    record = journal.get(at_least.seq)
    return record is not None and record.sum == at_least.sum


def _set_up(conn: sqlite3.Connection) -> None:
    conn.execute("PRAGMA journal_mode = WAL")
    # Never OFF: a power cut could leave a position without its rows. NORMAL may lose the newest transactions whole.
    conn.execute("PRAGMA synchronous = NORMAL")
    # Overwrite with zeros what is erased or moved within the file.
    conn.execute("PRAGMA secure_delete = ON")
    # GUIDs and hashes are on random pages of their indexes: a larger cache and fewer checkpoints write each page less often.
    conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    conn.execute("PRAGMA wal_autocheckpoint = 4000")
    conn.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")


def _check_not_ahead(found: Position, journal: Reading, path: Path) -> None:
    """Never continue the fold over a log that lost records: the last check for that; the first is `open_journal(witnesses=…)`."""
    seq, sum = found.witness.seq, found.witness.sum
    if seq == 0:
        return
    record = journal.get(seq)
    if record is None or record.sum != sum:
        detail = "the journal is shorter than its caches" if record is None else "a cache had seen another record here"
        raise JournalDamaged([Damage("shorter than caches", path.name, 0, seq, None, detail)])
