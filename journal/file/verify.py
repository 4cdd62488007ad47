"""Verify a whole journal, changing nothing, and name every kind of damage.

Each segment is checked by itself (its own lines, its own chain), then the segments are joined by their headers: so segments
can be checked in any order and in parallel, and a break in one does not hide damage in the next. Large segments are cut into
pieces at line ends for that; if a piece is not in perfect order, its segment is read again as a whole to find the damage.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from journal.errors import JournalGone
from journal.file.backup import backup_witness
from journal.file.examine import examine
from journal.file.files import Files, OsFiles
from journal.file.index import INDEX_NAME, Index, Position
from journal.file.processes import process_pool, processes_start
from journal.file.segment import MARK_NAME, SegmentFile, list_segments, name_of, read_mark, segment_size
from journal.file.segment_check import check_piece, check_segment
from journal.format.check import SegmentReport, join
from journal.format.recoverable_ids import recoverable_id
from journal.presence import exists
from journal.records import Damage, Witness
from journal.reports import VerifyReport

PIECE = 16 << 20
"""Bytes that one process checks at a time."""
PARALLEL_FROM = 48 << 20
"""Bytes; below this, starting processes takes longer than it saves."""

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)"""


def verify(
    directory: Path,
    *,
    upto: int | None = None,
    since: int = 0,
    segment: int | None = None,
    witnesses: Sequence[Witness] = (),
    progress: Progress | None = None,
    files: Files | None = None,
    processes: int | None = None,
) -> VerifyReport:
    """Check every byte from the segment that holds `since` on (or one segment), up to `upto` if a daemon is writing.

    Without `upto`, bytes that a crash explains at the end of the journal are no damage, by the same rule as an opening uses.
    `processes` is how many may be started; by default one for each processor, if the journal is large enough.
    Raises JournalGone, FormatUnknown.
    """
    files = files or OsFiles()
    firsts = list_segments(files, directory)
    known = [*witnesses, *witnesses_in(files, directory)]
    chosen = [first for number, first in enumerate(firsts) if _wanted(firsts, number, since, segment)]
    if segment is not None and not chosen:
        raise JournalGone(
            f"no segment starts at seq {segment}", hint="`covenq verify` without --segment checks them all."
        )
    sizes = {first: segment_size(files, directory, first) for first in chosen}
    meter = _Meter(progress, sum(sizes.values()))
    in_order = _check_in_parallel(files, directory, chosen, sizes, upto, meter, processes)
    reports = []
    for first in chosen:
        report = in_order.get(first)
        if report is None:
            report = check_segment(files, directory, first, upto=upto)
            if upto is None and first == firsts[-1]:
                _accept_torn_tail(files, directory, report, known)
            meter.add(sizes[first])
        reports.append(report)
    result = join(
        reports,
        whole=chosen == firsts,
        starts=bool(chosen) and chosen[0] == firsts[0],
        delivery_at=lambda first, offset: _delivery_at(files, directory, first, offset),
        name_of=name_of,
    )
    if segment is None and upto is None:
        result.damage += _witness_damage(files, directory, result, reports, known)
    elif segment is None:
        result.damage += _shorter(files, directory, result, reports, upto)
    return result


class _Meter:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        self._done = min(self._done + count, self._total)
        if self._progress is not None:
            self._progress(self._done, self._total)


def _wanted(firsts: list[int], number: int, since: int, segment: int | None) -> bool:
    if segment is not None:
        return firsts[number] == segment
    return number == len(firsts) - 1 or firsts[number + 1] > since


def witnesses_in(files: Files, directory: Path) -> list[Witness]:
    """The records that the mark of a clean close, a backup's note and the index had seen of the log in their directory."""
    mark = read_mark(files, directory)
    noted = [None if mark is None else Witness(mark.journal, mark.seq, mark.sum), backup_witness(files, directory)]
    return [one for one in noted if one is not None] + _index_witness(directory)


def _index_witness(directory: Path) -> list[Witness]:
    path = directory / INDEX_NAME
    if not exists(path):
        return []
    try:
        index = Index(path, readonly=True)
        try:
            position = index.position()
        finally:
            index.close()
    except sqlite3.Error:
        return []  # a cache that can't be read proves nothing
    return [] if position is None else [Witness(position.journal, position.seq, position.sum)]


def _accept_torn_tail(files: Files, directory: Path, report: SegmentReport, known: Sequence[Witness]) -> None:
    """Remove a torn tail from the last segment's report, by the opening's own rule, from the last good record on."""
    header = report.header
    after = report.fails_after
    if header is None or after is None:
        return
    position = Position(header.journal, after.seq, after.sum, report.first, after.start, after.finish)
    found = examine(files, directory, position=position, witnesses=known)
    if found.damage or (found.torn is None and not found.newlines):
        return
    with SegmentFile(files, directory, report.first) as segment:
        if any(files.pread(segment.fd, 1, offset) not in (b"", b"\0") for offset in found.newlines):
            return  # an opening would mend this newline, since nothing else is wrong; but no crash explains the byte there
    report.damage = [one for one in report.damage if one.offset < after.finish]
    if not report.damage:
        # Lines that verify after the tear are cut with it, and are no part of the log.
        report.records = found.seq - header.first + 1
        report.last, report.sum = found.seq, found.sum


def _delivery_at(files: Files, directory: Path, first: int, offset: int) -> str | None:
    with SegmentFile(files, directory, first) as segment:
        return recoverable_id(segment.line_at(offset))


# ---- in parallel


def _check_in_parallel(
    files: Files,
    directory: Path,
    chosen: list[int],
    sizes: dict[int, int],
    upto: int | None,
    meter: _Meter,
    processes: int | None,
) -> dict[int, SegmentReport]:
    """Reports of the segments that are in perfect order, checked in pieces by several processes. Others are left out."""
    if processes is None:
        processes = os.cpu_count() or 1
    # Not the segment that is being written: a piece knows no `upto`, and bytes beyond it there are in flight.
    sealed = [first for first in chosen if upto is None or first != chosen[-1]]
    if processes < 2 or sum(sizes[first] for first in sealed) < PARALLEL_FROM or not isinstance(files, OsFiles):
        return {}
    pieces = {first: _pieces(files, directory, first, sizes[first]) for first in sealed}
    results: dict[int, list[SegmentReport | None]] = {}
    checked = 0
    try:
        with closing(_checked_pieces(directory, pieces, processes)) as reported:
            for first, start, end, report in reported:
                results.setdefault(first, []).append(report)
                checked += end - start
                meter.add(end - start)
    except (OSError, BrokenExecutor):
        # No process could be started, or one was ended, for want of memory perhaps: this process checks all by itself.
        meter.add(-checked)
        return {}
    reports = {}
    for first, parts in results.items():
        report = _merge_pieces(files, directory, first, parts)
        if report is not None:
            reports[first] = report
        else:
            meter.add(-sizes[first])
    return reports


def _checked_pieces(
    directory: Path, pieces: Mapping[int, list[tuple[int, int]]], processes: int
) -> Generator[tuple[int, int, int, SegmentReport | None]]:
    """(segment, start, end, report) of each piece, in order. Raises OSError, BrokenExecutor."""
    with processes_start():
        pool = process_pool(processes)
    try:
        with processes_start():
            waiting = [
                (first, start, end, pool.submit(check_piece, str(directory), first, start, end))
                for first, ranges in pieces.items()
                for start, end in ranges
            ]
        for first, start, end, future in waiting:
            yield first, start, end, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pieces(files: Files, directory: Path, first: int, size: int) -> list[tuple[int, int]]:
    """The segment after its header, cut into (start, end) ranges of about PIECE bytes, each at the next newline."""
    with SegmentFile(files, directory, first) as segment:
        header, _ = segment.header()
        if header is None:
            return []
        cuts = [header.size]
        while cuts[-1] < size:
            at = cuts[-1] + PIECE
            while at < size:
                chunk = files.pread(segment.fd, 1 << 16, at)
                found = chunk.find(b"\n")
                if found >= 0:
                    at += found + 1
                    break
                at += len(chunk)
            cuts.append(min(at, size))
    return list(pairwise(cuts))


def _merge_pieces(files: Files, directory: Path, first: int, parts: list[SegmentReport | None]) -> SegmentReport | None:
    """The pieces as one report, if they are all in order and continue each other."""
    with SegmentFile(files, directory, first) as segment:
        header, faults = segment.header()
    if header is None or faults or header.first != first:
        return None
    whole = SegmentReport(first, header=header, last=first - 1, sum=header.sum)
    for part in parts:
        if part is None or part.begins != (whole.last + 1, whole.sum):
            return None
        whole.last, whole.sum = part.last, part.sum
        whole.records += part.records
        for by, packed in part.dropped.items():
            whole.dropped.setdefault(by, array("q")).extend(packed)
        whole.drops += part.drops
    return whole


def _witness_damage(
    files: Files, directory: Path, report: VerifyReport, reports: list[SegmentReport], known: list[Witness]
) -> list[Damage]:
    """The damage that caches, a backup's note and the mark of a clean close prove, by a record that the log lacks."""
    damage = []
    if MARK_NAME in files.listdir(directory) and read_mark(files, directory) is None:
        damage.append(Damage("bad mark", MARK_NAME, 0, None, None, "the mark of a clean close does not verify"))
    header = reports[-1].header if reports else None
    ours = [one.seq for one in known if not reports or (header is not None and one.journal == header.journal)]
    return damage + _shorter(files, directory, report, reports, max(ours, default=0))


def _shorter(
    files: Files, directory: Path, report: VerifyReport, reports: list[SegmentReport], seen: int | None
) -> list[Damage]:
    """The damage of a log that ends before record `seen`, which a cache or the daemon that writes it had seen."""
    if not seen:
        return []
    if not reports:
        detail = f"no segment is left, but seq {seen} had been seen"
        return [Damage("gone", name_of(1), 0, seen, None, detail)]
    if reports[-1].header is None or seen <= report.head.seq + reports[-1].failing:
        return []
    detail = f"seq {seen} had been seen, the log ends at {report.head.seq}: the journal is shorter than its caches"
    end = segment_size(files, directory, reports[-1].first)
    return [Damage("shorter than caches", name_of(reports[-1].first), end, report.head.seq + 1, None, detail)]
