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

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from journal.erasure import ErasureLookup
from journal.errors import JournalDamaged, JournalError
from journal.file.files import Files, publish, write_all
from journal.file.segment import TORN_SUFFIX, SegmentFile, draft_of, list_segments, split_lines
from journal.format.codec import Envelope, LineError, check_tail, open_envelope
from journal.format.recoverable_ids import recoverable_id
from journal.records import SEQ_MAX, Damage

NOTE_NAME = "erasing.json"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class RewrittenSegment:
    """One rewritten segment: how many records lost content, and its bytes before and after."""

    segment: int
    records: int
    before: int
    after: int
    offsets: tuple[tuple[int, int], ...]
    """(seq, new offset) of every line"""


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
) -> RewrittenSegment | None:
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
    return RewrittenSegment(first, changed, before, size, tuple(offsets))


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
