"""A cursor over a journal's records without their payloads: reading goes on where it ended, beside a process that writes.

How little reading on costs: the cursor remembers its segment, which file that was, and the offset behind the record it read
last. The next read opens the segment by name and goes on there: no directory is listed and no index asked, until the segment
ends. No descriptor is kept between two reads: it would keep what an erasure takes out on the disk.

Why it is right nevertheless: a remembered offset proves nothing. If the name means another file now, or the line there is not
the very record that follows by seq, sum and link, it is found anew: by the index, else from the segment's start. Only what
does not verify then is damage. Within a segment every record has to link to the one before it, and a segment to the one
before it, so no record is passed over unseen, wherever payloads were passed over.

Nothing behind `upto`, the record that is known durable, is believed: it may be half written.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from journal.errors import JournalDamaged, JournalGone
from journal.file.files import Files
from journal.file.segment import SegmentFile, list_segments, name_of
from journal.file.walk import SegmentWalk
from journal.format.check import continuity_damage
from journal.format.codec import LineError, Salted
from journal.format.header import Header
from journal.records import Damage, Head, Record


@dataclass(frozen=True, slots=True)
class _Resume:
    """Where reading goes on: behind record `last`, at `offset` of the segment that starts at `first`."""

    last: Head
    first: int
    identity: tuple[int, int]
    header: Header
    salted: Salted
    offset: int


class Cursor:
    """Reads a directory's records without payloads. From any thread; `offset_of` is a hint where a record's line starts."""

    def __init__(self, files: Files, directory: Path, offset_of: Callable[[int], int | None]) -> None:
        self._files = files
        self._directory = directory
        self._offset_of = offset_of
        self._resume: _Resume | None = None

    @property
    def last(self) -> Head | None:
        """The record that the last read ended with."""
        resume = self._resume
        return None if resume is None else resume.last

    def find(self, seq: int) -> Record:
        """The record with that seq, which is durable, without moving the cursor. Raises JournalDamaged."""
        with closing(self._located(seq)) as walk:
            record = _next(walk, seq - 1, None)
            if record is None:
                raise _ended(walk, seq)
            return record

    def read(self, after: int, upto: int) -> Iterator[Record]:
        """The records with `after` < seq ≤ `upto`, in order. Raises JournalDamaged at the first that does not verify."""
        if after >= upto:
            return
        seq, total = after, None
        resumed = self._resumed(after)
        if resumed is None:
            walk = self._located(after + 1)
            total = _sum_before(walk)
        else:
            walk, total = resumed
        sound = True
        try:
            while seq < upto:
                ended: SegmentWalk | None = None
                try:
                    record = _next(walk, seq, total)
                    if record is None:
                        ended, walk = walk, self._following(walk, seq, total)
                except JournalDamaged:
                    if resumed is None:
                        raise
                    ended, walk, record, total = walk, self._located(after + 1), None, None
                resumed = None
                if ended is not None:
                    ended.close()
                    total = _sum_before(walk)
                if record is not None:
                    seq, total = record.seq, record.sum
                    yield record
        except GeneratorExit:
            raise
        except BaseException:
            sound = False
            raise
        finally:
            if sound and total is not None and seq > after:
                self._resume = _Resume(
                    Head(seq, total), walk.segment.first, walk.segment.identity(), walk.header, walk.salted, walk.offset
                )
            walk.close()

    def select(self, after: int, upto: int, only: Container[int]) -> Iterator[Record]:
        """Those of the records whose seq is in `only`; the others are passed over unverified. Doesn't move the cursor."""
        if after >= upto:
            return
        seq = after
        walk = self._located(after + 1)
        try:
            while True:
                stated = walk.stated_seq()
                if stated is None:
                    following = _after(self._files, self._directory, walk)
                    if following is None:
                        return
                    walk.close()
                    walk = following
                elif stated <= after or (stated < upto and stated not in only):
                    walk.pass_line()
                elif stated == upto and stated not in only:
                    return  # what stands behind it may be half written yet
                else:
                    offset = walk.offset
                    record = _verified(walk)
                    if record is None or record.seq > upto:
                        return
                    if record.seq <= seq:
                        raise _fault("reordered", walk, offset, record.seq, f"seq {record.seq} stands behind {seq}")
                    seq = record.seq
                    yield record
                    if seq == upto:
                        return
        finally:
            walk.close()

    def _resumed(self, after: int) -> tuple[SegmentWalk, str] | None:
        """The walk that goes on behind record `after`, and that record's sum, if the cursor stands there."""
        resume = self._resume
        if resume is None or resume.last.seq != after:
            return None
        try:
            segment = SegmentFile(self._files, self._directory, resume.first)
        except JournalGone:
            return None
        if not _is(segment, resume):
            segment.close()
            return None
        walk = SegmentWalk(segment, resume.header, resume.salted)
        walk.seek(resume.offset)
        return walk, resume.last.sum

    def _located(self, seq: int) -> SegmentWalk:
        """A walk that stands before record `seq`, if its segment has it. Raises JournalDamaged."""
        segments = list_segments(self._files, self._directory)
        if not segments:
            detail = f"no segment is left, but seq {seq} had been seen"
            raise JournalDamaged([Damage("gone", name_of(1), 0, seq, None, detail)])
        first = segments[max(0, bisect_right(segments, seq) - 1)]
        walk = SegmentWalk.open(self._files, self._directory, first)
        try:
            if walk.header.after >= seq:
                raise JournalDamaged(continuity_damage(name_of(first), walk.header, walk.header.journal, None))
            hint = self._offset_of(seq)
            if hint is not None and hint >= walk.header.size and walk.is_at(hint, seq):
                return walk
            # Near the log's end the index has no hint yet, but the cursor is near as well.
            resume = self._resume
            if resume is not None and resume.first == first and resume.last.seq < seq and _is(walk.segment, resume):
                walk.seek(resume.offset)
                walk.pass_to_seq(seq)
                if walk.is_at(walk.offset, seq):
                    return walk
            walk.seek(walk.header.size)
            if seq > walk.header.first:
                walk.pass_to_seq(seq)
        except BaseException:
            walk.close()
            raise
        return walk

    def _following(self, walk: SegmentWalk, seq: int, total: str | None) -> SegmentWalk:
        """The segment behind the one that ended with record `seq`. Raises JournalDamaged if none continues it."""
        following = _after(self._files, self._directory, walk)
        if following is None:
            _check_text(walk)
            raise _ended(walk, seq + 1)
        try:
            header = following.header
            if total is None and header.after <= seq:
                return following  # nothing of this segment was read: a salvage may have left such seqs out
            before = Head(seq, header.prev if total is None else total)
            damage = continuity_damage(following.segment.name, header, walk.header.journal, before)
            if damage:
                _check_text(walk)
                raise JournalDamaged(damage)
        except BaseException:
            following.close()
            raise
        return following


def _after(files: Files, directory: Path, walk: SegmentWalk) -> SegmentWalk | None:
    first = min((one for one in list_segments(files, directory) if one > walk.segment.first), default=None)
    return None if first is None else SegmentWalk.open(files, directory, first)


def _sum_before(walk: SegmentWalk) -> str | None:
    """The sum that the next record links to, where the walk stands behind the header; else it isn't known."""
    return walk.header.sum if walk.offset == walk.header.size else None


def _is(segment: SegmentFile, resume: _Resume) -> bool:
    return segment.identity() == resume.identity


def _next(walk: SegmentWalk, seq: int, total: str | None) -> Record | None:
    """The next record of the segment, held against the one before it: `seq`, and its sum if that is known.

    Raises JournalDamaged.
    """
    offset, last_text = walk.offset, walk.last_text
    try:
        record = walk.next_record()
    except LineError:
        _check_text(walk)
        record = walk.whole_record(offset)
    if record is None:
        return None
    expected = seq + 1 if seq >= walk.header.first else walk.header.first
    if record.seq == expected and (total is None or record.prev == total):
        return record
    walk.last_text = last_text
    _check_text(walk)
    if record.seq == expected:
        raise _fault("reordered", walk, offset, record.seq, "it does not follow the record before it")
    kind = "missing record" if record.seq > expected else "reordered"
    raise _fault(kind, walk, offset, record.seq, f"seq {record.seq} stands where {expected} belongs")


def _verified(walk: SegmentWalk) -> Record | None:
    offset = walk.offset
    try:
        return walk.next_record()
    except LineError:
        return walk.whole_record(offset)


def _check_text(walk: SegmentWalk) -> None:
    """Raise JournalDamaged if the line before is at fault: a payload that stands as text may have lost its line's end."""
    if walk.last_text is not None:
        walk.whole_record(walk.last_text)


def _ended(walk: SegmentWalk, seq: int) -> JournalDamaged:
    detail = f"seq {seq} had been seen, and the log ends before it"
    return JournalDamaged([Damage("shorter than caches", walk.segment.name, walk.segment.size(), seq, None, detail)])


def _fault(kind: str, walk: SegmentWalk, offset: int, seq: int, detail: str) -> JournalDamaged:
    return JournalDamaged([Damage(kind, walk.segment.name, offset, seq, None, detail)])
