"""Reading a journal's files when nobody is writing: what is proven, and whether its end is whole, torn or damaged.

The rules, and why they hold:

- The **witness** is the greatest seq that anything proves to have been acknowledged: `synced` in any line that verifies by
  its own sum (the scan goes on to the end of the file past failing bytes), a successor's header (it is made only after its
  predecessor is wholly synced), the positions of the caches, the mark of a clean close.
- Bytes that fail **at or below the witness** were durable once: that is damage. So is a log that ends below it.
- Above it, failing bytes are a **torn tail** if a crash explains them (`journal.file.torn`), or a record that lacks only its
  newline. Any other failing bytes are damage, also above the witness.
- Content that is missing is accounted for by a **later** record, synced before it went; so a scan from anywhere to the end
  meets that record, or finds damage.

Nothing is changed here; `journal.file.recovery` does that, where there is no damage.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from journal.erasure import allows
from journal.file.files import Files, read_all
from journal.file.index import Position
from journal.file.segment import SegmentFile, list_segments, name_of, read_mark
from journal.file.torn import Torn, possible_ends, torn_tail
from journal.format.check import erasure_in
from journal.format.codec import Envelope, LineError, check_tail, open_envelope
from journal.format.header import GENESIS, Header, header_damage
from journal.format.recoverable_ids import recoverable_id
from journal.records import Damage, Witness

Visit = Callable[[Envelope, int, int, int], None]
"""Called for each linked record from the start position on: (envelope, segment, offset, end)."""


@dataclass(slots=True)
class Examination:
    """What the files hold. The last linked record is `seq`, from `start` to `end` in `segment`, or that segment's header.

    `proven` is the witness; bytes of the last segment from `unproven_from` on may never have reached the medium. `newlines` are
    the offsets where a newline is to be mended; `unmended` is (seq, end) of the last record before the first of them.
    `visited` counts the linked records that the scan read.
    """

    header: Header | None = None
    segment: int = 0
    seq: int = 0
    sum: str = GENESIS
    start: int = 0
    end: int = 0
    proven: int = 0
    unproven_from: int = 0
    last_kind: str = ""
    newlines: list[int] = field(default_factory=list)
    unmended: tuple[int, int] | None = None
    torn: Torn | None = None
    damage: list[Damage] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    visited: int = 0


def examine(
    files: Files,
    directory: Path,
    *,
    position: Position | None = None,
    witnesses: Sequence[Witness] = (),
    visit: Visit | None = None,
    use_mark: bool = True,
) -> Examination:
    """Read from the position (or from the first segment) to the end, changing nothing. Raises FormatUnknown, JournalGone.

    A position whose record is not in the log is damage: a cache knows of what the log does not hold. It must be of
    this journal (`belongs` tells).
    """
    return _Examiner(files, directory, position, witnesses, visit, use_mark=use_mark).run()


def belongs(files: Files, directory: Path, first: int, position: Position) -> bool:
    """Whether the position is one of the journal whose segment starts at seq `first`; True where its header can't be read."""
    with SegmentFile(files, directory, first) as segment:
        header, _ = segment.header()
    return header is None or header.journal == position.journal


class _Examiner:
    """One scan. Its state is the examination as far as it has come, and what later lines have still to account for."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        position: Position | None,
        witnesses: Sequence[Witness],
        visit: Visit | None,
        *,
        use_mark: bool,
    ) -> None:
        self.files = files
        self.directory = directory
        self.position = position
        self.visit = visit
        self.found = Examination(segments=list_segments(files, directory))
        mark = read_mark(files, directory) if use_mark else None
        self.witnesses = list(witnesses)
        if mark is not None:
            self.witnesses.append(Witness(mark.journal, mark.seq, mark.sum))
        if position is not None:
            self.witnesses.append(Witness(position.journal, position.seq, position.sum))
        self.witnesses_by_seq: dict[int, list[Witness]] = {}
        for witness in self.witnesses:
            self.witnesses_by_seq.setdefault(witness.seq, []).append(witness)
        self.unproven: deque[tuple[int, int]] = deque()
        """(seq, end) of the linked records in this segment that nothing has proven yet."""
        self.rest: tuple[int, bytes] | None = None
        """(offset, the rest of this segment) from the first line on that fails above what is proven."""
        self.lost: Position | None = None
        """The position that the scan was to start from, if its record is not there."""
        self.missing: dict[int, array[int]] = {}
        """By the record that is said to have dropped the content: quadruples, packed, of seq, whether its about is gone too,
        segment and offset."""

    def run(self) -> Examination:
        found = self.found
        if not found.segments:
            if self.witnesses:
                newest = max(self.witnesses, key=lambda witness: witness.seq)
                self._damage(
                    name_of(1), 0, newest.seq, "gone", f"no segment is left, but seq {newest.seq} had been seen"
                )
            return found
        start_at = self._start()
        if start_at is None:
            return found
        for number, first in enumerate(found.segments):
            if first < found.segment:
                continue
            last = number == len(found.segments) - 1
            if not self._read_segment(first, start_at, last=last):
                break
            start_at = 0
        self._check_witnesses()
        if self.lost is not None and not found.damage:
            detail = "the record that the index ends at is not there: the journal is shorter than its caches"
            self._damage(name_of(self.lost.segment), self.lost.start, self.lost.seq, "shorter than caches", detail)
        return found

    def _start(self) -> int | None:
        """The offset to start from in the first segment to read; None if damage forbids any scan."""
        found, position = self.found, self.position
        if position is None:
            found.segment = found.segments[0]
            return 0
        at = bisect_right(found.segments, position.segment) - 1
        if at < 0:
            name = name_of(position.segment)
            self._damage(name, 0, position.seq, "missing segment", "the index knows it, the directory does not")
            return None
        first = found.segments[at]
        with SegmentFile(self.files, self.directory, first) as segment:
            header, _ = segment.header()
            if header is None:
                found.damage += header_damage(segment.name, None, [])
                return None
            span = self._locate(segment, header, position) if first == position.segment else None
        if span is None:
            # Reading on from the segment's start finds what became of the record and of all before it.
            self.lost = position
            position, span = (
                Position(header.journal, header.after, header.prev, first, 0, header.size),
                (0, header.size),
            )
        alone = span == (0, header.size)
        found.header, found.segment = header, first
        found.seq, found.sum = (header.first - 1, header.sum) if alone else (position.seq, position.sum)
        found.start, found.end = span
        found.proven, found.unproven_from = (self.lost or position).seq, found.end
        return found.end

    def _locate(self, segment: SegmentFile, header: Header, position: Position) -> tuple[int, int] | None:
        """(start, end) of the position's record; None if it is not there.

        It is where the position has it or, after a rewrite that the index missed, elsewhere in the segment.
        """
        if position.seq == header.after:
            return (0, header.size) if position.sum == header.prev else None
        line = segment.line_at(position.start)
        if self._is_record_of(header, position, line):
            return position.start, position.start + len(line)
        wanted = b'{"seq":%d,' % position.seq
        for offset, other in segment.lines(header.size):
            if other.startswith(wanted) and self._is_record_of(header, position, other):
                return offset, offset + len(other)
        return None

    def _is_record_of(self, header: Header, position: Position, line: bytes) -> bool:
        try:
            envelope = open_envelope(line, header.salted)
            check_tail(line, envelope)
        except LineError:
            return False
        self.found.last_kind = envelope.kind
        return (envelope.seq, envelope.sum) == (position.seq, position.sum)

    def _read_segment(self, first: int, start_at: int, *, last: bool) -> bool:
        """Read one segment. False if nothing after its failing point can be linked."""
        with SegmentFile(self.files, self.directory, first) as segment:
            header, faults = segment.header()
            if header is None:
                self.found.damage += header_damage(segment.name, None, faults)
                return False
            if start_at == 0:
                self.found.damage += header_damage(segment.name, header, faults)
                if not self._link_header(segment.name, header, first):
                    return False
                start_at = header.size
            self.rest = None
            at = start_at
            while (failing := self._read_lines(segment, header, at)) is not None:
                at = self._failed(segment, header, *failing, last=last)
                if not at:
                    return False
        return True

    def _read_lines(self, segment: SegmentFile, header: Header, start_at: int) -> tuple[int, bytes, LineError] | None:
        """Accept lines up to the first that fails: its offset, itself, and why. None at the end of the file."""
        salted = header.salted
        for offset, line in segment.lines(start_at):
            try:
                envelope = open_envelope(line, salted)
                content = check_tail(line, envelope)
                self._link(envelope)
            except LineError as error:
                whole = line.endswith(b"\n")
                return offset, line, error if whole else LineError("truncated", "the file ends within it")
            self._accept(envelope, header, segment.first, offset, offset + len(line))
            self._check_dropped(envelope, content, segment.first, offset)
        return None

    def _link(self, envelope: Envelope) -> None:
        expected = self.found.seq + 1
        if envelope.seq != expected:
            kind = "missing record" if envelope.seq > expected else "reordered"
            raise LineError(kind, f"seq {envelope.seq} stands where {expected} belongs")
        if envelope.prev != self.found.sum:
            raise LineError("reordered", "it does not follow the record before it")

    def _link_header(self, name: str, header: Header, first: int) -> bool:
        found = self.found
        if header.first != first:
            self._damage(name, 0, first, "wrong segment order", f"its header says it starts at seq {header.first}")
            return False
        begins = found.header is None
        if begins and header.after == 0 and header.prev != GENESIS:
            self._damage(name, 0, first, "wrong segment order", "the first segment does not start a chain")
            return False
        if begins and header.after != 0:
            self._damage(
                name, 0, header.after, "missing segment", f"the segment that ends at seq {header.after} is gone"
            )
            return False
        if not begins and (header.after, header.prev) != (found.seq, found.sum):
            kind = "gap between segments" if header.after != found.seq else "wrong segment order"
            detail = f"it continues after seq {header.after}, the segment before ends at {found.seq}"
            self._damage(name, 0, found.seq + 1, kind, detail)
            return False
        found.header, found.segment = header, first
        found.seq = max(found.seq, header.first - 1)
        found.sum = header.sum
        found.start, found.end = 0, header.size
        found.proven = max(found.proven, header.after)
        found.unproven_from = header.size
        self.unproven.clear()
        return True

    def _accept(self, envelope: Envelope, header: Header, first: int, offset: int, end: int) -> None:
        found = self.found
        found.header, found.segment = header, first
        found.seq, found.sum, found.start, found.end = envelope.seq, envelope.sum, offset, end
        found.proven = max(found.proven, envelope.synced)
        found.last_kind = envelope.kind
        found.visited += 1
        for witness in self.witnesses_by_seq.get(envelope.seq, ()):
            if witness.journal != header.journal:
                continue
            found.proven = max(found.proven, witness.seq)
            if witness.sum != envelope.sum:
                detail = "a cache had seen another record at this seq"
                self._damage(name_of(first), offset, envelope.seq, "shorter than caches", detail)
        self.unproven.append((envelope.seq, end))
        while self.unproven and self.unproven[0][0] <= found.proven:
            found.unproven_from = self.unproven.popleft()[1]
        if self.visit is not None:
            self.visit(envelope, first, offset, end)

    def _check_dropped(
        self, envelope: Envelope, content: tuple[bytes | None, bytes | None, int | None], first: int, offset: int
    ) -> None:
        """Check missing content against the record that is said to have dropped it: a later one, so the scan comes to it."""
        about, _, dropped = content
        if dropped is not None:
            gone = about is None and envelope.match[6] is not None
            self.missing.setdefault(dropped, array("q")).extend((envelope.seq, gone, first, offset))
        waiting = self.missing.pop(envelope.seq, None)
        if waiting is None:
            return
        erasure = erasure_in(envelope)
        for seq, about_gone, segment, dropped_at in _quadruples(waiting):
            if erasure is None or not allows(erasure, seq, about=bool(about_gone)):
                detail = f"its content is gone, and record {envelope.seq} does not say so"
                self._damage(name_of(segment), dropped_at, seq, "payload", detail)

    def _failed(
        self, segment: SegmentFile, header: Header, offset: int, line: bytes, error: LineError, *, last: bool
    ) -> int:
        """Bytes that don't verify, or don't link, at `offset`: damage, newlines to mend, or a torn tail.

        → where to read on, after what is mended; 0 if nothing after the failing bytes can be linked.
        """
        found = self.found
        seq = found.seq + 1
        if self.rest is None:
            # Once a segment: what follows a later failing line follows this one too.
            self._raise_witness(segment, header, offset + len(line), last=last)
        if seq <= found.proven:
            self._damage(segment.name, offset, seq, error.kind, error.detail, recoverable_id(line))
            return 0
        if self.rest is None:
            self.rest = (offset, read_all(self.files, segment.fd, offset, segment.size()))
        start, rest = self.rest
        at = offset - start
        while length := self._restore_newline(header, rest, at, start):
            at += length
        if start + at > offset:
            return start + at
        rest = rest[at:]
        found.torn = torn_tail(found.segment, offset, rest)
        if found.torn is None:
            detail = f"{error.detail}, and no crash explains it"
            self._damage(segment.name, offset, seq, error.kind, detail, recoverable_id(line))
        return 0

    def _raise_witness(self, segment: SegmentFile, header: Header, at: int, *, last: bool) -> None:
        """Count as proven what the witnesses prove, a segment after this one, and lines from `at` on that verify."""
        found = self.found
        seen = [one.seq for one in self.witnesses if one.journal == header.journal]
        if not last:
            seen.append(found.seq + 1)
        for _, later in segment.lines(at):
            with suppress(LineError):
                seen.append(open_envelope(later, header.salted).synced)
        found.proven = max([found.proven, *seen])

    def _restore_newline(self, header: Header, rest: bytes, at: int, start: int) -> int:
        """Accept the bytes of `rest` from `at` on if they are a linked record that lacks only its newline.

        → its length, the newline counted, or 0. `start` is the offset of `rest`.
        """
        found, offset = self.found, start + at
        for end in possible_ends(rest, at, found.seq + 2):
            if end <= at or rest[end : end + 1] == b"\n":
                continue
            line = rest[at:end] + b"\n"
            try:
                envelope = open_envelope(line, header.salted)
                content = check_tail(line, envelope)
                self._link(envelope)
            except LineError:
                continue
            found.unmended = found.unmended or (found.seq, found.end)
            self._accept(envelope, header, found.segment, offset, offset + len(line))
            self._check_dropped(envelope, content, found.segment, offset)
            found.newlines.append(start + end)
            return len(line)
        return 0

    def _check_witnesses(self) -> None:
        found = self.found
        if found.damage or found.header is None:
            return
        ahead = [one for one in self.witnesses if one.journal == found.header.journal and one.seq > found.seq]
        if ahead:
            newest = max(ahead, key=lambda witness: witness.seq)
            detail = f"a cache had seen seq {newest.seq}, the log ends at {found.seq}: the journal is shorter than its caches"
            self._damage(name_of(found.segment), found.end, found.seq + 1, "shorter than caches", detail)
        elif found.proven > found.seq:
            detail = f"the log itself says that seq {found.proven} was durable, but ends at {found.seq}"
            self._damage(name_of(found.segment), found.end, found.seq + 1, "truncated", detail)
        for by, waiting in self.missing.items():
            seq, _, segment, offset = waiting[:4]
            detail = f"its content is gone, and there is no record {by} that says so"
            self._damage(name_of(segment), offset, seq, "payload", detail)

    def _damage(
        self, segment: str, offset: int, seq: int | None, kind: str, detail: str, delivery: str | None = None
    ) -> None:
        self.found.damage.append(Damage(kind, segment, offset, seq, delivery, detail))


def _quadruples(flat: array[int]) -> Iterator[tuple[int, int, int, int]]:
    numbers = iter(flat)
    return zip(numbers, numbers, numbers, numbers, strict=True)
