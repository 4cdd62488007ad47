"""A journal of a database, for reading alone: whether or not another process writes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterator, Sequence
from typing import NoReturn

import psycopg

from journal.database import Database
from journal.errors import JournalClosed, JournalDamaged
from journal.health import Measurements
from journal.interface import Durability
from journal.postgres.connections import Connections, unavailable
from journal.postgres.ending import check_head
from journal.postgres.rows import Rows, Segments
from journal.postgres.schema import check_version
from journal.postgres.watch import Look, look
from journal.records import NO_SUM, Damage, Entry, Head, Record, Witness


class PostgresReader:
    """`journal.interface.Reader` of a database."""

    def __init__(
        self, connections: Connections, segments: Segments, *, id: str, epoch: str, head: Head, damage: Sequence[Damage]
    ) -> None:
        self._connections = connections
        self._segments = segments
        self._rows = Rows(connections, segments)
        self._id, self._epoch = id, epoch
        self.damage = tuple(damage)
        self._seen: Look | None = None
        self._moved = threading.Condition()
        self._seq, self._known, self._closed = head.seq, head, False
        """The head's seq, and the newest head of which the sum is known."""

    @property
    def id(self) -> str:
        return self._id

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def durability(self) -> Durability:
        return "fsync"

    def append(self, entries: Sequence[Entry]) -> NoReturn:
        raise JournalClosed("this journal is open for reading only")

    def head(self) -> Head:
        seq, known = self._seq, self._known
        if not seq:
            return Head(0, NO_SUM)
        if known.seq != seq:
            record = self._rows.get(seq)
            if record is None:
                raise JournalDamaged([Damage("missing", "the database", 0, seq, None, "the record is gone")])
            self._known = known = Head(seq, record.sum)
        return known

    def advance(self, seq: int) -> None:
        with self._moved:
            if seq > self._seq:
                self._seq = seq
                self._moved.notify_all()

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return self._rows.read(after, self._seq, only, payloads=payloads)

    def get(self, seq: int) -> Record | None:
        return self._rows.get(seq) if 0 < seq <= self._seq else None

    def last(self, subject: str) -> Record | None:
        seq = self._rows.last(subject, self._seq)
        return self._rows.get(seq) if seq else None

    def wait(self, after: int, timeout: float | None) -> bool:
        with self._moved:
            self._moved.wait_for(lambda: self._seq > after or self._closed, timeout)
            return self._seq > after

    def measurements(self) -> Measurements:
        """Segments, and bytes of the tables. Raises JournalUnavailable."""
        seen = self._look()
        return {"segments": seen.segments, "bytes": seen.bytes}

    def database(self) -> Database:
        """What the server says of itself now. Raises JournalUnavailable."""
        return self._look().database

    def _look(self) -> Look:
        if self._seen is None:
            self._seen = self._connections.ask(lambda conn: look(conn, time.time))
        return self._seen

    def close(self) -> None:
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        self._connections.close()

    def __enter__(self) -> PostgresReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_reader(url: str, *, upto: int | None = None, witnesses: Sequence[Witness] = ()) -> PostgresReader:
    """A reader up to `upto`, or else up to what is committed now.

    Raises JournalUnavailable, JournalGone if there is no journal, FormatUnknown. Damage is not raised but reported by `.damage`.
    """
    connections = Connections(url)
    segments = Segments()
    damage: list[Damage] = []
    try:
        with connections.lent(first=True) as conn:
            check_version(conn)
            row = conn.execute("SELECT journal, epoch, seq, sum FROM covenq.head").fetchone()
            assert row is not None
            segments.load(conn)
            id, epoch, seq, total = row
            for witness in witnesses:
                if witness.journal == id:
                    try:
                        check_head(conn, Head(witness.seq, witness.sum))
                    except JournalDamaged as found:
                        damage += found.damage
        head = Head(seq, total)
        reader = PostgresReader(connections, segments, id=id, epoch=epoch, head=head, damage=damage)
        if upto is not None:
            reader._seq = upto
        return reader
    except psycopg.Error as error:
        connections.close()
        raise unavailable(error) from error
    except BaseException:
        connections.close()
        raise
