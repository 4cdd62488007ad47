"""The file state.db: catching up with the journal, and completing it in a transaction for one reading.

In a daemon, `covenq.state.follow` keeps it caught up; `covenq.state.opening` opens it.

It is a cache. Position and rows change in one transaction and only by durable records, so what a crash leaves is a prefix of
the fold. A file that is missing, or belongs to another journal or schema, is folded again from the start.

One process at a time folds into the file, and holds the lock beside it (`covenq.state.lock`) as long as it has it open. Should
the lock fail (its file was removed), whoever else folds leaves a position that isn't the one this process left. So each
transaction looks at that first, and where it is another's, this process writes nothing more.
"""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType

from covenq.errors import CovenqError, StateTaken
from covenq.state import lock, opening, rollups, schema
from covenq.state.building import Building
from covenq.state.readers import Readers, connect, is_damage
from journal.interface import Reading
from journal.presence import exists
from journal.records import Record, Witness

BATCH_RECORDS = 6000
BATCH_BYTES = 8 << 20
"""Bytes of payloads in memory while a batch is collected, where the records of an engine bring them."""
LOCK_S = 10.0
"""Seconds to wait for another process that folds: a command, or a follower that is ending, is done within moments."""
OVERLAY_LOCK_S = 1.0
STEPS = 1_000_000
"""Steps of SQLite's machine between two signs that it is working: a fraction of a second."""


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
    return found.witness if found is not None and found.witness.seq > 0 else None


class StateStore(Readers):
    """The state.db of the one process that folds into it, and its readers. Methods may be called from any thread.

    Raises StateLocked where another process folds it, JournalDamaged where the file has folded records that the journal lacks,
    and CovenqError where it can't be opened or made.
    """

    def __init__(
        self,
        path: Path,
        journal: Reading,
        *,
        lock_s: float = LOCK_S,
        at_least: Witness | None = None,
        working: Callable[[], None] | None = None,
    ) -> None:
        """Another process that folds it is waited for `lock_s` seconds. `working` is called now and then while SQLite is busy.

        `at_least` is what readers of the file have seen folded: it is then neither made nor emptied, but StateNotAsLeft is
        raised where it isn't at that record or past it.
        """
        super().__init__(path)
        self._journal = journal
        self.folded_tasks = False
        """Whether the batch folded last had a record of a task."""
        self._writing = threading.Lock()
        self._taken: str | None = None
        """That another process folded the file, in one sentence; None as long as none did."""
        self._lock = lock.take(path, lock_s)
        try:
            self._conn, self._left, self._building = opening.open_writer(path, journal, at_least)
            self._version = schema.version(self._conn)
            """What this process left in the file: MARKED where it is to be made anew."""
            found = path.stat()
        except BaseException:
            self._lock.release()
            raise
        self._identity = (found.st_dev, found.st_ino)
        if working is not None:
            self._conn.set_progress_handler(working, STEPS)
        self._enough = journal.head().seq if self._building.unfinished else 0

    @property
    def folded(self) -> int:
        """The seq up to which readers may rely on it: rows and position are folded and committed.

        While the file is built anew it stays short of what the journal had when that began: whoever waits for that meets no
        table without its indexes.
        """
        seq = self._left.witness.seq
        return min(seq, max(self._enough - 1, 0)) if self._building.unfinished else seq

    @property
    def building(self) -> bool:
        """Whether it is being built anew: rows, or indexes, are still missing that a file has which is only behind."""
        return self._building.unfinished

    def position(self) -> Witness | None:
        """The last record that is folded; None before the first."""
        with self._writing:
            found = schema.position(self._conn)
        return found.witness if found is not None and found.witness.seq > 0 else None

    def catch_up(self, each: Callable[[int], None] | None = None, ends: Callable[[], bool] = lambda: False) -> int:
        """Fold to the journal's head as it is at the call, a transaction a batch; returns the seq reached.

        `each` is called after every batch with its last seq. If `ends` between two batches, the rest is left to another call.
        Raises sqlite3.Error; what was committed before stays. Raises StateTaken, from then on at every call, where another
        process has folded the file.
        """
        with self._writing, _uncollected() if self._building.unfinished else nullcontext():
            self._check_not_taken()
            for batch in _batches(self._journal.read(self._left.witness.seq, payloads=False)):
                if ends():
                    return self.folded
                with self._transaction():
                    self._building.fold(batch)
                    schema.set_position(self._conn, _witness(self._journal, batch), self._journal.epoch)
                self._left = schema.Position(_witness(self._journal, batch), self._journal.epoch)
                self.folded_tasks = any(record.subject.startswith("task.") for record in batch)
                if each is not None:
                    each(self.folded)
            if self._building.unfinished:
                self._finish(each, ends)
            return self.folded

    def _finish(self, each: Callable[[int], None] | None, ends: Callable[[], bool]) -> None:
        """Make what is missing of a file that is built anew, in a transaction each, so that a stop loses little."""
        while self._building.unfinished and not ends():
            with self._transaction():
                self._building.finish_one()
            if each is not None:
                each(self.folded)

    # ---- rollups (`covenq.state.rollups`): apart from the fold, and only of a file that is not being built anew

    def missing_rollups(self) -> set[int]:
        """The full blocks that have no rollup: none of a file that is being built anew."""
        with self._writing:
            return set() if self._building.unfinished else rollups.missing(self._conn, self._left.witness.seq)

    def take_changed_blocks(self) -> set[int]:
        """The blocks whose rollup was removed, if there was one, since this was asked last."""
        with self._writing:
            changed, self._building.changed = self._building.changed, set()
            return changed

    def make_rollup(self, block: int) -> None:
        """Make the rollup of a full block. Raises as `catch_up`."""
        with self._writing:
            self._check_not_taken()
            with self._transaction():
                rollups.make(self._conn, block)

    def mark_for_rebuild(self) -> None:
        """Mark the file, which turned out to be damaged, so that the next opening makes it anew. May be repeated.

        This process may go on with it, and so may another that opens it as this one left it (`at_least`). Raises sqlite3.Error;
        and StateTaken where another process has folded it: it isn't this one's to distrust.
        """
        with self._writing:
            self._check_not_taken()
            with self._transaction(of_damaged=True):
                self._conn.execute(f"PRAGMA user_version = {schema.MARKED}")
            self._version = schema.MARKED

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
            self._lock.release()

    @contextmanager
    def _transaction(self, *, of_damaged: bool = False) -> Iterator[None]:
        """A transaction on the file as this process left it; `of_damaged`, also where it can't be told how it is."""
        self._conn.execute("BEGIN IMMEDIATE")
        try:
            try:
                self._check_as_left()
            except sqlite3.DatabaseError as error:
                if not of_damaged or not is_damage(error):
                    raise
            yield
            self._conn.execute("COMMIT")
        finally:
            if self._conn.in_transaction:
                with suppress(sqlite3.Error):  # the first error is the one to raise
                    self._conn.execute("ROLLBACK")

    def check_file(self) -> None:
        """Raises StateTaken where the file that this process has open is no longer the one of that name: readers see another."""
        self._check_not_taken()
        try:
            now = self.path.stat()
        except FileNotFoundError:
            self._taken = f"{self.path} was removed while it was being folded"
        else:
            if (now.st_dev, now.st_ino) != self._identity:
                self._taken = f"{self.path} was replaced by another file while it was being folded"
        self._check_not_taken()

    def _check_as_left(self) -> None:
        self.check_file()
        found = schema.position(self._conn) if schema.version(self._conn) == self._version else None
        if found == self._left:
            return
        what = "of another schema" if found is None else f"at {found}"
        self._taken = f"{self.path} was folded by another process meanwhile: it is {what}, and was left at {self._left}"
        self._check_not_taken()

    def _check_not_taken(self) -> None:
        if self._taken is not None:
            raise StateTaken(self._taken)

    def __enter__(self) -> StateStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Damage that was met while it was open is remembered: what is asked next is asked of a file made anew."""
        if error is not None and is_damage(error):
            with suppress(sqlite3.Error, CovenqError):  # the damage is the error to raise
                self.mark_for_rebuild()
        self.close()


@contextmanager
def overlay(
    path: Path,
    journal: Reading,
    *,
    commit: bool = False,
    opened: Callable[[], None] = lambda: None,
    ends: Callable[[], bool] = lambda: False,
) -> Iterator[sqlite3.Connection]:
    """A connection that sees state.db completed to the journal's head, for one reading without a daemon.

    What is missing is folded inside a transaction that is rolled back at the end. Where the file is missing, can't be
    written or belongs to another journal, everything is folded into a private temporary database, and where another process folds
    the file, which must not wait for a reading, into a copy. With `commit`, for a caller that holds the journal's lock, the file
    itself is caught up first, or made, unless another process has it, and until `ends()`; and where it turns out to be damaged,
    it is marked, and the next call makes it anew.

    `opened` is called once the journal's lock is not needed any more, which is before anything is folded: who wants to change the
    journal's past takes the file's lock too. Raises JournalError.
    """
    if commit:
        # Without the file's lock, or space for it, the question can still be answered: the overlay needs neither.
        with suppress(sqlite3.Error, CovenqError), StateStore(path, journal, lock_s=OVERLAY_LOCK_S) as store:
            opened()
            store.catch_up(ends=ends)
    opened()
    try:
        with closing(_overlaid(path, journal)) as conn:
            conn.execute("PRAGMA query_only = ON")
            try:
                yield conn
            finally:
                conn.rollback()
    except sqlite3.DatabaseError as error:
        if commit and is_damage(error):
            with suppress(sqlite3.Error, CovenqError), StateStore(path, journal, lock_s=OVERLAY_LOCK_S) as store:
                store.mark_for_rebuild()
        raise


def _overlaid(path: Path, journal: Reading) -> sqlite3.Connection:
    if exists(path):
        conn: sqlite3.Connection | None = None
        try:
            conn = connect(path, "rw")
            conn.execute("BEGIN")
            if not _is_current(conn, journal):
                if lock.is_held(path):
                    with closing(conn):
                        return _completed(journal, of=conn)
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
    return _completed(journal)


def _completed(journal: Reading, of: sqlite3.Connection | None = None) -> sqlite3.Connection:
    """A private temporary database with all that is folded, from a copy of `of` on, or from the start."""
    conn = connect(None, "rw")
    try:
        if of is not None:
            of.backup(conn)
        conn.execute("BEGIN IMMEDIATE")
        _complete(conn, journal)
    except BaseException:
        conn.close()
        raise
    return conn


def _is_current(conn: sqlite3.Connection, journal: Reading) -> bool:
    """Whether all is folded, and every index there: a file that is built anew gets them last, and filters name some."""
    found = opening.position_in(conn, journal)
    return found is not None and found.witness.seq >= journal.head().seq and not schema.missing_indexes(conn)


def _complete(conn: sqlite3.Connection, journal: Reading) -> None:
    """Fold to the head inside the caller's transaction."""
    folded = opening.position_in(conn, journal)
    if folded is None:
        folded = opening.start(conn, journal)
    building = Building(conn, journal.head().seq)
    for batch in _batches(journal.read(folded.witness.seq, payloads=False)):
        building.fold(batch)
        schema.set_position(conn, _witness(journal, batch), journal.epoch)
    while building.unfinished:
        building.finish_one()


# ---- folding


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collection of cycles: the fold makes none, and the records of each batch would be looked through for them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _witness(journal: Reading, batch: list[Record]) -> Witness:
    return Witness(journal.id, batch[-1].seq, batch[-1].sum)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        if record.payload:
            size += len(record.payload)
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
