"""The index: subject → seq of its newest record, and seq → offset of its line in its segment. A cache in SQLite.

It may be deleted while nobody writes, and is rebuilt from the log. It lives beside the segments as `index.sqlite`, so that
its size is bounded by the disk and not by memory. Rows and position are
written in one transaction, so the position never names a record whose rows are missing. `synchronous=NORMAL` in WAL mode
may lose the newest transactions in a power cut, never their order or consistency: the index is then merely behind, and
catches up from its position. It is never OFF: a corrupt index would answer "new" for a delivery that is known.

An offset is a hint: its user checks that the line there is the record it wants, and scans the segment otherwise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from journal.private_database import make_private
from journal.records import SEQ_MAX

INDEX_NAME = "index.sqlite"
_VERSION = 1
_SCHEMA = """
CREATE TABLE subjects (subject TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE places (seq INTEGER PRIMARY KEY, place INTEGER NOT NULL);
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), journal TEXT, seq INTEGER, sum TEXT,
                       segment INTEGER, start INTEGER, finish INTEGER);
"""
_LAST_OF = "SELECT subject, seq FROM subjects WHERE subject IN (SELECT value FROM json_each(?))"
_ADD_SUBJECTS = (
    "INSERT OR REPLACE INTO subjects SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
)
_ADD_OFFSETS = (
    "INSERT OR REPLACE INTO places SELECT json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)"
)


@dataclass(frozen=True, slots=True)
class Position:
    """The newest record that the index covers, in segment `segment`, bytes `start` to `finish`.

    With seq equal to the segment's `after`, the position is that of the header alone.
    """

    journal: str
    seq: int
    sum: str
    segment: int
    start: int
    finish: int


Row = tuple[str, int, int]
"""(subject, seq, offset of its line in its segment)"""


class Index:
    """One connection; use one object a thread. Raises sqlite3.Error."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        if readonly:
            self.db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        else:
            make_private(path)
            self.db = sqlite3.connect(path, check_same_thread=False)
        try:
            self._prepare(readonly)
        except BaseException:
            self.db.close()
            raise

    def _prepare(self, readonly: bool) -> None:
        self.db.isolation_level = None
        self.db.execute("PRAGMA busy_timeout = 5000")
        if not readonly:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.db.execute("PRAGMA journal_size_limit = 67108864")
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not readonly:
            self.db.executescript("BEGIN;" + _SCHEMA + f"PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"index of version {version}")

    def close(self) -> None:
        self.db.close()

    def position(self) -> Position | None:
        row = self.db.execute("SELECT journal, seq, sum, segment, start, finish FROM position").fetchone()
        return None if row is None else Position(*row)

    def last(self, subject: str) -> int:
        """The newest seq the index knows of the subject; 0 if it knows none."""
        row = self.db.execute("SELECT seq FROM subjects WHERE subject = ?", (subject,)).fetchone()
        return 0 if row is None else int(row[0])

    def last_of(self, subjects: list[str]) -> dict[str, int]:
        """The newest seqs of the subjects that the index knows, in one step.

        One step, because SQLite gives up the interpreter's lock at every step, and taking it back among many threads costs
        more than the look-up.
        """
        return dict(self.db.execute(_LAST_OF, (orjson.dumps(subjects).decode(),)).fetchall())

    def offset_of(self, seq: int) -> int | None:
        """Where the record's line starts in its segment: a hint. None if the index has none."""
        if seq > SEQ_MAX:
            return None  # none that SQLite could hold
        row = self.db.execute("SELECT place FROM places WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else int(row[0])

    def begin(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def add(self, rows: Iterable[Row]) -> None:
        """Inside a transaction: add rows, in order of seq."""
        text = orjson.dumps(list(rows)).decode()
        self.db.execute(_ADD_SUBJECTS, (text,))
        self.db.execute(_ADD_OFFSETS, (text,))

    def move(self, offsets: Iterable[tuple[int, int]]) -> None:
        """Inside a transaction: the new (seq, offset) of lines in a segment that was rewritten."""
        self.db.executemany("UPDATE places SET place = ?2 WHERE seq = ?1", list(offsets))

    def commit(self, position: Position) -> None:
        """The rows added since `begin`, and the position that covers them, in one step."""
        self.db.execute(
            "INSERT OR REPLACE INTO position VALUES (1, ?, ?, ?, ?, ?, ?)",
            (position.journal, position.seq, position.sum, position.segment, position.start, position.finish),
        )
        self.db.execute("COMMIT")

    def rollback(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def clear(self) -> None:
        """Inside a transaction: forget everything."""
        for table in ("subjects", "places", "position"):
            self.db.execute(f"DELETE FROM {table}")  # noqa: S608 - three names of our own


def open_index(path: Path) -> Index:
    """The index at `path`; a file that is no usable index is a lost cache: it is removed and created again."""
    try:
        return Index(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        remove_index(path)
        return Index(path)


def remove_index(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
