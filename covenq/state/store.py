"""The file state.db: opening it, catching up with the journal, and completing it in a transaction for one reading.

In a daemon, `covenq.state.follow` keeps it caught up.

It is a cache. Position and rows change in one transaction and only by durable records, so what a crash leaves is a prefix of
the fold. A file that is missing, or belongs to another journal or schema, is folded again from the start.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from covenq.errors import CovenqError, DiskFull
from covenq.state import schema
from covenq.state.fold import fold
from covenq.state.readers import Readers, connect
from journal.errors import JournalDamaged
from journal.interface import Reading
from journal.presence import exists
from journal.private_database import is_full, make_private
from journal.records import NO_SUM, Damage, Record, Witness

BATCH_RECORDS = 2000
BATCH_BYTES = 8 << 20
"""Bytes of payloads in memory while a batch is collected: records bring their payloads, though the fold needs none."""
WAL_BYTES = 64 << 20


def read_witness(path: Path) -> Witness | None:
    """The position of the state.db at `path`; None if there is none that can be read.

    A cache that can't be read proves nothing; `StateStore` makes it again. `operate.maintain.state_witness` says whether the
    position is a witness for the journal beside it.
    """
    if not exists(path):
        return None
    try:
        with closing(connect(path, "ro")) as conn:
            if schema.version(conn) != schema.VERSION:
                return None
            found = schema.position(conn)
    except sqlite3.DatabaseError:
        return None
    return found[0] if found is not None and found[0].seq > 0 else None


class StateStore(Readers):
    """The state.db of the one process that folds into it, and its readers. Methods may be called from any thread.

    Raises JournalDamaged where the file has folded records that the journal lacks, and CovenqError where it can't be
    opened or made.
    """

    def __init__(self, path: Path, journal: Reading, *, at_least: Witness | None = None) -> None:
        super().__init__(path)
        self._journal = journal
        self.folded_tasks = False
        """Whether the batch folded last had a record of a task."""
        self._writing = threading.Lock()
        try:
            self._conn, self._folded = _open_store(path, journal)
        except sqlite3.Error as error:
            if is_full(error, path):
                raise DiskFull(f"{path} can't be opened: {error}") from error
            raise CovenqError(
                f"{path} can't be opened: {error}",
                hint="Check the disk's space and this user's permission on the data directory.",
            ) from error

    @property
    def folded(self) -> int:
        """The seq up to which rows and position are folded and committed."""
        return self._folded

    def position(self) -> Witness | None:
        """The last record that is folded; None before the first."""
        with self._writing:
            found = schema.position(self._conn)
        return found[0] if found is not None and found[0].seq > 0 else None

    def catch_up(self, each: Callable[[int], None] | None = None, ends: Callable[[], bool] = lambda: False) -> int:
        """Fold to the journal's head as it is at the call, a transaction a batch; returns the seq reached.

        `each` is called after every batch with its last seq. If `ends` between two batches, the rest is left to another call.
        Raises sqlite3.Error; what was committed before stays.
        """
        with self._writing:
            for batch in _batches(self._journal.read(self._folded)):
                if ends():
                    break
                self._conn.execute("BEGIN IMMEDIATE")
                try:
                    _fold_batch(self._conn, self._journal, batch)
                    self._conn.execute("COMMIT")
                finally:
                    if self._conn.in_transaction:
                        with suppress(sqlite3.Error):  # the first error is the one to raise
                            self._conn.execute("ROLLBACK")
                self._folded = batch[-1].seq
                self.folded_tasks = any(record.subject.startswith("task.") for record in batch)
                if each is not None:
                    each(self._folded)
            return self._folded

    def mark_for_rebuild(self) -> None:
        """Mark the file, which turned out to be damaged, so that the next opening folds it again from the start."""
        with self._writing:
            self._conn.execute("PRAGMA user_version = 0")

    def truncate_wal(self) -> bool:
        """Checkpoint the write-ahead log and truncate it, so that it holds no erased content either.

        False if a reader or the disk prevented it: try again later.
        """
        with self._writing:
            try:
                busy, _, _ = self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:
                return False
            return not busy

    def close(self) -> None:
        """Close every connection. The threads that read must have stopped. May be repeated."""
        self.close_readers()
        with self._writing:
            self._conn.close()

    def __enter__(self) -> StateStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def overlay(path: Path, journal: Reading, *, commit: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that sees state.db completed to the journal's head, for one reading without a daemon.

    What is missing is folded inside a transaction that is rolled back at the end. Where the file is missing, can't be
    written or belongs to another journal, everything is folded into a private temporary database. With `commit`, for a caller
    that holds the journal's lock, the file itself is caught up first, or made. Raises JournalError.
    """
    if commit:
        # Without space for the file the question can still be answered: the overlay needs none on that disk.
        with suppress(sqlite3.Error, CovenqError), StateStore(path, journal) as store:
            store.catch_up()
    with closing(_overlaid(path, journal)) as conn:
        conn.execute("PRAGMA query_only = ON")
        try:
            yield conn
        finally:
            conn.rollback()


def _overlaid(path: Path, journal: Reading) -> sqlite3.Connection:
    if exists(path):
        conn: sqlite3.Connection | None = None
        try:
            conn = connect(path, "rw")
            conn.execute("BEGIN")
            if not _is_current(conn, journal):
                conn.execute("ROLLBACK")
                conn.execute("BEGIN IMMEDIATE")
                _complete(conn, journal)
            return conn
        except sqlite3.Error:
            if conn is not None:
                conn.close()
        except BaseException:
            if conn is not None:
                conn.close()
            raise
    conn = connect(None, "rw")
    try:
        conn.execute("BEGIN IMMEDIATE")
        _complete(conn, journal)
    except BaseException:
        conn.close()
        raise
    return conn


def _is_current(conn: sqlite3.Connection, journal: Reading) -> bool:
    return _position_in(conn, journal) >= journal.head().seq


def _complete(conn: sqlite3.Connection, journal: Reading) -> None:
    """Fold to the head inside the caller's transaction."""
    folded = _position_in(conn, journal)
    if folded < 0:
        folded = _start(conn, journal)
    for batch in _batches(journal.read(folded)):
        _fold_batch(conn, journal, batch)


# ---- opening


def _open_store(path: Path, journal: Reading) -> tuple[sqlite3.Connection, int]:
    try:
        return _open_writer(path, journal)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        # It is not a database, or a corrupt one; all that was in it is in the journal.
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _open_writer(path, journal)


def _open_writer(path: Path, journal: Reading) -> tuple[sqlite3.Connection, int]:
    make_private(path)
    conn = connect(path, "rwc")
    try:
        conn.execute("PRAGMA journal_mode = WAL")
        # Never OFF: a power cut could leave a position without its rows. NORMAL may lose the newest transactions whole.
        conn.execute("PRAGMA synchronous = NORMAL")
        # Overwrite with zeros what is erased or moved within the file.
        conn.execute("PRAGMA secure_delete = ON")
        # GUIDs and hashes are on random pages of their indexes: a larger cache and fewer checkpoints write each page less often.
        conn.execute("PRAGMA cache_size = -16384")
        conn.execute("PRAGMA wal_autocheckpoint = 4000")
        conn.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        conn.execute("BEGIN IMMEDIATE")
        folded = _position_in(conn, journal)
        if folded < 0:
            folded = _start(conn, journal)
        conn.execute("COMMIT")
        _check_not_ahead(conn, journal, path)
    except BaseException:
        conn.close()
        raise
    return conn, folded


def _position_in(conn: sqlite3.Connection, journal: Reading) -> int:
    """The seq up to which the tables are folded; -1 if they are of another journal, epoch or schema."""
    if schema.version(conn) != schema.VERSION:
        return -1
    found = schema.position(conn)
    if found is None or found[0].journal != journal.id or found[1] != journal.epoch:
        return -1
    return found[0].seq


def _start(conn: sqlite3.Connection, journal: Reading) -> int:
    schema.create(conn)
    schema.set_position(conn, Witness(journal.id, 0, NO_SUM), journal.epoch)
    return 0


def _check_not_ahead(conn: sqlite3.Connection, journal: Reading, path: Path) -> None:
    """Never continue the fold over a log that lost records: the last check for that; the first is `open_journal(witnesses=…)`."""
    found = schema.position(conn)
    if found is None or found[0].seq == 0:
        return
    record = journal.get(found[0].seq)
    if record is None or record.sum != found[0].sum:
        detail = "the journal is shorter than its caches" if record is None else "a cache had seen another record here"
        raise JournalDamaged([Damage("shorter than caches", path.name, 0, found[0].seq, None, detail)])


# ---- folding


def _fold_batch(conn: sqlite3.Connection, journal: Reading, batch: list[Record]) -> None:
    fold(conn, batch)
    schema.set_position(conn, Witness(journal.id, batch[-1].seq, batch[-1].sum), journal.epoch)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += record.payload_bytes or 0
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
