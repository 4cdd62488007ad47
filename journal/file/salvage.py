"""A new journal of all that still verifies in a damaged one. The old one is never touched.

What is kept: every line whose envelope verifies under its segment's salt, wherever it is; its seq, time, subject and data
stay the same, so delivery ids stay known forever. Content that no longer verifies is dropped, and the closing record names its
seqs. Where records are missing, a segment's header of the new journal shows it: `first` is more than `after` + 1.
Lines hidden inside a payload never come back as records: without the salt their sums do not verify. Nor does content come
back that a record says was erased: neither where the erasure was cut short, nor in a copy of the line that a payload holds.

The new journal has an id of its own and a new epoch: seqs after the loss may have been assigned before. It is written in a
directory of its own, every file synced, and appears under its name only when it is whole.
"""

from __future__ import annotations

import errno
import os
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from journal.erasure import Erasure, ErasureLookup, allows, seq_ranges
from journal.errors import SalvageFailed, SalvageRefused
from journal.file.erase import drop_content
from journal.file.files import Files, OsFiles, write_all
from journal.file.segment import SegmentFile, list_segments, name_of, write_header
from journal.file.verify import witnesses_in
from journal.format.check import erasure_in
from journal.format.codec import (
    SUM_MARK,
    Envelope,
    LineError,
    Salted,
    check_tail,
    encode_line,
    open_envelope,
    prepare,
)
from journal.format.header import GENESIS, SEGMENT_BYTES, Header
from journal.format.recoverable_ids import RECOVERABLE_MAX, recoverable_id, recoverable_ids
from journal.presence import exists
from journal.records import NO_SEQ_HINT, OWN_SUBJECT, SEQ_MAX, Damage, Entry

SALVAGED_KIND = "journal.salvaged"
DROPPED_KIND = "journal.dropped"
RANGES_MAX = 10_000
"""Ranges of seqs that one record names as dropped: some hundred kilobytes."""


@dataclass(slots=True)
class Plan:
    """What a salvage would keep and lose.

    `lost` are ranges of seqs that are missing up to the newest one found; `deliveries` are ids legible in lost bytes: a hint,
    for damaged bytes can hold anything.
    """

    journal: str = ""
    kept: int = 0
    first: int = 0
    last: int = 0
    lost: list[list[int]] = field(default_factory=list)
    dropped: list[list[int]] = field(default_factory=list)
    deliveries: list[str] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)


@dataclass(slots=True)
class _Line:
    """A line whose envelope verifies; `content_ok` is whether the part after its sum verifies too."""

    envelope: Envelope
    line: bytes
    content_ok: bool


def plan(directory: Path, *, progress: Callable[[int], None] | None = None, files: Files | None = None) -> Plan:
    """Read everything, change nothing. Raises SalvageRefused if no segment can be read at all."""
    return _scan(files or OsFiles(), directory, progress)[0]


def _scan(files: Files, directory: Path, progress: Callable[[int], None] | None = None) -> tuple[Plan, ErasureLookup]:
    """The plan, and everything that the kept records name as erased."""
    found = Plan()
    seqs_without: list[int] = []
    erasures: dict[int, Erasure] = {}
    gone: dict[int, array[int]] = {}
    newest = 0
    for kept in _verified_lines(files, directory, found):
        envelope = kept.envelope
        if found.kept == 0:
            found.first = envelope.seq
            if envelope.seq > 1:
                found.lost.append([1, envelope.seq - 1])
        elif envelope.seq > newest + 1:
            found.lost.append([newest + 1, envelope.seq - 1])
        newest = envelope.seq
        found.kept += 1
        if not kept.content_ok:
            seqs_without.append(envelope.seq)
        else:
            _note_drops(kept, erasures, gone)
        if progress is not None and found.kept % 4096 == 0:
            progress(found.kept)
    if not found.kept:
        raise SalvageRefused(f"nothing in {directory} verifies", hint="Restore a backup.")
    found.last = newest
    for by, packed in gone.items():
        numbers = iter(packed)
        seqs_without += (
            seq
            for seq, about in zip(numbers, numbers, strict=True)
            if by not in erasures or not allows(erasures[by], seq, about=bool(about))
        )
    found.dropped = seq_ranges(seqs_without)
    return found, ErasureLookup(erasures.values())


def _note_drops(kept: _Line, erasures: dict[int, Erasure], gone: dict[int, array[int]]) -> None:
    """`gone` holds, by the record said to have dropped content, pairs of seq and whether its about is gone too, packed."""
    envelope = kept.envelope
    if b'"drops":' in envelope.match[9]:
        erasure = erasure_in(envelope)
        if erasure is not None:
            erasures[envelope.seq] = erasure
    about, _, by = check_tail(kept.line, envelope)
    if by is not None:
        gone.setdefault(by, array("q")).extend((envelope.seq, about is None and envelope.match[6] is not None))


def _verified_lines(files: Files, directory: Path, found: Plan) -> Iterator[_Line]:
    """Every verifying line, in order of seq, each seq once. Adds to `found` the damage of all others."""
    newest = 0
    for first, header in _segments_in_order(files, directory, found):
        with SegmentFile(files, directory, first) as segment:
            offsets, salted = [], header.salted
            for offset, line in segment.lines(header.size):
                try:
                    offsets.append((open_envelope(line, salted).seq, offset))
                except LineError as error:
                    found.deliveries += recoverable_ids(line)
                    found.damage.append(
                        Damage(error.kind, segment.name, offset, None, recoverable_id(line), error.detail)
                    )
            for seq, offset in sorted(offsets):
                if seq <= newest:
                    continue
                newest = seq
                line = segment.line_at(offset)
                envelope = open_envelope(line, salted)
                try:
                    check_tail(line, envelope)
                except LineError as error:
                    delivery = envelope.delivery
                    found.damage.append(Damage(error.kind, segment.name, offset, seq, delivery, error.detail))
                    if delivery:
                        found.deliveries.append(delivery)
                    yield _Line(envelope, line, content_ok=False)
                else:
                    yield _Line(envelope, line, content_ok=True)


def _segments_in_order(files: Files, directory: Path, found: Plan) -> list[tuple[int, Header]]:
    """The segments (by the seq in their name) whose header verifies, in the order of their headers: names can be changed.

    The journal's id is the one in the mark of a clean close or in the index, else the one to which most bytes belong.
    """
    headers: list[tuple[int, Header]] = []
    sizes: Counter[str] = Counter()
    for first in list_segments(files, directory):
        with SegmentFile(files, directory, first) as segment:
            header, _ = segment.header()
            if header is None:
                detail = "neither copy of the segment's header verifies, so none of its lines can be proven"
                found.damage.append(Damage("bad header", segment.name, 0, first, None, detail))
                for _, line in segment.lines(0):
                    found.deliveries += recoverable_ids(line)
                continue
            headers.append((first, header))
            sizes[header.journal] += segment.size()
    known = [one.journal for one in witnesses_in(files, directory) if one.journal in sizes]
    found.journal = (known or [journal for journal, _ in sizes.most_common(1)] or [""])[0]
    for first, header in headers:
        if header.journal != found.journal:
            detail = "it belongs to another journal"
            found.damage.append(Damage("foreign segment", name_of(first), 0, first, None, detail))
    return sorted(
        ((first, header) for first, header in headers if header.journal == found.journal),
        key=lambda one: (one[1].first, one[0]),
    )


# ---- writing


def salvage(
    directory: Path,
    target: Path,
    *,
    now: float,
    token: Callable[[int], str],
    progress: Callable[[int], None] | None = None,
    files: Files | None = None,
    segment_bytes: int = SEGMENT_BYTES,
) -> Plan:
    """Write what `plan` would keep into the new directory `target`; whole and durable under that name on return.

    What is cut short is removed: its room may be all that a full disk has, and it holds payloads. Raises SalvageRefused,
    SalvageFailed.
    """
    files = files or OsFiles()
    if exists(target):
        raise SalvageRefused(f"{target} is there already")
    found, erased = _scan(files, directory)
    if found.last + 1 + len(found.dropped) // RANGES_MAX >= SEQ_MAX:
        raise SalvageRefused(f"behind seq {found.last} no seq is left for what a salvage records", hint=NO_SEQ_HINT)
    work = target.with_name(target.name + ".tmp")
    if exists(work):
        for name in files.listdir(work):
            files.unlink(work / name)
    else:
        work.mkdir(mode=0o700)
    writer = _Writer(files, work, journal=token(16), epoch=token(8), token=token, segment_bytes=segment_bytes)
    try:
        _write(writer, _verified_lines(files, directory, Plan()), found, erased, now, progress)
        files.rename(work, target)
    except BaseException as error:
        writer.abandon()
        if isinstance(error, OSError):
            reason = error.strerror or os.strerror(error.errno or errno.EIO)
            raise SalvageFailed(f"the salvage to {target} failed: {reason}") from error
        raise
    files.fsync_dir(target.parent)
    return found


def _write(
    writer: _Writer,
    lines: Iterable[_Line],
    found: Plan,
    erased: ErasureLookup,
    now: float,
    progress: Callable[[int], None] | None,
) -> None:
    """The lines that are kept, and the salvage's own records behind them."""
    lows = [low for low, _ in found.dropped]
    for count, kept in enumerate(lines, 1):
        at = bisect_right(lows, kept.envelope.seq) - 1
        if at >= 0 and kept.envelope.seq <= found.dropped[at][1]:
            writer.add(kept.envelope, kept.line, found.last + 1 + at // RANGES_MAX)
        else:
            writer.add(kept.envelope, drop_content(kept.line, kept.envelope, erased), None)
        if progress is not None and count % 4096 == 0:
            progress(count)
    *before, drops = [found.dropped[at : at + RANGES_MAX] for at in range(0, max(len(lows), 1), RANGES_MAX)]
    entries = [Entry(OWN_SUBJECT, DROPPED_KIND, {"drops": some, "about": True}) for some in before]
    data = {
        "from": found.journal,
        "kept": found.kept,
        "lost": found.lost[:RECOVERABLE_MAX],
        "drops": drops,
        "about": True,
        "deliveries": found.deliveries[:RECOVERABLE_MAX],
    }
    writer.close([*entries, Entry(OWN_SUBJECT, SALVAGED_KIND, data)], found.last + 1, now)


class _Writer:
    """Writes lines to segments, under new salts and a new chain; a gap in seqs or a full segment starts the next."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        *,
        journal: str,
        epoch: str,
        token: Callable[[int], str],
        segment_bytes: int,
    ) -> None:
        self._files, self._directory = files, directory
        self._journal, self._epoch, self._token, self._segment_bytes = journal, epoch, token, segment_bytes
        self._seq, self._sum = 0, GENESIS
        self._fd = -1
        self._offset = 0
        self._salted = Salted("")
        self._prev = GENESIS

    def add(self, envelope: Envelope, line: bytes, dropped_by: int | None) -> None:
        self._rotate_for(envelope.seq, len(line))
        old = line[: envelope.tail_at - 65 - len(SUM_MARK)]
        new = old[: old.rindex(b',"prev":"')] + b',"prev":"' + self._prev.encode() + b'"'
        if dropped_by is None:
            tail = line[envelope.tail_at :]
        elif envelope.match[6] is None and envelope.match[7] is None:
            tail = b"}\n"  # it never had content: the bytes there were not written by the journal
        else:
            tail = b',"dropped":%d}\n' % dropped_by
        total = self._salted.sum(new)
        self._put(new + SUM_MARK + total.encode() + b'"' + tail, envelope.seq, total)

    def close(self, entries: Sequence[Entry], first: int, now: float) -> None:
        """The salvage's own records, from seq `first` on."""
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for seq, entry in enumerate(entries, first):
            prepared = prepare(entry)
            self._rotate_for(seq, prepared.size)
            line, total = encode_line(prepared, seq=seq, at=at, synced=self._seq, prev=self._prev, salted=self._salted)
            self._put(line, seq, total)
        self._end()

    def abandon(self) -> None:
        """Remove what was written. What can't be removed stays, and the next salvage to the same directory removes it."""
        with suppress(OSError):
            if self._fd >= 0:
                self._files.close(self._fd)
                self._fd = -1
            for name in self._files.listdir(self._directory):
                self._files.unlink(self._directory / name)
            self._directory.rmdir()

    def _put(self, line: bytes, seq: int, total: str) -> None:
        write_all(self._files, self._fd, line, self._offset)
        self._offset += len(line)
        self._seq, self._sum, self._prev = seq, total, total

    def _rotate_for(self, seq: int, size: int) -> None:
        if self._fd >= 0 and seq == self._seq + 1 and self._offset + size <= self._segment_bytes:
            return
        self._end()
        header = write_header(
            self._files,
            self._directory,
            journal=self._journal,
            epoch=self._epoch,
            first=seq,
            after=self._seq,
            prev=self._sum,
            salt=self._token(32),
        )
        self._fd = self._files.open(self._directory / name_of(seq), write=True)
        self._offset, self._salted, self._prev = header.size, header.salted, header.sum

    def _end(self) -> None:
        if self._fd >= 0:
            self._files.fdatasync(self._fd)
            self._files.close(self._fd)
            self._fd = -1
