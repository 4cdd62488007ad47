"""A journal's segments as lines, copied elsewhere or from elsewhere: what is read verifies, what is written is there whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from journal.errors import JournalDamaged
from journal.file.files import Files, OsFiles, write_all
from journal.file.segment import SegmentFile, draft_of, list_segments, name_of
from journal.format.codec import LineError, check_tail, open_envelope
from journal.format.header import Header, header_damage
from journal.format.recoverable_ids import recoverable_id
from journal.records import Damage

_CHUNK = 1 << 20


class FileLines:
    """The segments of a directory, and their lines up to a record."""

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        self._files = files or OsFiles()
        self._directory = directory

    def segments(self) -> list[tuple[Header, bytes]]:
        """The headers, in order, each with its line. Raises JournalDamaged, FormatUnknown."""
        found = []
        for first in list_segments(self._files, self._directory):
            with SegmentFile(self._files, self._directory, first) as segment:
                header, faults = segment.header()
                if header is None:
                    raise JournalDamaged(header_damage(segment.name, header, faults))
                line = segment.pread(header.size // 2, 0 if not faults or faults[0].copy else header.size // 2)
                found.append((header, line))
        return found

    def lines(self, header: Header, after: int, upto: int) -> Iterator[bytes]:
        """The lines of a segment with `after` < seq ≤ `upto`. Raises JournalDamaged at the first that does not verify."""
        salted = header.salted
        with SegmentFile(self._files, self._directory, header.first) as segment:
            for offset, line in segment.lines(header.size):
                try:
                    envelope = open_envelope(line, salted)
                    if envelope.seq <= after:
                        continue
                    if envelope.seq > upto:
                        return
                    check_tail(line, envelope)
                except LineError as error:
                    damage = Damage(error.kind, segment.name, offset, None, recoverable_id(line), error.detail)
                    raise JournalDamaged([damage]) from error
                yield line
                if envelope.seq == upto:
                    return


def write_segment(
    directory: Path, header: Header, line: bytes, lines: Iterable[bytes], files: Files | None = None
) -> None:
    """A segment of these lines, in place of one that is there. Durable on return: synced before it gets its name.

    Raises OSError.
    """
    files = files or OsFiles()
    draft = directory / draft_of(header.first)
    with suppress(FileNotFoundError):
        files.unlink(draft)
    fd = files.create(draft)
    try:
        buffer, held, written = [line * 2], 2 * len(line), 0
        for one in lines:
            buffer.append(one)
            held += len(one)
            if held >= _CHUNK:
                write_all(files, fd, b"".join(buffer), written)
                written, held = written + held, 0
                buffer.clear()
        write_all(files, fd, b"".join(buffer), written)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    files.rename(draft, directory / name_of(header.first))
    files.fsync_dir(directory)
