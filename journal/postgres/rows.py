"""Records out of the tables, each verified as a line of a file is: by its sum, its link, and the hashes of its content."""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from journal.errors import JournalDamaged
from journal.format.codec import SUM_MARK, LineError, Salted, fields_at, loaded
from journal.format.header import Header, parse_header
from journal.postgres.connections import Connections
from journal.postgres.deadlines import Conn
from journal.records import SEQ_MAX, Damage, Head, Record

PIECE_S = 20.0
"""Seconds that the server has for a piece of what is read in order."""
CHUNK = 500
"""Records that are asked for at once."""
LARGE = 256 << 10
"""Bytes; a payload that has more is asked for by itself, so that a chunk's memory is bounded."""

WITHIN = """covenq.record r LEFT JOIN covenq.content c ON c.seq = r.seq AND c.seq BETWEEN %(low)s AND %(high)s
  LEFT JOIN covenq.erasure e ON e.id = c.erasure WHERE r.seq BETWEEN %(low)s AND %(high)s ORDER BY r.seq"""
"""Records with their content. The bounds of the content say nothing new; without them a server that merges the two reads all of
the content that is before, each time it is asked for more, and so takes the square of the time for a long journal."""
_COLUMNS = "SELECT r.seq, r.envelope, r.sum, c.about, {payload}, octet_length(c.payload), e.by FROM "
SMALL = f"CASE WHEN octet_length(c.payload) <= {LARGE} THEN c.payload END"
_RANGE = f"{WITHIN} LIMIT %(most)s"
_WHOLE = _COLUMNS.format(payload=SMALL) + _RANGE
_BARE = _COLUMNS.format(payload="NULL::bytea") + _RANGE
_OF = """covenq.record r LEFT JOIN covenq.content c ON c.seq = r.seq AND c.seq = ANY(%(seqs)s)
  LEFT JOIN covenq.erasure e ON e.id = c.erasure WHERE r.seq = ANY(%(seqs)s) ORDER BY r.seq"""
_CHOSEN = _COLUMNS.format(payload=SMALL) + _OF
_CHOSEN_BARE = _COLUMNS.format(payload="NULL::bytea") + _OF
_HEADERS = "SELECT first, header FROM covenq.segment WHERE first > %s ORDER BY first"
_PAYLOAD = "SELECT payload FROM covenq.content WHERE seq = %s"


class Row(NamedTuple):
    """A record as the tables have it."""

    seq: int
    envelope: bytes
    sum: str
    about: bytes | None
    payload: bytes | None
    size: int | None
    """Bytes of the payload that is there, whether it was asked for or not."""
    dropped: int | None


class Segments:
    """The headers of the segments, and which one a record stands in. Those there are never change, so they are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._firsts: list[int] = []
        self._headers: list[tuple[Header, Salted]] = []

    def load(self, conn: Conn) -> bool:
        """Read those that came since, and say whether there were any. Raises JournalDamaged, FormatUnknown."""
        with self._lock:
            after = self._firsts[-1] if self._firsts else 0
            rows = conn.execute(_HEADERS, (after,), binary=True).fetchall()
            for first, line in rows:
                header, _ = parse_header((line + b"\n") * 2)
                if header is None or header.first != first:
                    detail = "the segment's header does not verify"
                    raise JournalDamaged([Damage("bad header", segment_name(first), 0, None, None, detail)])
                self._headers.append((header, header.salted))
                self._firsts.append(first)
            return bool(rows)

    def __len__(self) -> int:
        return len(self._firsts)

    def of(self, seq: int) -> tuple[Header, Salted] | None:
        """The segment that record `seq` stands in, unless it begins behind those that were loaded."""
        at = bisect_right(self._firsts, seq) - 1
        return self._headers[at] if at >= 0 else None


def large_payload(conn: Conn, seq: int) -> bytes | None:
    """A payload that is not SMALL, by itself. Raises psycopg.Error."""
    row = conn.execute(_PAYLOAD, (seq,), binary=True).fetchone()
    return None if row is None else row[0]


def segment_name(first: int) -> str:
    """How a segment is named to people."""
    return f"segment {first}"


def record_of(row: Row, header: Header, salted: Salted, *, payloads: bool = True) -> Record:
    """The record of a row, every byte of it verified but its link, and without `payloads` its payload. Raises LineError."""
    text = row.envelope + SUM_MARK + row.sum.encode() + b'"'
    seq, at, synced, subject, kind, about_sha256, payload_sha256, size, data, prev, total = fields_at(
        text, 0, len(row.envelope), salted
    )
    if seq != row.seq:
        raise LineError("foreign", f"its sum matches, but it says that it is record {seq}")
    _check_content(row, about_sha256, payload_sha256, size, payloads=payloads)
    return Record(
        seq=seq,
        at=at,
        synced=synced,
        subject=subject,
        kind=kind,
        data=loaded(data),
        about=None if row.about is None else loaded(row.about),
        payload=row.payload if payloads else None,
        payload_sha256=payload_sha256,
        payload_bytes=size,
        dropped=row.dropped,
        prev=prev,
        sum=total,
        epoch=header.epoch,
    )


def _check_content(
    row: Row, about_sha256: str | None, payload_sha256: str | None, size: int | None, *, payloads: bool
) -> None:
    """What can be erased, against the hashes in the envelope: there and right, or gone by a later record's word."""
    gone = row.dropped is not None
    if gone and about_sha256 is None and payload_sha256 is None:
        raise LineError("payload", "it says that content was dropped, and never had any")
    if row.dropped is not None and not row.seq < row.dropped <= SEQ_MAX:
        raise LineError("payload", f"it says that it was dropped by record {row.dropped}, which came before it")
    if row.about is not None:
        if about_sha256 is None or hashlib.sha256(row.about).hexdigest() != about_sha256:
            raise LineError("payload", "the hash of what it is about does not match")
    elif about_sha256 is not None and not gone:
        raise LineError("payload", "what it is about is missing")
    if row.size is not None:
        if gone or payload_sha256 is None:
            raise LineError("payload", "a payload that the record does not account for")
        if row.size != size:
            raise LineError("payload", "the payload is missing, or has another length")
        if payloads and (row.payload is None or hashlib.sha256(row.payload).hexdigest() != payload_sha256):
            raise LineError("payload", "the payload's hash does not match")
    elif payload_sha256 is not None and not gone:
        raise LineError("payload", "the payload is missing")


class Rows:
    """Reads records through lent connections. From any thread."""

    def __init__(self, connections: Connections, segments: Segments) -> None:
        self._connections = connections
        self._segments = segments
        self._last: Head | None = None
        """The newest record that was read in order: reading on from there has to link to it, whichever server answers by then."""

    def read(self, after: int, upto: int, only: Container[int] | None, *, payloads: bool) -> Iterator[Record]:
        """The records with `after` < seq ≤ `upto`, in order, each linked to the one before. Raises JournalDamaged."""
        if only is not None:
            yield from self._select(after, upto, only, payloads=payloads)
            return
        last = self._last
        expected = last.sum if last is not None and last.seq == after else None
        seq = after
        while seq < upto:
            rows = self._ask(_WHOLE if payloads else _BARE, {"low": seq + 1, "high": upto, "most": CHUNK})
            for row in rows:
                record = self._record(row, payloads=payloads)
                header = self._header(row.seq)
                begins = row.seq == header.first
                if row.seq != seq + 1 and not (begins and header.after == seq):  # a salvage leaves out what was lost
                    raise _damaged("missing", header, seq + 1, "the record is gone")
                link = header.sum if begins else expected
                if link is not None and record.prev != link:
                    raise _damaged("broken chain", header, record.seq, "it does not link to the record before it")
                if begins and expected is not None and header.prev != expected:
                    raise _damaged(
                        "broken chain", header, record.seq, "its segment does not continue the one before it"
                    )
                seq, expected = record.seq, record.sum
                self._last = Head(seq, expected)
                yield record
            if not rows:
                raise _damaged("missing", self._header(seq + 1), seq + 1, "the record is gone")

    def _select(self, after: int, upto: int, only: Container[int], *, payloads: bool) -> Iterator[Record]:
        query = _CHOSEN if payloads else _CHOSEN_BARE
        for start in range(after + 1, upto + 1, 4096):
            wanted = [seq for seq in range(start, min(start + 4096, upto + 1)) if seq in only]
            for at in range(0, len(wanted), CHUNK):
                for row in self._ask(query, {"seqs": wanted[at : at + CHUNK]}):
                    yield self._record(row, payloads=payloads)

    def get(self, seq: int) -> Record | None:
        """The record with that seq; None if there is none. Raises JournalDamaged."""
        rows = self._ask(_CHOSEN, {"seqs": [seq]})
        return self._record(rows[0], payloads=True) if rows else None

    def last(self, subject: str, upto: int) -> int:
        """The seq of the subject's newest record up to `upto`; 0 if it has none."""
        query = "SELECT seq FROM covenq.record WHERE subject = %s AND seq <= %s ORDER BY before DESC LIMIT 1"
        row = self._connections.ask(lambda conn: conn.execute(query, (subject, upto)).fetchone())
        return 0 if row is None else int(row[0])

    def _ask(self, query: str, values: Mapping[str, object]) -> list[Row]:
        def question(conn: Conn) -> list[Row]:
            return [Row(*row) for row in conn.execute(query, values, binary=True).fetchall()]

        return self._connections.ask(question, PIECE_S)

    def _header(self, seq: int) -> Header:
        return self._segment(seq)[0]

    def _segment(self, seq: int) -> tuple[Header, Salted]:
        found = self._segments.of(seq)
        if found is None:
            raise JournalDamaged(
                [Damage("bad header", segment_name(seq), 0, seq, None, "no segment holds this record")]
            )
        return found

    def _record(self, row: Row, *, payloads: bool) -> Record:
        """The record of a row. A sum that fails under a known salt may be of a segment that began since."""
        try:
            return self._verified(row, payloads=payloads)
        except (LineError, JournalDamaged) as error:
            if self._connections.ask(self._segments.load):
                return self._record(row, payloads=payloads)
            if isinstance(error, JournalDamaged):
                raise
            raise _damaged(error.kind, self._header(row.seq), row.seq, error.detail) from error

    def _verified(self, row: Row, *, payloads: bool) -> Record:
        header, salted = self._segment(row.seq)
        if payloads and row.size is not None and row.payload is None:
            row = self._large(row)
        return record_of(row, header, salted, payloads=payloads)

    def _large(self, row: Row) -> Row:
        """The row with its payload, which was too large to be asked for with others, or as it is if that was erased meanwhile."""
        payload = self._connections.ask(lambda conn: large_payload(conn, row.seq))
        if payload is not None:
            return row._replace(payload=payload)
        return self._ask(_CHOSEN, {"seqs": [row.seq]})[0]


def _damaged(kind: str, header: Header, seq: int, detail: str) -> JournalDamaged:
    return JournalDamaged([Damage(kind, segment_name(header.first), 0, seq, None, detail)])
