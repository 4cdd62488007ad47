"""The torn tail: bytes at the end of the log that a crash in mid-write explains, and nothing else does.

At most one batch is in flight, written but not known synced, and its pages may survive in any part: cut short (the end of
the file explains it) or with holes that read as NULs up to a sector's boundary. Any other failing bytes are damage: a crash
does not flip bits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from journal.file.files import Files, publish, read_all
from journal.file.segment import TORN_SUFFIX
from journal.format.recoverable_ids import recoverable_ids

SECTOR = 512
"""Bytes; a hole that a crash left ends at a multiple of this, counted from the start of the file, or at the file's end."""


@dataclass(frozen=True, slots=True)
class Torn:
    """A torn tail: where it starts and what it is. `possibly` are delivery ids still legible in it."""

    segment: int
    offset: int
    length: int
    sha256: str
    possibly: tuple[str, ...]


def torn_tail(segment: int, offset: int, rest: bytes) -> Torn | None:
    """`rest`, the bytes of the segment from `offset` to its end, as a torn tail; None if no crash explains them."""
    if not _crash_explains(rest, offset):
        return None
    return Torn(segment, offset, len(rest), hashlib.sha256(rest).hexdigest(), recoverable_ids(rest))


def _crash_explains(rest: bytes, offset: int) -> bool:
    """Whether the first failing line is cut by the end of the file, or holds NULs that run to a sector's end or to the end."""
    newline = rest.find(b"\n")
    if newline < 0:
        return True
    for match in re.finditer(rb"\0+", rest):
        if match.start() > newline:
            return False
        if match.end() == len(rest) or (offset + match.end()) % SECTOR == 0:
            return True
    return False


def possible_ends(rest: bytes, at: int, following: int) -> Iterator[int]:
    """Where a record that begins at `at` and lacks its newline may end, the nearest first.

    Before record `following`, before NULs, or with the file. The nearest comes first since thousands may follow each other.
    """
    yield rest.find(b'{"seq":%d,' % following, at) - 1
    yield rest.find(b"\0", at)
    yield len(rest) - 1
    yield len(rest)


def save_torn(files: Files, directory: Path, fd: int, torn: Torn) -> None:
    """Copy the tail from the segment, open as `fd`, to a `.torn` file, durable on return.

    Its name is made of segment, offset and hash, so doing it again after a crash writes the same file.
    """
    name = f"{torn.segment:020d}.{torn.offset}.{torn.sha256[:16]}{TORN_SUFFIX}"
    data = read_all(files, fd, torn.offset, torn.offset + torn.length)
    publish(files, directory / name, data)
