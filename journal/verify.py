"""Prove a whole journal, changing nothing, and name every kind of damage.

Each segment is checked by itself (its own lines, its own chain), then the segments are joined by their headers: so segments
can be checked in any order, and a break in one does not hide what is behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from journal.erase import erasure_of
from journal.files import Files, OsFiles
from journal.index import INDEX_NAME, Index
from journal.line import Envelope, LineError, check_tail, open_envelope
from journal.model import Damage, Head, Witness
from journal.recovery import examine, legible
from journal.segment import GENESIS, Header, SegmentFile, list_segments, name_of, read_mark

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)"""


@dataclass(slots=True)
class VerifyReport:
    """`ok` is whether nothing was found. `records` counts those that verify; `head` is the newest that is linked."""

    records: int = 0
    head: Head = field(default_factory=lambda: Head(0, GENESIS))
    damage: list[Damage] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.damage


@dataclass(slots=True)
class SegmentReport:
    """What one segment says by itself. `last`/`sum` are the newest verifying record's, or what its header continues."""

    first: int
    header: Header | None = None
    last: int = 0
    sum: str = GENESIS
    records: int = 0
    damage: list[Damage] = field(default_factory=list)
    dropped: list[tuple[int, int, int]] = field(default_factory=list)
    """(seq, the record said to have dropped it, offset)"""
    drops: list[tuple[int, int, int]] = field(default_factory=list)
    """(seq of the dropping record, first, last)"""


def verify(
    directory: Path,
    *,
    upto: int | None = None,
    since: int = 0,
    segment: int | None = None,
    witnesses: Sequence[Witness] = (),
    progress: Progress | None = None,
    files: Files | None = None,
) -> VerifyReport:
    """Check every byte from the segment that holds `since` on (or one segment), up to `upto` if a daemon is writing.

    Without `upto`, bytes that a crash explains at the end of an unlocked journal are no damage, by the same rule as an
    opening uses. Raises JournalGone, FormatUnknown.
    """
    files = files or OsFiles()
    firsts = list_segments(files, directory)
    chosen = [first for number, first in enumerate(firsts) if _wanted(firsts, number, since, segment)]
    sizes = {first: _size(files, directory, first) for first in chosen}
    total, done = sum(sizes.values()), 0
    reports = []
    torn_at = _torn_at(files, directory, witnesses) if upto is None else None
    for first in chosen:
        end = torn_at[1] if torn_at is not None and torn_at[0] == first else None

        def tell(offset: int, base: int = done) -> None:
            if progress is not None:
                progress(base + offset, total)

        reports.append(check_segment(files, directory, first, upto=upto, end=end, progress=tell))
        done += sizes[first]
    report = join(reports, whole=chosen == firsts, starts=bool(chosen) and chosen[0] == firsts[0])
    if upto is None and segment is None and chosen:
        report.damage += _ahead(files, directory, report, reports, witnesses, chosen[-1], sizes[chosen[-1]])
    return report


def _size(files: Files, directory: Path, first: int) -> int:
    with SegmentFile(files, directory, first) as segment:
        return segment.size()


def _wanted(firsts: list[int], number: int, since: int, segment: int | None) -> bool:
    if segment is not None:
        return firsts[number] == segment
    return number == len(firsts) - 1 or firsts[number + 1] > since


def _torn_at(files: Files, directory: Path, witnesses: Sequence[Witness]) -> tuple[int, int] | None:
    found = examine(files, directory, witnesses=[*witnesses, *_index_witness(directory)])
    return None if found.torn is None else (found.torn.segment, found.torn.offset)


def _index_witness(directory: Path) -> list[Witness]:
    path = directory / INDEX_NAME
    if not path.exists():
        return []
    try:
        index = Index(path, readonly=True)
        try:
            position = index.position()
        finally:
            index.close()
    except sqlite3.Error:
        return []
    return [] if position is None else [Witness(position.journal, position.seq, position.sum)]


def check_segment(
    files: Files,
    directory: Path,
    first: int,
    *,
    upto: int | None = None,
    end: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> SegmentReport:
    """Every line of one segment, by itself. After a failing line the chain is taken up again at the next that verifies."""
    report = SegmentReport(first, last=first - 1)
    with SegmentFile(files, directory, first) as segment:
        header, faults = segment.header()
        report.header = header
        if header is None:
            detail = "neither copy of the segment's header verifies"
            report.damage.append(Damage("bad header", segment.name, 0, None, None, detail))
            return report
        for fault in faults:
            detail = f"copy {fault.copy + 1} of the header does not verify"
            report.damage.append(Damage("bad header", segment.name, fault.offset, None, None, detail))
        if header.first != first:
            detail = f"its header says it starts at seq {header.first}"
            report.damage.append(Damage("wrong segment order", segment.name, 0, first, None, detail))
        report.last, report.sum = header.first - 1, header.sum
        salted = header.salted
        expected, linked = header.first, True
        size = segment.size() if end is None else end
        for offset, line in segment.lines(header.size, end):
            try:
                envelope = open_envelope(line, salted)
            except LineError as error:
                if upto is not None and expected > upto:
                    break
                kind, detail = error.kind, error.detail
                if not line.endswith(b"\n"):
                    kind, detail = "truncated", "the file ends within it"
                whose = legible(line)
                found = Damage(kind, segment.name, offset, expected, whose[0] if whose else None, detail)
                report.damage.append(found)
                expected, linked = expected + 1, False
                continue
            if upto is not None and envelope.seq > upto:
                break
            delivery = _delivery(envelope)
            fault_kind = _chain_fault(envelope, expected, report.sum, linked)
            if fault_kind is not None:
                kind, detail = fault_kind
                report.damage.append(Damage(kind, segment.name, offset, envelope.seq, delivery, detail))
            try:
                _content(report, line, envelope, offset)
            except LineError as error:
                report.damage.append(Damage(error.kind, segment.name, offset, envelope.seq, delivery, error.detail))
            report.records += 1
            if fault_kind is None or envelope.seq >= expected:
                report.last, report.sum = envelope.seq, envelope.sum
                expected, linked = envelope.seq + 1, True
            if progress is not None and report.records % 512 == 0:
                progress(offset)
        if progress is not None:
            progress(size)
    return report


def _chain_fault(envelope: Envelope, expected: int, prev: str, linked: bool) -> tuple[str, str] | None:
    if envelope.seq < expected:
        return "reordered", f"seq {envelope.seq} stands where {expected} belongs"
    if envelope.seq > expected:
        return "missing record", f"seq {envelope.seq} stands where {expected} belongs"
    if linked and envelope.prev != prev:
        return "reordered", "it does not follow the record before it"
    return None


def _content(report: SegmentReport, line: bytes, envelope: Envelope, offset: int) -> None:
    _, _, dropped = check_tail(line, envelope)
    if dropped is not None:
        report.dropped.append((envelope.seq, dropped, offset))
    if b'"drops":' in envelope.match[9]:
        erasure = erasure_of(envelope.seq, orjson.loads(envelope.match[9]))
        if erasure is not None:
            report.drops += [(envelope.seq, low, high) for low, high in erasure.drops]


def _delivery(envelope: Envelope) -> str | None:
    subject = envelope.subject
    return "/".join(subject.split(".")[1:]) if subject.startswith("delivery.") else None


def join(reports: Iterable[SegmentReport], *, whole: bool, starts: bool) -> VerifyReport:
    """Hold the segments against each other: order, gaps, and whether every missing content was named by a record before."""
    report = VerifyReport()
    before: SegmentReport | None = None
    drops: list[tuple[int, int, int]] = []
    dropped: list[tuple[str, int, int, int]] = []
    for one in reports:
        name = name_of(one.first)
        report.damage += one.damage
        report.records += one.records
        header = one.header
        if header is not None:
            if before is None and starts and (header.after, header.prev) != (0, GENESIS):
                detail = f"the segment that ends at seq {header.after} is gone"
                report.damage.append(Damage("missing segment", name, 0, header.after, None, detail))
            elif before is not None and before.header is not None and header.after != before.last:
                detail = f"it continues after seq {header.after}, the segment before ends at {before.last}"
                report.damage.append(Damage("gap between segments", name, 0, before.last + 1, None, detail))
            elif before is not None and before.header is not None and header.prev != _end(before):
                detail = "it does not continue the segment before it"
                report.damage.append(Damage("wrong segment order", name, 0, header.first, None, detail))
            if before is not None and before.header is not None and header.journal != before.header.journal:
                detail = "it belongs to another journal"
                report.damage.append(Damage("foreign segment", name, 0, header.first, None, detail))
        drops += one.drops
        dropped += [(name, *entry) for entry in one.dropped]
        if one.header is not None:
            report.head = Head(one.last, _end(one)) if one.records else report.head
        before = one
    if whole:
        for name, seq, by, offset in dropped:
            if not any(dropper == by and low <= seq <= high for dropper, low, high in drops):
                detail = f"its content is gone, and record {by} does not say so"
                report.damage.append(Damage("payload", name, offset, seq, None, detail))
    return report


def _end(report: SegmentReport) -> str:
    """The sum that a successor continues: the last record's, or what the header alone continued."""
    if report.records or report.header is None:
        return report.sum
    return report.header.prev


def _ahead(
    files: Files,
    directory: Path,
    report: VerifyReport,
    reports: list[SegmentReport],
    witnesses: Sequence[Witness],
    last: int,
    size: int,
) -> list[Damage]:
    """Caches, and the mark of a clean close, that know of more than the log holds."""
    known = [*witnesses, *_index_witness(directory)]
    mark = read_mark(files, directory)
    if mark is not None:
        known.append(Witness(mark.journal, mark.seq, mark.sum))
    header = reports[-1].header
    if header is None:
        return []
    ahead = [one for one in known if one.journal == header.journal and one.seq > report.head.seq]
    if not ahead:
        return []
    newest = max(ahead, key=lambda witness: witness.seq)
    detail = (
        f"seq {newest.seq} had been seen, the log ends at {report.head.seq}: the journal is shorter than its caches"
    )
    return [Damage("shorter than caches", name_of(last), size, report.head.seq + 1, None, detail)]
