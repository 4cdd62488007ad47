"""Taking content out of the log without breaking its chain: retention and erasure.

The part of a line after its sum is bound to the record by hashes inside the sum, so it can be removed and the record still
verifies. It may be removed only if a record says so: some record's `data.drops` names the seqs, as [first, last] pairs, and the
line then names that record: `,"dropped":N`. With `data.about` true, the record's `about` is removed too.

The order, and why no crash loses or half-erases anything:

1. A note of the pending erasure is published (`erasing.json`): the opening after a crash continues from it.
2. The naming record is appended and synced. Until then nothing was changed; from then on the missing content is accounted for.
3. The active segment is ended, if it holds any of it: only sealed segments are rewritten.
4. Each segment is written again beside the old one: the header and every hashed byte verbatim, only tails replaced. It is
   synced, read back and proven whole, line by line, against the old one, and only then renamed over it; the directory is
   synced. A crash leaves the old or the new segment, each whole. Open readers go on reading the old one.
5. `.torn` files are removed: they may hold the same content, in bytes that no record accounts for. The note is removed last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

from journal.errors import JournalDamaged, JournalError
from journal.file.codec import Envelope, LineError, check_tail, open_envelope
from journal.file.files import Files, publish, write_all
from journal.file.recoverable_ids import recoverable_id
from journal.file.segment import TORN_SUFFIX, SegmentFile, draft_of, list_segments, split_lines
from journal.records import SEQ_MAX, Damage

NOTE_NAME = "erasing.json"
_CHUNK = 1 << 20

SeqRange = tuple[int, int]
"""(first, last), both counted."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """The content that record `by` allows to be missing."""

    by: int
    drops: tuple[SeqRange, ...]
    about: bool


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One rewritten segment: how many records lost content, and its bytes before and after."""

    segment: int
    records: int
    before: int
    after: int
    offsets: tuple[tuple[int, int], ...]
    """(seq, new offset) of every line"""


def seq_ranges(seqs: Sequence[int]) -> list[list[int]]:
    """Seqs as the shortest list of [first, last] ranges."""
    found: list[list[int]] = []
    for seq in sorted(set(seqs)):
        if found and found[-1][1] == seq - 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return found


def erasure_of(by: int, data: dict[str, Any]) -> Erasure | None:
    """The erasure that record `by` names in its data; None if it names none. Seqs that are not before `by` are left out."""
    drops = data.get("drops")
    if not isinstance(drops, list) or not drops:
        return None
    try:
        ranges = sorted((max(int(low), 1), min(int(high), by - 1)) for low, high in drops)
    except (TypeError, ValueError, OverflowError):
        return None
    ranges = [(low, high) for low, high in ranges if low <= high]
    if not ranges:
        return None
    merged: list[SeqRange] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return Erasure(by, tuple(merged), data.get("about") is True)


def erasure_in(envelope: Envelope) -> Erasure | None:
    """The erasure that the record of this line names; None if it names none, or its data is no JSON."""
    try:
        return erasure_of(envelope.seq, orjson.loads(envelope.match[9]))
    except orjson.JSONDecodeError:
        return None


def allows(erasure: Erasure, seq: int, *, about: bool) -> bool:
    """Whether this erasure allows the payload of record `seq` to be missing, and with `about` its about as well.

    A record can name only earlier ones: so a scan on from any missing content meets the record that accounts for it.
    """
    return seq < erasure.by and (erasure.about or not about) and covers(erasure.drops, seq)


def covers(drops: Sequence[SeqRange], seq: int) -> bool:
    at = bisect_right(drops, (seq, 1 << 63)) - 1
    return at >= 0 and drops[at][0] <= seq <= drops[at][1]


class ErasureLookup:
    """Look-up of seqs in several erasures at once.

    So each segment is rewritten once, however many records name parts of it.
    """

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        self._spans = sorted((low, high, one.by, one.about) for one in erasures for low, high in one.drops)
        self._lows = [span[0] for span in self._spans]
        self._reach = list(accumulate((span[1] for span in self._spans), max))
        """The greatest seq in the spans up to each one: a search backwards for a seq ends where no span can hold it."""

    @property
    def newest(self) -> int:
        """The greatest seq that is named; 0 if none is."""
        return self._reach[-1] if self._reach else 0

    def overlaps(self, low: int, high: int) -> bool:
        """Whether any seq from `low` to `high`, both counted, is named."""
        at = bisect_right(self._lows, high) - 1
        return at >= 0 and self._reach[at] >= low

    def find(self, seq: int) -> tuple[int, bool] | None:
        """(the record that names the seq, whether its about goes too); None if none does. Of several the one that drops more."""
        found: tuple[int, bool] | None = None
        at = bisect_right(self._lows, seq) - 1
        while at >= 0 and self._reach[at] >= seq:
            _, high, by, about = self._spans[at]
            if high >= seq and by > seq and (found is None or (about, -by) > (found[1], -found[0])):
                found = (by, about)
            at -= 1
        return found


# ---- the note


def write_note(files: Files, directory: Path, after: int) -> None:
    """Step 1: note that records with seq > `after` may name seqs whose content is still there. Raises OSError."""
    publish(files, directory / NOTE_NAME, orjson.dumps({"after": after}) + b"\n")


def read_note(files: Files, directory: Path) -> int | None:
    """The `after` of an erasure that may not be finished, or None if there is none."""
    if NOTE_NAME not in files.listdir(directory):
        return None
    fd = files.open(directory / NOTE_NAME, write=False)
    try:
        after = int(orjson.loads(files.pread(fd, 4096, 0))["after"])
        return after if 0 <= after <= SEQ_MAX else 0
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0  # unreadable: look through the whole log for what was named
    finally:
        files.close(fd)


def finish_erasure(files: Files, directory: Path) -> None:
    """Step 5: the torn files, then the note; both removals durable on return."""
    for name in files.listdir(directory):
        if name.endswith(TORN_SUFFIX):
            files.unlink(directory / name)
    files.fsync_dir(directory)
    if NOTE_NAME in files.listdir(directory):
        files.unlink(directory / NOTE_NAME)
        files.fsync_dir(directory)


# ---- rewriting


def segments_with(files: Files, directory: Path, erasures: ErasureLookup, *, below: int) -> list[int]:
    """The sealed segments (those before segment `below`) that hold any of the erased seqs."""
    firsts = list_segments(files, directory)
    return [
        first
        for number, first in enumerate(firsts[:-1])
        if first < below and erasures.overlaps(first, firsts[number + 1] - 1)
    ]


def rewrite_segment(
    files: Files,
    directory: Path,
    first: int,
    erasures: ErasureLookup,
) -> Rewritten | None:
    """Step 4 for one sealed segment; None if no line in it had content left to drop.

    Raises JournalDamaged if a line of it does not verify (nothing is changed then), OSError.
    """
    with SegmentFile(files, directory, first) as segment:
        header, faults = segment.header()
        if header is None or faults:
            detail = "its header does not verify, so it is not rewritten"
            raise JournalDamaged([Damage("bad header", segment.name, 0, None, None, detail)])
        temporary = directory / draft_of(first)
        if temporary.name in files.listdir(directory):
            files.unlink(temporary)
        fd = files.create(temporary)
        try:
            offsets, changed = _copy(files, segment, fd, header.size, erasures)
            if changed:
                files.fdatasync(fd)
                size = _prove(files, segment, fd, header.size)
        except Exception:
            with suppress(OSError):  # a partial copy is useless, takes room, and holds content
                files.unlink(temporary)
            raise
        finally:
            files.close(fd)
        if not changed:
            files.unlink(temporary)
            return None
        before = segment.size()
        files.rename(temporary, segment.path)
        files.fsync_dir(directory)
    return Rewritten(first, changed, before, size, tuple(offsets))


def _copy(
    files: Files,
    segment: SegmentFile,
    fd: int,
    header_size: int,
    erasures: ErasureLookup,
) -> tuple[list[tuple[int, int]], int]:
    """Write the segment's lines to `fd`, less the content that is erased: (seq, new offset) of each, and how many changed."""
    header, _ = segment.header()
    assert header is not None
    salted = header.salted
    buffer = [files.pread(segment.fd, header_size, 0)]
    written, held, changed = 0, header_size, 0
    expected = header.first
    offsets: list[tuple[int, int]] = []
    for offset, line in segment.lines(header_size):
        try:
            envelope = open_envelope(line, salted)
            check_tail(line, envelope)
        except LineError as error:
            detail = f"{error.detail}, so the segment is not rewritten"
            damage = Damage(error.kind, segment.name, offset, expected, recoverable_id(line), detail)
            raise JournalDamaged([damage]) from error
        expected = envelope.seq + 1
        new = drop_content(line, envelope, erasures)
        changed += new is not line
        offsets.append((envelope.seq, written + held))
        buffer.append(new)
        held += len(new)
        if held >= _CHUNK:
            data = b"".join(buffer)
            write_all(files, fd, data, written)
            written, held = written + len(data), 0
            buffer.clear()
    write_all(files, fd, b"".join(buffer), written)
    return offsets, changed


def drop_content(line: bytes, envelope: Envelope, erasures: ErasureLookup) -> bytes:
    """The line without its erased content, or the very same object if it has none."""
    found = erasures.find(envelope.seq)
    if found is None:
        return line
    by, with_about = found
    about, payload, _ = check_tail(line, envelope)
    if payload is None and not (with_about and about is not None):
        return line
    keep = b"" if about is None or with_about else b',"about":' + about
    return line[: envelope.tail_at] + keep + b',"dropped":%d}\n' % by


def _prove(files: Files, old: SegmentFile, fd: int, header_size: int) -> int:
    """Read the new file back: every line of the old one is there with the same hashed bytes, and verifies. → its size."""
    header, _ = old.header()
    assert header is not None
    salted = header.salted
    end = files.size(fd)
    if files.pread(fd, header_size, 0) != files.pread(old.fd, header_size, 0):
        raise JournalError("the rewritten segment does not read back as written")
    new_lines = split_lines(lambda size, at: files.pread(fd, size, at), header_size, end)
    for (_, line), (_, new) in zip(old.lines(header_size), new_lines, strict=True):
        try:
            envelope = open_envelope(new, salted)
            check_tail(new, envelope)
        except LineError as error:
            raise JournalError(f"the rewritten segment does not read back as written: {error.detail}") from error
        if new[: envelope.tail_at] != line[: envelope.tail_at]:
            raise JournalError("the rewritten segment does not read back as written")
    return end
