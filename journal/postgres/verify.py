"""Verifying a journal in tables: its rows as format 1's lines, by the code that verifies files, and what else the tables say.

What the chain covers is in the envelopes. The other columns are what appends and look-ups go by, so each is compared with the
envelope: a subject that was changed would let a delivery in a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from psycopg import Error

from journal.errors import JournalGone
from journal.format.check import SegmentReport, check_lines, join
from journal.format.codec import ENVELOPE, line_of
from journal.format.header import Header, header_damage, parse_header
from journal.format.recoverable_ids import recoverable_id
from journal.postgres.connections import connect, unavailable
from journal.postgres.deadlines import Conn
from journal.postgres.rows import SMALL, WITHIN, large_payload, segment_name
from journal.postgres.schema import check_version
from journal.records import Damage, Witness
from journal.reports import VerifyReport

Progress = Callable[[int, int], None]
"""(records done, records in all)"""

CHUNK = 200
"""Records that the server sends at once; a payload that is LARGE is asked for by itself, so that their memory is bounded."""
FOUND_MAX = 100
"""Findings of one kind that are named; a table of which more are wrong was made anew."""

_ROWS = f"""SELECT r.seq, r.subject, r.sum, r.envelope, c.about, {SMALL}, octet_length(c.payload), c.seq IS NOT NULL, c.erasure,
  e.by FROM {WITHIN}"""  # noqa: S608 - this package's own text
_BEFORE = """SELECT seq, before, was FROM (
    SELECT seq, before, lag(seq, 1, 0::bigint) OVER (PARTITION BY subject ORDER BY seq) AS was FROM covenq.record WHERE seq <= %s
  ) links WHERE before <> was ORDER BY seq LIMIT %s"""
_HEAD = "SELECT journal, epoch, seq, sum, link, segment, salt FROM covenq.head"


def verify(
    url: str,
    *,
    upto: int | None = None,
    since: int = 0,
    segment: int | None = None,
    witnesses: tuple[Witness, ...] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Check every row from the segment that holds `since` on (or one segment), as one transaction sees them.

    Raises JournalUnavailable, JournalGone, FormatUnknown.
    """
    conn = connect(url, first=True)
    try:
        with conn.transaction():
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            check_version(conn)
            return _Verifier(conn, upto, progress).run(since, segment, witnesses)
    except Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()


def list_segments(url: str) -> list[int]:
    """The first seqs of the segments, ascending. Raises JournalUnavailable, NoJournal, FormatUnknown."""
    conn = connect(url)
    try:
        check_version(conn)
        return [first for (first,) in conn.execute("SELECT first FROM covenq.segment ORDER BY first")]
    except Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()


class _Verifier:
    def __init__(self, conn: Conn, upto: int | None, progress: Progress | None) -> None:
        self._conn = conn
        self._progress = progress
        self._damage: list[Damage] = []
        row = conn.execute(_HEAD).fetchone()
        assert row is not None
        self._journal, self._epoch, self._seq, self._sum, self._link, self._segment, self._salt = row
        self._upto = self._seq if upto is None else min(upto, self._seq)

    def run(self, since: int, segment: int | None, witnesses: tuple[Witness, ...]) -> VerifyReport:
        rows = self._conn.execute("SELECT first, header FROM covenq.segment ORDER BY first", binary=True).fetchall()
        firsts = [first for first, _ in rows]
        if not firsts:
            detail = f"no segment is there, and the head says that the log ends at {self._seq}"
            self._damage.append(Damage("bad header", "the database", 0, None, None, detail))
        if segment is not None and segment not in firsts:
            raise JournalGone(
                f"no segment starts at seq {segment}", hint="`covenq verify` without --segment checks them all."
            )
        reports = []
        for number, (first, line) in enumerate(rows):
            end = firsts[number + 1] if number + 1 < len(firsts) else self._seq + 1
            if (first != segment) if segment is not None else (end <= since and number + 1 < len(firsts)):
                continue
            reports.append(self._check_segment(first, line, end))
        whole = len(reports) == len(rows)
        report = join(
            reports,
            whole=whole,
            starts=bool(reports) and reports[0].first == firsts[0],
            delivery_at=lambda first, offset: self._delivery_at(first, offset),
            name_of=segment_name,
        )
        report.damage += self._damage
        if segment is None:
            report.damage += self._check_head(report, reports)
            report.damage += self._check_links()
            report.damage += self._check_witnesses(report, witnesses)
        return report

    def _check_segment(self, first: int, line: bytes, end: int) -> SegmentReport:
        report = SegmentReport(first, last=first - 1)
        header, faults = parse_header((line + b"\n") * 2)
        report.header = header
        report.damage += header_damage(segment_name(first), header, faults)
        if header is None:
            return report
        if header.first != first:
            detail = f"its header says it starts at seq {header.first}"
            report.damage.append(Damage("wrong segment order", segment_name(first), 0, first, None, detail))
        check_lines(segment_name(first), header, self._lines(header, first, end), report, self._upto)
        return report

    def _lines(self, header: Header, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(seq, line) of each row: what would stand in a file. Where the columns say something else, that is noted."""
        with self._conn.cursor("covenq_verify", binary=True) as cursor:
            cursor.itersize = CHUNK
            cursor.execute(_ROWS, {"low": first, "high": min(end - 1, self._upto)})
            for row in cursor:
                seq, subject, total, envelope, about, payload, size, kept, erasure, by = row
                if size is not None and payload is None:
                    payload = large_payload(self._conn, seq)
                self._check_columns(header, seq, subject, envelope, kept, erasure, by)
                if erasure is not None and payload is not None:
                    self._note("payload", header, seq, "its content is there, and an erasure took it")
                yield seq, line_of(envelope, total, about, payload, None if erasure is None else by or 0)
                if self._progress is not None and seq % 256 == 0:
                    self._progress(seq, self._upto)

    def _check_columns(
        self, header: Header, seq: int, subject: str, envelope: bytes, kept: bool, erasure: int | None, by: int | None
    ) -> None:
        match = ENVELOPE.match(envelope)
        if match is None:
            return  # found by its sum, or as of no form
        if int(match[1]) != seq:
            self._note("foreign", header, seq, f"it says that it is record {int(match[1])}")
        if match[4].decode() != subject:
            self._note(
                "foreign",
                header,
                seq,
                f"it stands as one of {subject[:200]}, and says that it is of {match[4].decode()}",
            )
        if kept and match[6] is None and match[7] is None:
            self._note("payload", header, seq, "content that the record does not account for")
        if erasure is not None and by is None:
            self._note("payload", header, seq, "its content is gone by an erasure that there is none of")

    def _note(self, kind: str, header: Header, seq: int, detail: str) -> None:
        self._damage.append(Damage(kind, segment_name(header.first), seq, seq, None, detail))

    def _delivery_at(self, first: int, offset: int) -> str | None:
        row = self._conn.execute("SELECT envelope FROM covenq.record WHERE seq = %s", (offset,), binary=True).fetchone()
        return None if row is None else recoverable_id(row[0])

    def _check_head(self, report: VerifyReport, reports: list[SegmentReport]) -> list[Damage]:
        """Whether the row that appends go on from is the end of the chain."""
        found = []
        newest = reports[-1].header if reports else None
        if newest is None:
            return []
        where = segment_name(newest.first)
        if report.head.seq < self._upto:
            detail = f"the head says that the log ends at seq {self._seq}, it ends at {report.head.seq}"
            found.append(Damage("missing record", where, 0, report.head.seq + 1, None, detail))
        elif self._upto == self._seq:
            link = newest.sum if newest.after == self._seq else report.head.sum
            ends = (self._sum, self._link) == (report.head.sum if self._seq else self._sum, link)
            if not ends:
                detail = "the head has another sum than the newest record"
                found.append(Damage("other history", where, 0, self._seq, None, detail))
            of = (newest.journal, newest.epoch, newest.first, newest.salt)
            if of != (self._journal, self._epoch, self._segment, self._salt):
                detail = "the head is of another segment, epoch or journal than the newest header"
                found.append(Damage("foreign segment", where, 0, newest.first, None, detail))
        row = self._conn.execute("SELECT min(seq), count(*) FROM covenq.record WHERE seq > %s", (self._seq,)).fetchone()
        if row is not None and row[1]:
            detail = f"{row[1]} records stand behind the head, which says that the log ends at {self._seq}"
            found.append(Damage("foreign", where, 0, row[0], None, detail))
        return found

    def _check_links(self) -> list[Damage]:
        """Whether each record knows the one before it of its subject: by that one is an append refused."""
        rows = self._conn.execute(_BEFORE, (self._upto, FOUND_MAX)).fetchall()
        detail = "it says that record {} of its subject came before it, and that is {}"
        return [Damage("foreign", "the records", 0, seq, None, detail.format(before, was)) for seq, before, was in rows]

    def _check_witnesses(self, report: VerifyReport, witnesses: tuple[Witness, ...]) -> list[Damage]:
        found = []
        for one in witnesses:
            if one.journal != self._journal or not one.seq:
                continue
            if one.seq > self._seq:
                detail = (
                    f"seq {one.seq} had been seen, the log ends at {self._seq}: the journal is shorter than its caches"
                )
                found.append(Damage("shorter than caches", segment_name(self._segment), 0, self._seq + 1, None, detail))
                continue
            row = self._conn.execute("SELECT sum FROM covenq.record WHERE seq = %s", (one.seq,)).fetchone()
            if row is not None and row[0] != one.sum:
                detail = "a cache had seen another record at this seq"
                found.append(Damage("shorter than caches", segment_name(self._segment), 0, one.seq, None, detail))
        return found
