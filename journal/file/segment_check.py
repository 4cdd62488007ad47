"""Verifying one segment by itself: its header, its lines, its own chain. `journal.file.verify` joins the segments."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

from journal.erasure import Erasure
from journal.file.erase import erasure_in
from journal.file.files import Files, OsFiles
from journal.file.index import Position
from journal.file.recoverable_ids import recoverable_id
from journal.file.segment import SegmentFile
from journal.format.codec import ENVELOPE, SUM_MARK, Envelope, LineError, check_tail, open_envelope
from journal.format.header import GENESIS, Header, header_damage
from journal.records import SEQ_MAX, Damage, Head


@dataclass(slots=True)
class SegmentReport:
    """The findings of one segment, or of a piece of it. `last` and `sum` are those of the newest record that verifies."""

    first: int
    header: Header | None = None
    last: int = 0
    sum: str = GENESIS
    records: int = 0
    damage: list[Damage] = field(default_factory=list)
    dropped: dict[int, array[int]] = field(default_factory=dict)
    """By the record said to have dropped the content: triples of seq, whether its about is gone too, and offset. Packed, for
    in an old journal that is nearly every delivery."""
    drops: list[Erasure] = field(default_factory=list)
    begins: tuple[int, str] | None = None
    """(seq, prev) of a piece's first record"""
    fails_after: Position | None = None
    """The last record before the first line that does not verify, or the header if there is none."""
    failing: int = 0
    """Lines after the newest record that do not verify: so many records are damaged, not gone."""
    size: int = 0
    """Bytes up to the end of the newest record, or of the header if there is none; 0 for a piece."""

    @property
    def end(self) -> Head:
        """The record that a successor continues: the newest one, or that before the segment if it holds none."""
        if self.records or self.header is None:
            return Head(self.last, self.sum)
        return Head(self.header.after, self.header.prev)


def check_segment(
    files: Files, directory: Path, first: int, *, upto: int | None = None, draft: bool = False
) -> SegmentReport:
    """Check every line of one segment, or of its `draft`.

    After a failing line the chain continues at the next line that verifies.
    """
    report = SegmentReport(first, last=first - 1)
    with SegmentFile(files, directory, first, draft=draft) as segment:
        header, faults = segment.header()
        report.header = header
        report.damage += header_damage(segment.name, header, faults)
        if header is None:
            return report
        if header.first != first:
            detail = f"its header says it starts at seq {header.first}"
            report.damage.append(Damage("wrong segment order", segment.name, 0, first, None, detail))
        report.last, report.sum, report.size = header.first - 1, header.sum, header.size
        _read(segment, header, report, upto)
    return report


def _read(segment: SegmentFile, header: Header, report: SegmentReport, upto: int | None) -> None:
    salted, name = header.salted, segment.name
    expected, linked = header.first, True
    good: tuple[int, int] | None = None
    for offset, line in segment.lines(header.size):
        try:
            envelope = open_envelope(line, salted)
        except LineError as error:
            if upto is not None and expected > upto:
                return
            kind, detail = error.kind, error.detail
            if not line.endswith(b"\n"):
                kind, detail = "truncated", "the file ends within it"
            report.damage.append(Damage(kind, name, offset, expected, recoverable_id(line), detail))
            _note_failure(report, header, good)
            expected, linked = expected + 1, False
            report.failing += 1
            continue
        if upto is not None and envelope.seq > upto:
            return
        delivery = envelope.delivery
        fault = _chain_fault(envelope, expected, report.sum, linked)
        if fault is not None:
            report.damage.append(Damage(fault[0], name, offset, envelope.seq, delivery, fault[1]))
            _note_failure(report, header, good)
        try:
            _check_content(report, line, envelope, offset)
        except LineError as error:
            report.damage.append(Damage(error.kind, name, offset, envelope.seq, delivery, error.detail))
            _note_failure(report, header, good)
        if envelope.seq >= expected:  # a record that comes too late is not counted
            report.records += 1
            report.last, report.sum = envelope.seq, envelope.sum
            expected, linked = envelope.seq + 1, True
            report.size, report.failing = offset + len(line), 0
            good = (offset, report.size)


def _note_failure(report: SegmentReport, header: Header, good: tuple[int, int] | None) -> None:
    if report.fails_after is None and good is None:
        report.fails_after = Position(header.journal, header.after, header.prev, report.first, 0, header.size)
    elif report.fails_after is None and good is not None:
        report.fails_after = Position(header.journal, report.last, report.sum, report.first, good[0], good[1])


def _chain_fault(envelope: Envelope, expected: int, prev: str, linked: bool) -> tuple[str, str] | None:
    if envelope.seq < expected:
        return "reordered", f"seq {envelope.seq} stands where {expected} belongs"
    if envelope.seq > expected:
        return "missing record", f"seq {envelope.seq} stands where {expected} belongs"
    if linked and envelope.prev != prev:
        return "reordered", "it does not follow the record before it"
    return None


def _check_content(report: SegmentReport, line: bytes, envelope: Envelope, offset: int) -> None:
    about, _, dropped = check_tail(line, envelope)
    if dropped is not None:
        about_gone = about is None and envelope.match[6] is not None
        report.dropped.setdefault(dropped, array("q")).extend((envelope.seq, about_gone, offset))
    if b'"drops":' in envelope.match[9]:
        erasure = erasure_in(envelope)
        if erasure is not None:
            report.drops.append(erasure)


def check_piece(directory: str, first: int, start: int, end: int) -> SegmentReport | None:
    """One piece, if it is in perfect order; None if anything at all is wrong with it."""
    files = OsFiles()
    report = SegmentReport(first)
    with SegmentFile(files, Path(directory), first) as segment:
        header, _ = segment.header()
        if header is None:
            return None
        salted = header.salted
        expected, prev = -1, b""
        for offset, line in segment.lines(start, end):
            # The common line in as few steps as possible: nothing after the sum, and the chain goes on. It proves the same as
            # the steps below.
            cut = line.find(SUM_MARK)
            if line.endswith(b'"}\n') and len(line) == cut + 75:
                match = ENVELOPE.match(line, 0, cut)
                if (
                    match is not None
                    and match[10] == prev
                    and int(match[1]) == expected > int(match[3])
                    and match[6] is match[7] is None
                ):
                    total = salted.sum(line[:cut]).encode()
                    if line[cut + 8 : cut + 72] == total and b'"drops":' not in line:
                        expected, prev = expected + 1, total
                        report.records += 1
                        continue
            try:
                opened = open_envelope(line, salted)
                _check_content(report, line, opened, offset)
            except LineError:
                return None
            if expected < 0:
                report.begins = (opened.seq, opened.prev)
            elif opened.seq != expected or prev != opened.prev.encode():
                return None
            expected, prev = opened.seq + 1, opened.sum.encode()
            report.records += 1
    if expected - 1 > SEQ_MAX:
        return None
    report.last, report.sum = expected - 1, prev.decode()
    return report


def continuity_damage(name: str, header: Header, journal: str, before: Head | None) -> list[Damage]:
    """Whether a segment continues record `before` of `journal`; `before` is None for the first segment of all."""
    if header.journal != journal:
        return [Damage("foreign segment", name, 0, header.first, None, "it belongs to another journal")]
    if before is None:
        if (header.after, header.prev) == (0, GENESIS):
            return []
        detail = f"the segment that ends at seq {header.after} is gone"
        return [Damage("missing segment", name, 0, header.after, None, detail)]
    if header.after != before.seq:
        detail = f"it continues after seq {header.after}, the segment before ends at {before.seq}"
        return [Damage("gap between segments", name, 0, before.seq + 1, None, detail)]
    if header.prev != before.sum:
        return [
            Damage("wrong segment order", name, 0, header.first, None, "it does not continue the segment before it")
        ]
    return []
