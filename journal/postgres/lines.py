"""A journal's tables as segments of lines, to be copied elsewhere, and tables made of such lines.

Why a copy that was cut short can be gone on with: each part is a transaction that moves the head with the records it brings, and
the head is closed until the last one: nobody appends behind half a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import psycopg

from journal.errors import JournalDamaged, MigrationRefused
from journal.format.check import erasure_in
from journal.format.codec import Envelope, LineError, check_tail, line_of, open_envelope
from journal.format.header import Header, header_damage, make_header, parse_header
from journal.postgres import schema, server
from journal.postgres.connections import connect, told, unavailable
from journal.postgres.rows import SMALL, WITHIN, large_payload, segment_name
from journal.records import Damage, Head

PART_LINES = 500
PART_BYTES = 8 << 20
"""Lines, and bytes of them, that one transaction brings."""
ONE_AT_A_TIME = "Wait until it has ended, and give the same again."
COPYING = "a journal is being copied here, and is not all there yet"
_LOCK = 0x636F76656E72
"""The advisory lock of who copies a journal into the tables."""

_ROWS = f"""SELECT r.seq, r.envelope, r.sum, c.about, {SMALL}, octet_length(c.payload), c.erasure, e.by
  FROM {WITHIN}"""  # noqa: S608 - this package's own text
_RECORDS = """INSERT INTO covenq.record (seq, before, subject, attempt, sum, envelope)
  SELECT e.seq, coalesce(
      lag(e.seq) OVER (PARTITION BY e.subject ORDER BY e.seq),
      (SELECT r.seq FROM covenq.record r WHERE r.subject = e.subject ORDER BY r.before DESC LIMIT 1),
      0
    ), e.subject, '', e.sum, e.envelope
  FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::bytea[]) AS e (seq, subject, sum, envelope)"""
_CONTENT = """INSERT INTO covenq.content (seq, about, payload, erasure)
  SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bytea[], %b::bigint[])"""

_ERASE = """UPDATE covenq.content SET payload = NULL, about = CASE WHEN %(about)s THEN NULL ELSE about END, erasure = %(id)s
  WHERE seq BETWEEN %(low)s AND %(high)s AND (payload IS NOT NULL OR (%(about)s AND about IS NOT NULL))"""


class TableLines:
    """The segments of a database, and their lines up to a record."""

    def __init__(self, url: str) -> None:
        self._url = url

    def segments(self) -> list[tuple[Header, bytes]]:
        """The headers, in order, each with its line. Raises JournalDamaged, JournalUnavailable."""
        conn = connect(self._url)
        try:
            rows = conn.execute("SELECT first, header FROM covenq.segment ORDER BY first", binary=True).fetchall()
        except psycopg.Error as error:
            raise unavailable(error) from error
        finally:
            conn.close()
        found = []
        for first, text in rows:
            line = text + b"\n"
            header, faults = parse_header(line * 2)
            if header is None or header.first != first:
                raise JournalDamaged(header_damage(segment_name(first), None, faults))
            found.append((header, line))
        return found

    def lines(self, header: Header, after: int, upto: int) -> Iterator[bytes]:
        """As `journal.file.lines.FileLines.lines`; `upto` is in the segment, or `after` and it are."""
        conn = connect(self._url)
        try:
            with conn.transaction(), conn.cursor("covenq_lines", binary=True) as cursor:
                # So that an erasure meanwhile takes no payload away between a row and its large payload.
                conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.itersize = 200
                cursor.execute(_ROWS, {"low": max(after + 1, header.first), "high": upto})
                for seq, envelope, total, about, small, size, erasure, by in cursor:
                    payload = large_payload(conn, seq) if size is not None and small is None else small
                    line = line_of(envelope, total, about, payload, None if erasure is None else by or 0)
                    try:
                        check_tail(line, open_envelope(line, header.salted))
                    except LineError as error:
                        where = segment_name(header.first)
                        raise JournalDamaged([Damage(error.kind, where, 0, None, None, error.detail)]) from error
                    yield line
        except psycopg.Error as error:
            raise unavailable(error) from error
        finally:
            conn.close()


class TableTarget:
    """Tables that a journal is copied into."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        """Raises as the opening of a journal."""
        self._conn = connect(url, first=True)
        self._erasures: dict[int, int] = {}
        try:
            with told():
                server.check(self._conn, now)
                # Of this session: whoever copies and is killed is no obstacle for the next.
                if self._conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
                    raise MigrationRefused("another `covenq migrate` copies into that database", hint=ONE_AT_A_TIME)
        except BaseException:
            self._conn.close()
            raise

    def begin(self, first: Header, line: bytes) -> Head:
        """Make the tables for the journal that this header begins, or find how far a copy of it is: one that was
        cut short, or what is left there of a journal that was moved away.

        Raises MigrationRefused where there is another, or one that is whole; SchemaForbidden.
        """
        conn = self._conn
        with told():
            schema.make_tables(conn)
        with told(), conn.transaction():
            row = conn.execute("SELECT journal, seq, sum, closed FROM covenq.head FOR UPDATE").fetchone()
            if row is not None and row[0] == first.journal and row[3]:
                conn.execute("UPDATE covenq.head SET closed = %s", (COPYING,))
                return Head(row[1], row[2])
            if row is not None and (row[0] == first.journal or row[1] or row[3]):
                raise MigrationRefused(f"the database holds journal {row[0][:8]}… already, up to record {row[1]}")
            conn.execute("DELETE FROM covenq.segment")
            conn.execute("DELETE FROM covenq.lease")
            conn.execute("DELETE FROM covenq.head")
            conn.execute(
                "INSERT INTO covenq.head (version, journal, epoch, seq, sum, link, segment, segment_bytes, salt, closed)"
                " VALUES (%s, %s, %s, 0, %s, %s, 1, 0, %s, %s)",
                (schema.VERSION, first.journal, first.epoch, first.prev, first.sum, first.salt, COPYING),
            )
            conn.execute("INSERT INTO covenq.lease DEFAULT VALUES")
            conn.execute("INSERT INTO covenq.segment VALUES (%s, %s)", (first.first, line.rstrip(b"\n")))
        return Head(0, first.prev)

    def add(self, header: Header, line: bytes, lines: Iterable[bytes]) -> Iterator[int]:
        """Bring lines of a segment, which begins unless it is there; yields the newest seq after each part."""
        part: list[bytes] = []
        size = 0
        with told(), self._conn.transaction():
            known = self._conn.execute("SELECT 1 FROM covenq.segment WHERE first = %s", (header.first,)).fetchone()
            if known is None:
                self._conn.execute("INSERT INTO covenq.segment VALUES (%s, %s)", (header.first, line.rstrip(b"\n")))
                self._conn.execute(
                    "UPDATE covenq.head SET epoch = %s, link = %s, segment = %s, segment_bytes = 0, salt = %s",
                    (header.epoch, header.sum, header.first, header.salt),
                )
        for one in lines:
            part.append(one)
            size += len(one)
            if len(part) >= PART_LINES or size >= PART_BYTES:
                yield self._bring(header, part, size)
                part, size = [], 0
        if part:
            yield self._bring(header, part, size)

    def _bring(self, header: Header, lines: list[bytes], size: int) -> int:
        salted = header.salted
        opened = [open_envelope(line, salted) for line in lines]
        with told(), self._conn.transaction():
            self._conn.execute(
                _RECORDS,
                (
                    [one.seq for one in opened],
                    [one.subject for one in opened],
                    [one.sum for one in opened],
                    [line[: one.tail_at - 73] for one, line in zip(opened, lines, strict=True)],
                ),
            )
            kept = []
            for one, line in zip(opened, lines, strict=True):
                if one.match[6] is not None or one.match[7] is not None:
                    about, payload, dropped = check_tail(line, one)
                    kept.append((one.seq, about, payload, None if dropped is None else self._erasure(dropped)))
            if kept:
                self._conn.execute(_CONTENT, [list(column) for column in zip(*kept, strict=True)])
            for one in opened:
                self._erase(one)
            newest = opened[-1]
            self._conn.execute(
                "UPDATE covenq.head SET seq = %s, sum = %s, link = %s, segment_bytes = segment_bytes + %s",
                (newest.seq, newest.sum, newest.sum, size),
            )
        return newest.seq

    def _erase(self, envelope: Envelope) -> None:
        """What a record names may have been brought before it was erased where it came from."""
        erasure = erasure_in(envelope)
        for low, high in () if erasure is None else erasure.drops:
            self._conn.execute(
                _ERASE,
                {
                    "low": low,
                    "high": high,
                    "about": erasure is not None and erasure.about,
                    "id": self._erasure(envelope.seq),
                },
            )

    def _erasure(self, by: int) -> int:
        """The id of the erasure that a record names."""
        if by not in self._erasures:
            row = self._conn.execute("SELECT id FROM covenq.erasure WHERE by = %s", (by,)).fetchone()
            row = (
                row or self._conn.execute("INSERT INTO covenq.erasure (by) VALUES (%s) RETURNING id", (by,)).fetchone()
            )
            assert row is not None
            self._erasures[by] = row[0]
        return self._erasures[by]

    def finish(self, epoch: str, salt: str) -> None:
        """Open it for a daemon, in an epoch that begins with a segment: one transaction. Raises MigrationRefused."""
        with told(), self._conn.transaction():
            row = self._conn.execute("SELECT journal, seq, sum, closed FROM covenq.head FOR UPDATE").fetchone()
            if row is None or row[3] != COPYING:  # another one has finished it, and a daemon may write it by now
                raise MigrationRefused(
                    "the database's journal is open already", hint="Look at it with `covenq verify`."
                )
            journal, seq, total, _ = row
            header, line = make_header(journal=journal, epoch=epoch, first=seq + 1, after=seq, prev=total, salt=salt)
            self._conn.execute("DELETE FROM covenq.segment WHERE first > %s", (seq,))
            self._conn.execute("INSERT INTO covenq.segment VALUES (%s, %s)", (header.first, line.rstrip(b"\n")))
            self._conn.execute(
                "UPDATE covenq.head SET epoch = %s, link = %s, segment = %s, segment_bytes = 0, salt = %s, closed = ''",
                (epoch, header.sum, header.first, salt),
            )

    def close(self) -> None:
        self._conn.close()


def identity(url: str) -> object:
    """Which database that is, whatever name its server goes by. Raises JournalUnavailable."""
    conn = connect(url, first=True)
    try:
        query = "SELECT pg_postmaster_start_time(), oid FROM pg_database WHERE datname = current_database()"
        return conn.execute(query).fetchone()
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()


def seal(url: str, words: str) -> None:
    """Nothing is appended there any more; `words` is what whoever tries is told. Raises JournalUnavailable."""
    conn = connect(url)
    try:
        conn.execute("UPDATE covenq.head SET closed = %s", (words,))
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()


def is_sealed(url: str) -> bool:
    """Whether the journal there was moved away. Raises JournalUnavailable, JournalGone."""
    conn = connect(url)
    try:
        schema.check_version(conn)
        return conn.execute("SELECT closed NOT IN ('', %s) FROM covenq.head", (COPYING,)).fetchone() == (True,)
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()
