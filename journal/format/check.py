"""Verifying segments as lines, whatever keeps them: sums, chain, what follows the sums; and how segments follow each other."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from journal.erasure import Erasure, allows, erasure_of
from journal.format.codec import ENVELOPE, SUM_MARK, Envelope, LineError, check_tail, open_envelope
from journal.format.header import GENESIS, Header
from journal.format.recoverable_ids import recoverable_id
from journal.records import SEQ_MAX, Damage, Head
from journal.reports import VerifyReport


class LastGood(NamedTuple):
    """The record before the first that does not verify, or the header (`start` 0) if there is none; and where its line is."""

    seq: int
    sum: str
    start: int
    finish: int


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
    fails_after: LastGood | None = None
    """None if all verify."""
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


def check_lines(
    name: str, header: Header, lines: Iterable[tuple[int, bytes]], report: SegmentReport, upto: int | None
) -> None:
    """Check (offset, line) pairs, which follow the header, into the report; `name` is the segment's in what is found.

    After a failing line the chain continues at the next line that verifies. Lines behind record `upto` are in flight.
    """
    salted = header.salted
    report.last, report.sum, report.size = header.first - 1, header.sum, header.size
    expected, linked = header.first, True
    good: tuple[int, int] | None = None
    for offset, line in lines:
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
        fault = chain_fault(envelope, expected, report.sum, linked)
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
        report.fails_after = LastGood(header.after, header.prev, 0, header.size)
    elif report.fails_after is None and good is not None:
        report.fails_after = LastGood(report.last, report.sum, good[0], good[1])


def chain_fault(envelope: Envelope, expected: int, prev: str, linked: bool) -> tuple[str, str] | None:
    """What is wrong where record `expected` belongs, in a word and a sentence; `prev` counts where it is `linked`."""
    if envelope.seq < expected:
        return "reordered", f"seq {envelope.seq} stands where {expected} belongs"
    if envelope.seq > expected:
        return "missing record", f"seq {envelope.seq} stands where {expected} belongs"
    if linked and envelope.prev != prev:
        return "reordered", "it does not follow the record before it"
    return None


def erasure_in(envelope: Envelope) -> Erasure | None:
    """The erasure that the record of this line names; None if it names none, or its data is no JSON."""
    try:
        return erasure_of(envelope.seq, orjson.loads(envelope.match[9]))
    except orjson.JSONDecodeError:
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


def check_piece_lines(header: Header, first: int, lines: Iterable[tuple[int, bytes]]) -> SegmentReport | None:
    """A piece of a segment, if it is in perfect order; None if anything at all is wrong with it."""
    report = SegmentReport(first)
    salted = header.salted
    expected, prev = -1, b""
    for offset, line in lines:
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


def join(
    reports: Sequence[SegmentReport],
    *,
    whole: bool,
    starts: bool,
    delivery_at: Callable[[int, int], str | None],
    name_of: Callable[[int], str],
) -> VerifyReport:
    """Check the segments against each other: order, gaps, and whether a record names all missing content.

    `delivery_at(segment, offset)` is the delivery of the record at that offset, `name_of(segment)` how it is named to people.
    """
    report = VerifyReport()
    before: SegmentReport | None = None
    named: dict[int, Erasure] = {}
    for one in reports:
        name = name_of(one.first)
        report.damage += one.damage
        report.records += one.records
        if one.header is not None:
            report.damage += _continuity_damage(name, one.header, before, starts=starts)
            report.head = one.end if one.records else report.head
        named.update((erasure.by, erasure) for erasure in one.drops)
        before = one
    for one in reports if whole else ():
        name = name_of(one.first)
        for offset, seq, by in sorted(_unexplained_missing(one, named)):
            detail = f"its content is gone, and record {by} does not say so"
            report.damage.append(Damage("payload", name, offset, seq, delivery_at(one.first, offset), detail))
    return report


def _unexplained_missing(report: SegmentReport, named: Mapping[int, Erasure]) -> Iterator[tuple[int, int, int]]:
    """(offset, seq, the record said to have dropped it) of content that is missing although no record allows it."""
    for by, packed in report.dropped.items():
        numbers = iter(packed)
        for seq, about_gone, offset in zip(numbers, numbers, numbers, strict=True):
            if by not in named or not allows(named[by], seq, about=bool(about_gone)):
                yield offset, seq, by


def _continuity_damage(name: str, header: Header, before: SegmentReport | None, *, starts: bool) -> list[Damage]:
    if before is None:
        return continuity_damage(name, header, header.journal, None) if starts else []
    if before.header is None:
        return []
    return continuity_damage(name, header, before.header.journal, before.end)
