"""The header of a segment: the link of the chain that brings a new salt, a new epoch, or both.

    {"format":1,"journal":"…","epoch":"…","first":N,"after":M,"prev":"…","salt":"…","sum":"…"}

`prev` is the sum of record `after`, the last of the segment before (64 zeros and 0 for the first), and the segment's first
record has the header's sum as its `prev`. `first` is `after` + 1, except where a salvage left records out. An engine that keeps
files writes it twice, so that if one copy is damaged the other still gives the salt under which the rest was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from journal.errors import FormatUnknown
from journal.format.codec import SUM_MARK, Salted
from journal.records import NO_SUM, SEQ_MAX, Damage

FORMAT = 1
GENESIS = NO_SUM
"""The `prev` of the first segment's header, which continues nothing."""
SEGMENT_BYTES = 64 << 20
"""Bytes after which the next batch starts a new segment."""
_HEADER = re.compile(
    rb'\{"format":(\d{1,9}),"journal":"([0-9a-f]{32})","epoch":"([0-9a-f]{16})","first":(\d{1,19}),"after":(\d{1,19}),'
    rb'"prev":"([0-9a-f]{64})","salt":"([0-9a-f]{64})"\Z'
)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a segment. `size` is the bytes that both copies take."""

    journal: str
    epoch: str
    first: int
    after: int
    prev: str
    salt: str
    sum: str
    size: int

    @property
    def salted(self) -> Salted:
        return Salted(self.salt)


def make_header(*, journal: str, epoch: str, first: int, after: int, prev: str, salt: str) -> tuple[Header, bytes]:
    """A header, and its line, newline included. `salt` is 64 hex digits, new for each segment."""
    envelope = b'{"format":%d,"journal":"%s","epoch":"%s","first":%d,"after":%d,"prev":"%s","salt":"%s"' % (
        FORMAT,
        journal.encode(),
        epoch.encode(),
        first,
        after,
        prev.encode(),
        salt.encode(),
    )
    total = Salted(salt).sum(envelope)
    line = envelope + SUM_MARK + total.encode() + b'"}\n'
    return Header(journal, epoch, first, after, prev, salt, total, 2 * len(line)), line


@dataclass(frozen=True, slots=True)
class HeaderFault:
    """One copy of a header that doesn't verify: which (0 or 1) and where it starts."""

    copy: int
    offset: int


def parse_header(head: bytes) -> tuple[Header | None, list[HeaderFault]]:
    """The header in a segment's first bytes, from a copy that verifies, and the copies that do not.

    Raises FormatUnknown if a copy verifies but states another format.
    """
    found: Header | None = None
    faults = []
    cut = head.find(b"\n") + 1
    copies = [(0, head[:cut]), (cut, head[cut : head.find(b"\n", cut) + 1])]
    for number, (offset, line) in enumerate(copies):
        header = _header_line(line)
        if header is None or (found is not None and header.sum != found.sum):
            faults.append(HeaderFault(number, offset))
        else:
            found = header
    if found is None:
        # The first copy's newline itself may be damaged: then both are in the first line, one byte between them.
        half = cut // 2
        header = _header_line(head[half:cut])
        if header is not None and head[: half - 1] == head[half : cut - 1]:
            return header, [HeaderFault(0, 0)]
    return found, faults


def _header_line(line: bytes) -> Header | None:
    cut = line.find(SUM_MARK)
    if cut < 0:
        return None
    envelope, rest = line[:cut], line[cut + len(SUM_MARK) :]
    match = _HEADER.match(envelope)
    if match is None or len(rest) != 67 or not rest.endswith(b'"}\n'):
        return None
    salt = match[7].decode()
    total = Salted(salt).sum(envelope)
    if rest[:64] != total.encode():
        return None
    if int(match[4]) > SEQ_MAX or int(match[5]) > SEQ_MAX:
        return None
    if int(match[1]) != FORMAT:
        raise FormatUnknown(f"the journal is of format {int(match[1])}; this version knows format {FORMAT}")
    return Header(
        match[2].decode(),
        match[3].decode(),
        int(match[4]),
        int(match[5]),
        match[6].decode(),
        salt,
        total,
        2 * len(line),
    )


def header_damage(name: str, header: Header | None, faults: list[HeaderFault]) -> list[Damage]:
    """The damage of a segment's header, as `parse_header` found it: none if both copies verify."""
    if header is None:
        return [Damage("bad header", name, 0, None, None, "neither copy of the segment's header verifies")]
    detail = "copy {} of the header does not verify"
    return [Damage("bad header", name, one.offset, None, None, detail.format(one.copy + 1)) for one in faults]
