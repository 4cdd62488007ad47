"""Segment files: their names, how one begins, and walking through their lines.

A segment is `<first seq, 20 digits>.jsonl`. It starts with its header (`journal.format.header`), written twice.

Why a named segment proves the one before it whole: `write_header` runs only when every record so far is synced; the header is
written and synced under a `.tmp` name, renamed, and the directory synced, before a record enters. So a crash leaves either
no such name, or a valid header alone, or records after it; a named segment without a valid header is damage.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from journal.errors import JournalGone
from journal.file.files import Files, publish
from journal.format.header import Header, HeaderFault, make_header, parse_header
from journal.records import SEQ_MAX

SUFFIX = ".jsonl"
TORN_SUFFIX = ".torn"
SEALED_SUFFIX = ".sealed"
"""Behind the name of a journal's directory that was moved elsewhere (`journal.migration`)."""
NAME = re.compile(r"([0-9]{20})\.jsonl\Z")


def name_of(first: int) -> str:
    return f"{first:020d}{SUFFIX}"


def draft_of(first: int) -> str:
    """The name of a segment that is not whole yet. No reader looks at it, and the next opening removes it."""
    return name_of(first) + ".tmp"


def first_of(name: str) -> int:
    """The first seq a segment's name states. Raises ValueError for another name."""
    match = NAME.match(name)
    if match is None:
        raise ValueError(name)
    return int(match[1])


def list_segments(files: Files, directory: Path) -> list[int]:
    """The first seqs of the segments in the directory, ascending. Raises JournalGone."""
    try:
        names = files.listdir(directory)
    except FileNotFoundError as error:
        raise JournalGone(f"{directory} is not there") from error
    return sorted(first_of(name) for name in names if NAME.match(name))


def write_header(
    files: Files, directory: Path, *, journal: str, epoch: str, first: int, after: int, prev: str, salt: str
) -> Header:
    """Create a segment that holds its header alone; durable, name and bytes, on return (see the module docstring)."""
    header, line = make_header(journal=journal, epoch=epoch, first=first, after=after, prev=prev, salt=salt)
    publish(files, directory / name_of(first), line * 2)
    return header


HEADER_BYTES = 1024
"""More than two headers of format 1 can take."""


class SegmentFile:
    """One open segment, or the `draft` of one, for reading.

    `lines` yields (offset, line) with the newline kept; the last may lack it.
    """

    def __init__(self, files: Files, directory: Path, first: int, *, draft: bool = False) -> None:
        self.path = directory / (draft_of(first) if draft else name_of(first))
        self.first = first
        self._files = files
        try:
            self.fd = files.open(self.path, write=False)
        except FileNotFoundError as error:
            raise JournalGone(f"{self.path} vanished") from error

    def close(self) -> None:
        self._files.close(self.fd)

    def __enter__(self) -> SegmentFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Its name, or for a draft the name it will get."""
        return name_of(self.first)

    def size(self) -> int:
        return self._files.size(self.fd)

    def identity(self) -> tuple[int, int]:
        """Which file this is: another one has the name once the segment was rewritten."""
        return self._files.identity(self.fd)

    def pread(self, size: int, offset: int) -> bytes:
        return self._files.pread(self.fd, size, offset)

    def header(self) -> tuple[Header | None, list[HeaderFault]]:
        return parse_header(self.pread(HEADER_BYTES, 0))

    def lines(self, offset: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Lines from `offset` (a line's start), split on 0x0A alone. Memory is one chunk and one line."""
        return split_lines(self.pread, offset, end)

    def line_at(self, offset: int) -> bytes:
        """The one line that starts at `offset`; empty at the end of the file."""
        for _, line in split_lines(self.pread, offset, None, chunk=1 << 16):
            return line
        return b""


def segment_size(files: Files, directory: Path, first: int) -> int:
    """Bytes of the segment that starts at seq `first`."""
    with SegmentFile(files, directory, first) as segment:
        return segment.size()


def split_lines(
    pread: Callable[[int, int], bytes], offset: int, end: int | None, chunk: int = 1 << 20
) -> Iterator[tuple[int, bytes]]:
    """(offset, line) pairs of the bytes that `pread(size, offset)` gives, newline included; a rest without one comes last."""
    start = offset
    pending: list[bytes] = []
    position = offset
    while end is None or position < end:
        part = pread(chunk if end is None else min(chunk, end - position), position)
        if not part:
            break
        position += len(part)
        cut = part.find(b"\n")
        if cut < 0:
            pending.append(part)
            continue
        if pending:
            line = b"".join(pending) + part[: cut + 1]
            pending.clear()
            yield start, line
            start += len(line)
            part = part[cut + 1 :]
        lines = part.split(b"\n")
        rest = lines.pop()
        for text in lines:
            yield start, text + b"\n"
            start += len(text) + 1
        if rest:
            pending.append(rest)
    if pending:
        yield start, b"".join(pending)


# ---- the mark of a clean close

MARK_NAME = "closed.json"


def write_mark(files: Files, directory: Path, *, journal: str, seq: int, total: str, segment: int, size: int) -> None:
    """Note where the log ended at a clean close; durable on return. A log that is shorter later has lost records."""
    body = {"journal": journal, "seq": seq, "sum": total, "segment": name_of(segment), "size": size}
    text = orjson.dumps(body)
    check = hashlib.sha256(text).hexdigest()
    publish(files, directory / MARK_NAME, orjson.dumps({**body, "check": check}) + b"\n")


@dataclass(frozen=True, slots=True)
class CloseMark:
    """Where the log ended at a clean close."""

    journal: str
    seq: int
    sum: str
    segment: str
    size: int


def read_mark(files: Files, directory: Path) -> CloseMark | None:
    """The mark, or None if there is none or it does not verify (then it proves nothing)."""
    if MARK_NAME not in files.listdir(directory):
        return None
    fd = files.open(directory / MARK_NAME, write=False)
    try:
        text = files.pread(fd, 4096, 0)
    finally:
        files.close(fd)
    try:
        body = orjson.loads(text)
        check = body.pop("check")
        if hashlib.sha256(orjson.dumps(body)).hexdigest() != check:
            return None
        if text != orjson.dumps({**body, "check": check}) + b"\n":
            return None
        if not 0 < body["seq"] <= SEQ_MAX:
            return None
        return CloseMark(body["journal"], body["seq"], body["sum"], body["segment"], body["size"])
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
        return None
