"""Reading durable records out of the segments: one by seq, or a range in order. Every record is verified as it is read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from pathlib import Path

from journal.errors import JournalDamaged
from journal.file.files import Files
from journal.file.segment import SegmentFile, list_segments
from journal.format.codec import LineError, Salted, decode, open_envelope
from journal.format.header import Header, header_damage
from journal.format.recoverable_ids import recoverable_id
from journal.records import Damage, Record


def find_record(files: Files, directory: Path, seq: int, hint: int | None) -> Record | None:
    """The record with that seq; `hint` is where its line may start in its segment.

    Raises JournalDamaged if it does not verify.
    """
    segments = list_segments(files, directory)
    at = bisect_right(segments, seq) - 1
    if at < 0:
        return None
    with SegmentFile(files, directory, segments[at]) as segment:
        header = header_of(segment)
        wanted = b'{"seq":%d,' % seq
        line = b"" if hint is None else segment.line_at(hint)
        if line.startswith(wanted):
            # A stale hint may point into a payload that looks like the record: only a line that verifies counts.
            with suppress(LineError):
                return decode(line, header.salted, header.epoch)
        for offset, line in segment.lines(header.size):
            if line.startswith(wanted):
                return decode_line(segment, header.salted, header.epoch, offset, line)
    return None


def read_records(
    files: Files,
    directory: Path,
    after: int,
    upto: int,
    offset_of: Callable[[int], int | None],
    only: Container[int] | None = None,
) -> Iterator[Record]:
    """The records with `after` < seq ≤ `upto`, in order; `offset_of(seq)` is a hint where a line starts in its segment.

    With `only`, lines that state a seq which is not in it are passed over unread. Raises JournalDamaged at the first that does
    not verify.
    """
    segments = list_segments(files, directory)
    at = max(0, bisect_right(segments, after + 1) - 1)
    seq = after
    for number in range(at, len(segments)):
        if seq >= upto:
            return
        with SegmentFile(files, directory, segments[number]) as segment:
            header = header_of(segment)
            salted = header.salted
            start = _start(segment, header, after + 1, offset_of) if number == at else header.size
            for offset, line in segment.lines(start):
                if only is not None:
                    stated = stated_seq(line)
                    if stated <= after or (stated < upto and stated not in only):
                        continue
                    if stated == upto and stated not in only:
                        return  # what stands behind it may be half written yet
                elif number == at and stated_seq(line) <= after:
                    continue
                record = decode_line(segment, salted, header.epoch, offset, line)
                if record.seq <= seq:
                    detail = f"seq {record.seq} stands behind {seq}"
                    raise JournalDamaged([Damage("reordered", segment.name, offset, record.seq, None, detail)])
                if record.seq > upto:
                    return
                seq = record.seq
                yield record
                if seq == upto:
                    return


def verified_lines(
    files: Files, directory: Path, after: int, upto: int | None
) -> Iterator[tuple[str, int, Record | None]]:
    """(segment, offset, record) of every line from seq `after` + 1 to `upto`.

    `record` is None for a line that does not verify, and reading goes on after it. A last line without its newline does not
    count yet.
    """
    segments = list_segments(files, directory)
    for first in segments[max(0, bisect_right(segments, after + 1) - 1) :]:
        with SegmentFile(files, directory, first) as segment:
            header, _ = segment.header()
            for offset, line in segment.lines(0 if header is None else header.size):
                if stated_seq(line) <= after or not line.endswith(b"\n"):
                    continue
                try:
                    record = decode(line, header.salted, header.epoch) if header is not None else None
                except LineError:
                    record = None
                if record is not None and upto is not None and record.seq > upto:
                    return
                yield segment.name, offset, record
                if record is not None and record.seq == upto:
                    return


def _start(segment: SegmentFile, header: Header, seq: int, offset_of: Callable[[int], int | None]) -> int:
    """Where to start reading for record `seq`: at its line if the hint is right, else after the header."""
    hint = offset_of(seq)
    if hint is not None:
        with suppress(LineError):
            line = segment.line_at(hint)
            if line.startswith(b'{"seq":%d,' % seq) and open_envelope(line, header.salted):
                return hint
    return header.size


def stated_seq(line: bytes) -> int:
    """The seq a line states, unverified: good enough to skip what is not wanted. A large number if it states none."""
    digits = line[7 : line.find(b",", 7, 28)]
    return int(digits) if digits.isdigit() else 1 << 63


def header_of(segment: SegmentFile) -> Header:
    header, _ = segment.header()
    if header is None:
        raise JournalDamaged(header_damage(segment.name, None, []))
    return header


def decode_line(segment: SegmentFile, salted: Salted, epoch: str, offset: int, line: bytes) -> Record:
    try:
        return decode(line, salted, epoch)
    except LineError as error:
        damage = Damage(error.kind, segment.name, offset, None, recoverable_id(line), error.detail)
        raise JournalDamaged([damage]) from error
