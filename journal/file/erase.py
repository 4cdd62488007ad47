"""Taking content out of the log without breaking its chain: retention and erasure.

What stands after a line's sum is bound to the record by hashes inside the sum, so it can go and the record still verifies. It
may go only if a record says so: some record's `data.drops` names the seqs, as [first, last] pairs, and the line then names
that record: `,"dropped":N`. With `data.about` true, what the record was about goes too.

The order, and why no crash loses or half-erases anything:

1. A note of what is to be done is published (`erasing.json`): whoever opens the journal after a crash goes on from it.
2. The naming record is appended and synced. Until then nothing was changed; from then on the missing content is accounted for.
3. The active segment is ended, if it holds any of it: only sealed segments are rewritten.
4. Each segment is written anew beside the old one: the header and every hashed byte verbatim, only tails replaced. It is
   synced, read back and proven whole, line by line, against the old one, and only then renamed over it; the directory is
   synced. A crash leaves the old or the new segment, each whole. Open readers go on reading the old one.
5. `.torn` files are removed: they may hold the same bytes in a form no one can name. The note is removed last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

from journal.errors import JournalDamaged, JournalError
from journal.file.codec import Envelope, LineError, check_tail, open_envelope
from journal.file.files import Files, publish, write_all
from journal.file.legible import legible_id
from journal.file.segment import TORN_SUFFIX, SegmentFile, list_segments, split_lines
from journal.records import SEQ_MAX, Damage

NOTE_NAME = "erasing.json"
_CHUNK = 1 << 20

Pair = tuple[int, int]
"""A stretch of seqs, both ends counted."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What a naming record allows to be missing, and in which record that is written."""

    by: int
    drops: tuple[Pair, ...]
    about: bool


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One segment done: how many records lost content, and its bytes before and after."""

    segment: int
    records: int
    before: int
    after: int
    places: tuple[Pair, ...]
    """(seq, new offset) of every line"""


def pairs(seqs: Sequence[int]) -> list[list[int]]:
    """Seqs as the shortest list of [first, last] stretches."""
    found: list[list[int]] = []
    for seq in sorted(set(seqs)):
        if found and found[-1][1] == seq - 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return found


def erasure_of(by: int, data: dict[str, Any]) -> Erasure | None:
    """What record `by` names, from its data; None if it names nothing. Of any numbers: it can name only earlier records."""
    drops = data.get("drops")
    if not isinstance(drops, list) or not drops:
        return None
    try:
        stretches = sorted((max(int(low), 1), min(int(high), by - 1)) for low, high in drops)
    except (TypeError, ValueError, OverflowError):
        return None
    stretches = [(low, high) for low, high in stretches if low <= high]
    if not stretches:
        return None
    merged: list[Pair] = []
    for low, high in stretches:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return Erasure(by, tuple(merged), data.get("about") is True)


def erasure_in(envelope: Envelope) -> Erasure | None:
    """What the record of this line names; None if it names nothing, or says it in what is no JSON."""
    try:
        return erasure_of(envelope.seq, orjson.loads(envelope.match[9]))
    except orjson.JSONDecodeError:
        return None


def allows(erasure: Erasure, seq: int, *, about: bool) -> bool:
    """Whether the content of record `seq` may be missing by this erasure, with what it was about if that is gone too.

    A record says so only of earlier ones: so whoever reads on from any missing content meets the record that accounts for it.
    """
    return seq < erasure.by and (erasure.about or not about) and covers(erasure.drops, seq)


def covers(drops: Sequence[Pair], seq: int) -> bool:
    at = bisect_right(drops, (seq, 1 << 63)) - 1
    return at >= 0 and drops[at][0] <= seq <= drops[at][1]


class Named:
    """Several erasures as one look-up, so that each segment is written once, whatever number of records name parts of it."""

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        self._spans = sorted((low, high, one.by, one.about) for one in erasures for low, high in one.drops)
        self._lows = [span[0] for span in self._spans]
        self._reach = list(accumulate((span[1] for span in self._spans), max))
        """How far the spans up to each one reach: looking back for one that holds a seq ends where none can."""

    @property
    def newest(self) -> int:
        """The greatest seq that is named; 0 if none is."""
        return self._reach[-1] if self._reach else 0

    def within(self, low: int, high: int) -> bool:
        """Whether any seq from `low` to `high`, both counted, is named."""
        at = bisect_right(self._lows, high) - 1
        return at >= 0 and self._reach[at] >= low

    def of(self, seq: int) -> tuple[int, bool] | None:
        """(the record that names it, whether what it was about goes too). Of several the one that takes more."""
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
    """Before the naming record: a record with seq > `after` may name seqs whose content is still there."""
    publish(files, directory / NOTE_NAME, orjson.dumps({"after": after}) + b"\n")


def read_note(files: Files, directory: Path) -> int | None:
    """The `after` of an erasure that may not be finished, or None."""
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


def finish(files: Files, directory: Path) -> None:
    """Step 5: the torn files, then the note; both removals durable on return."""
    for name in files.listdir(directory):
        if name.endswith(TORN_SUFFIX):
            files.unlink(directory / name)
    files.fsync_dir(directory)
    if NOTE_NAME in files.listdir(directory):
        files.unlink(directory / NOTE_NAME)
        files.fsync_dir(directory)


# ---- rewriting


def segments_with(files: Files, directory: Path, named: Named, *, below: int) -> list[int]:
    """The sealed segments (those before segment `below`) that hold any of the named seqs."""
    firsts = list_segments(files, directory)
    return [
        first
        for number, first in enumerate(firsts[:-1])
        if first < below and named.within(first, firsts[number + 1] - 1)
    ]


def rewrite_segment(
    files: Files,
    directory: Path,
    first: int,
    named: Named,
    progress: Callable[[int], None] | None = None,
) -> Rewritten | None:
    """Step 4 for one sealed segment; None if nothing in it had anything left to drop.

    Raises JournalDamaged if a line of it does not verify (nothing is changed then), OSError.
    """
    with SegmentFile(files, directory, first) as segment:
        header, faults = segment.header()
        if header is None or faults:
            detail = "its header does not verify, so it is not rewritten"
            raise JournalDamaged([Damage("bad header", segment.name, 0, None, None, detail)])
        temporary = segment.path.with_name(segment.name + ".tmp")
        if temporary.name in files.listdir(directory):
            files.unlink(temporary)
        fd = files.create(temporary)
        try:
            places, changed = _copy(files, segment, fd, header.size, named, progress)
            if changed:
                files.fdatasync(fd)
                size = _prove(files, segment, fd, header.size)
        except Exception:
            with suppress(OSError):  # a part of a copy is of use to nobody: it holds content, and room
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
    return Rewritten(first, changed, before, size, tuple(places))


def _copy(
    files: Files,
    segment: SegmentFile,
    fd: int,
    header_size: int,
    named: Named,
    progress: Callable[[int], None] | None,
) -> tuple[list[Pair], int]:
    header, _ = segment.header()
    assert header is not None
    salted = header.salted
    buffer = [files.pread(segment.fd, header_size, 0)]
    written, held, changed = 0, header_size, 0
    expected = header.first
    places: list[Pair] = []
    for offset, line in segment.lines(header_size):
        try:
            envelope = open_envelope(line, salted)
            check_tail(line, envelope)
        except LineError as error:
            detail = f"{error.detail}, so the segment is not rewritten"
            damage = Damage(error.kind, segment.name, offset, expected, legible_id(line), detail)
            raise JournalDamaged([damage]) from error
        expected = envelope.seq + 1
        new = without(line, envelope, named)
        changed += new is not line
        places.append((envelope.seq, written + held))
        buffer.append(new)
        held += len(new)
        if held >= _CHUNK:
            data = b"".join(buffer)
            write_all(files, fd, data, written)
            written, held = written + len(data), 0
            buffer.clear()
            if progress is not None:
                progress(offset)
    write_all(files, fd, b"".join(buffer), written)
    return places, changed


def without(line: bytes, envelope: Envelope, named: Named) -> bytes:
    """The line without what is named of it, or the very same line."""
    found = named.of(envelope.seq)
    if found is None:
        return line
    by, with_about = found
    about, payload, _ = check_tail(line, envelope)
    if payload is None and not (with_about and about is not None):
        return line
    keep = b"" if about is None or with_about else b',"about":' + about
    return line[: envelope.tail_at] + keep + b',"dropped":%d}\n' % by


def _prove(files: Files, old: SegmentFile, fd: int, header_size: int) -> int:
    """Read the new file back: every line of the old one stands there with the same hashed bytes, and verifies."""
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
