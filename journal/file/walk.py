"""Walking through a segment record by record in bounded memory, without its payloads.

Who folds the log needs no payload, and payloads are nearly all of its bytes. So what is proven of a line here is its envelope,
by its sum, and what it is `about`, by its hash; the payload is passed over by its length, which the envelope states, or, where
it stands as text, by looking for the line's end. Payload bytes are neither kept nor verified: `journal.file.verify` does that.

A line that isn't as expected is decoded whole, so that damage is found and named as by every other reader.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from msgspec import structs

from journal.file.files import Files
from journal.file.scan import decode_line, header_of, stated_seq
from journal.file.segment import SegmentFile
from journal.format.codec import DATA_MAX, SUM_MARK, LineError, Salted, fields_at, loaded
from journal.format.header import Header
from journal.records import PAYLOAD_MAX, SEQ_MAX, Record

CHUNK = 256 << 10
"""Bytes read at a time, and about as many are kept. A line's part before the payload may take more, up to LINE_START_MAX."""
LINE_START_MAX = 2 * DATA_MAX + 4096
"""More than a line can have before its payload: its envelope with `data`, and `about`."""
LINE_MAX = LINE_START_MAX + 6 * PAYLOAD_MAX + 16
"""More than a line can have: a byte of text takes six at most."""
_USUAL_ABOUT = 8192
_NUMBER_MAX = 32
"""More bytes than `,"dropped":N}` and a newline take, and than the part of a line that states its seq."""
_DROPPED = re.compile(rb',"dropped":([1-9]\d{0,18})\}\n')
_BEHIND_ABOUT = re.compile(rb',"(?:payload":|body":"|body64":"|dropped":)|\}\n')


class SegmentWalk:
    """One open segment. The walk stands before a line, at `offset`; at first behind the header."""

    def __init__(self, segment: SegmentFile, header: Header, salted: Salted) -> None:
        self.segment, self.header, self.salted = segment, header, salted
        self._epoch = header.epoch
        self.last_text: int | None = None
        """Where the line of the record before starts, if its payload stands as text: its end was only looked for."""
        self._text = b""
        self._base, self._at = header.size, 0
        """`_text` is what stands at `_base`; the walk stands at `_at` in it."""

    @classmethod
    def open(cls, files: Files, directory: Path, first: int) -> SegmentWalk:
        """Raises JournalGone, JournalDamaged (no header), FormatUnknown, OSError."""
        segment = SegmentFile(files, directory, first)
        try:
            header = header_of(segment)
        except BaseException:
            segment.close()
            raise
        return cls(segment, header, header.salted)

    def close(self) -> None:
        self.segment.close()

    @property
    def offset(self) -> int:
        return self._base + self._at

    def seek(self, offset: int) -> None:
        """Stand at `offset`."""
        if self._base <= offset <= self._base + len(self._text):
            self._at = offset - self._base
        else:
            self._text, self._base, self._at = b"", offset, 0
        self.last_text = None

    # ---- records

    def next_record(self) -> Record | None:
        """The record of the line that the walk stands before, without its payload; it stands behind it then.

        None at the end of the file. Raises LineError if the line is not as expected: `whole_record` then says what it is.
        """
        while True:
            record = self._parse()
            if record is not None:
                return record
            rest = len(self._text) - self._at
            if rest > LINE_START_MAX:
                raise LineError("foreign", "no line can be so long before its payload")
            if not self._more():
                if not rest:
                    return None
                raise LineError("truncated", "the file ends within it")

    def whole_record(self, offset: int) -> Record:
        """The record of the line at `offset`, decoded and verified whole. Raises JournalDamaged, in the words of every reader."""
        line = next((line for _, line in self.segment.lines(offset, offset + LINE_MAX)), b"")
        record = decode_line(self.segment, self.salted, self.header.epoch, offset, line)
        self.seek(offset + len(line))
        return structs.replace(record, payload=None)

    def is_at(self, offset: int, seq: int) -> bool:
        """Whether the line of record `seq` starts at `offset`; the walk stands there then."""
        self.seek(offset)
        found = None
        with suppress(LineError):
            found = self.next_record()
        self.seek(offset)
        return found is not None and found.seq == seq

    def _parse(self) -> Record | None:
        """The record, or None if more of its line has to be read. Raises LineError."""
        text, start = self._text, self._at
        cut = text.find(SUM_MARK, start)
        if cut < 0 or (at := cut + 73) > len(text):
            return None
        seq, moment, synced, subject, kind, about_sha256, payload_sha256, size, data, prev, total = fields_at(
            text, start, cut, self.salted
        )
        about: bytes | None = None
        if about_sha256 is not None and text.startswith(b',"about":', at):
            end = _end_of_about(text, at + 9, about_sha256, b"}\n" if size is None else b',"payload":')
            if end < 0:
                return None
            if text.find(b"\n", at, end) >= 0:
                raise LineError("truncated", "the line has no end")
            about, at = text[at + 9 : end], end
        dropped: int | None = None
        end, ending = at, b"}\n"
        whole = about_sha256 is None or about is not None
        if whole and size is None and text.startswith(b"}\n", at):
            pass
        elif whole and size is not None and text.startswith(b',"payload":', at):
            end = at + 11 + size
        else:
            found = self._rare_form(at, seq, size, about=about_sha256 is not None, whole=whole)
            if found is None:
                return None
            end, ending, dropped = found
        described = None if about is None else loaded(about)
        record = Record(
            seq, moment, synced, subject, kind, loaded(data), described, None, payload_sha256, size, dropped, prev, total,
            self._epoch,
        )  # fmt: skip
        self.last_text = None
        if end < 0:
            self._pass_text(at + 9, self._base + start)
        elif text.startswith(ending, end):
            self._at = end + len(ending)
        else:
            self._pass_to(end, ending)
        return record

    def _rare_form(
        self, at: int, seq: int, size: int | None, *, about: bool, whole: bool
    ) -> tuple[int, bytes, int | None] | None:
        """How the line goes on that has neither a payload nor one written as JSON: (its end, what it ends with, who dropped it).

        An end of -1: it is only known by looking for it. None if more of the line has to be read. `about` says whether it is
        about something, `whole` that this is there. Raises LineError.
        """
        text = self._text
        mark = text[at : at + 11]
        if len(mark) < 11 and b"\n" not in mark:
            return None
        if mark == b',"dropped":':
            dropped: int | None = None
            found = _DROPPED.match(text, at)
            if found is None and len(text) - at < _NUMBER_MAX:
                return None
            if found is None or not seq < (dropped := int(found[1])) <= SEQ_MAX:
                raise LineError("payload", "it names no record that dropped its content")
            if size is None and whole:
                raise LineError("payload", "it lacks no content")
            return found.end(), b"", dropped
        if about and not whole:
            raise LineError("payload", "what it is about is missing")
        if size is not None and mark == b',"body64":"':
            return at + 11 + (size + 2) // 3 * 4, b'"}\n', None
        if size is not None and mark.startswith(b',"body":"'):
            return -1, b"", None
        raise LineError("payload", "its content is of no known form")

    def _pass_to(self, at: int, ending: bytes) -> None:
        """Stand behind `ending`, with which the line has to end at `at`."""
        if at + len(ending) > len(self._text):
            self._text, self._base, self._at = b"", self._base + at, 0
            at = 0
            while len(self._text) < len(ending) and self._more():
                pass
        if not self._text.startswith(ending, at):
            raise LineError("payload", "it does not end where its payload does")
        self._at = at + len(ending)

    def _pass_text(self, at: int, line: int) -> None:
        """Stand behind the end of the text that starts at `at`; its line starts at offset `line`."""
        self._at = at
        start = self.offset
        if not self._pass_line() or self.offset < start + 3 or self._text[self._at - 3 : self._at] != b'"}\n':
            raise LineError("payload", "its text does not end as it has to")
        self.last_text = line

    # ---- lines

    def stated_seq(self) -> int | None:
        """The seq that the line states which the walk stands before, unverified; None at the end of the file."""
        while len(self._text) - self._at < _NUMBER_MAX and self._more():
            pass
        start = self._text[self._at : self._at + _NUMBER_MAX]
        return stated_seq(start) if start else None

    def pass_to_seq(self, seq: int) -> None:
        """Pass over lines, unverified, until one states `seq` or more, or none."""
        while (stated := self.stated_seq()) is not None and stated < seq:
            self.pass_line()

    def pass_line(self) -> None:
        self.last_text = None
        self._pass_line()

    def _pass_line(self) -> bool:
        """Stand behind the next newline, or at the end of the file (False). At most two bytes before it are kept."""
        start = self._at
        while (end := self._text.find(b"\n", start)) < 0:
            self._at = max(self._at, len(self._text) - 2)
            start = len(self._text) - self._at
            if not self._more():
                self._at = len(self._text)
                return False
        self._at = end + 1
        return True

    def _more(self) -> bool:
        """Read on, and forget what is before the walk; False at the end of the file."""
        rest = self._text[self._at :]
        part = self.segment.pread(max(CHUNK, len(rest)), self._base + len(self._text))
        self._base += self._at
        self._text, self._at = rest + part, 0
        return bool(part)


def _end_of_about(text: bytes, start: int, sha256: str, usual: bytes) -> int:
    """Where the object that starts at `start` and has this hash ends; -1 if more has to be read to know.

    Only the hash says which of the marks that may follow it does, since its own members can be called the same. `usual` is the
    one that nearly always is the first and the right one. Raises LineError.
    """
    end = text.find(usual, start, start + _USUAL_ABOUT)
    if end >= 0 and hashlib.sha256(text[start:end]).hexdigest() == sha256:
        return end
    state, hashed = hashlib.sha256(), start
    for found in _BEHIND_ABOUT.finditer(text, start, start + DATA_MAX + _NUMBER_MAX):
        end = found.start()
        state.update(text[hashed:end])
        hashed = end
        if state.hexdigest() == sha256:
            return end
        if found[0] == b"}\n":
            raise LineError("payload", "the hash of what it is about does not match")
    return -1
