"""Verifying one segment file by itself: its header and its lines. `journal.file.verify` joins the segments."""

from __future__ import annotations

from pathlib import Path

from journal.file.files import Files, OsFiles
from journal.file.segment import SegmentFile
from journal.format.check import SegmentReport, check_lines, check_piece_lines
from journal.format.header import header_damage
from journal.records import Damage


def check_segment(
    files: Files, directory: Path, first: int, *, upto: int | None = None, draft: bool = False
) -> SegmentReport:
    """Check every line of one segment, or of its `draft`."""
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
        check_lines(segment.name, header, segment.lines(header.size), report, upto)
    return report


def check_piece(directory: str, first: int, start: int, end: int) -> SegmentReport | None:
    """One piece, if it is in perfect order; None if anything at all is wrong with it."""
    files = OsFiles()
    with SegmentFile(files, Path(directory), first) as segment:
        header, _ = segment.header()
        if header is None:
            return None
        return check_piece_lines(header, first, segment.lines(start, end))
