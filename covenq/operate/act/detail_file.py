"""The texts of GitHub's delivery objects in a file: one, lists of them, and any number of either one after another.

What `gh api` prints for several deliveries in turn are such texts without so much as a line's end between them. They are found
by their brackets, so that a file is read piece by piece however long it is, and each object keeps its own spelling.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import IO

from covenq.errors import BadRequest, UsageError
from covenq.github.json_spans import value_end

OBJECT_MAX = 64 * 1024 * 1024
"""Bytes of one object."""
_PIECE = 1 << 18
_BLANK = b" \t\r\n"
_ADVICE = "`gh api /app/hook/deliveries/ID` prints one; the list of deliveries has no payloads."


def objects(first: bytes, file: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Each object's position, for errors, and its text; `first` was read before. Raises UsageError at what is none."""
    text = _Text(first, file, name)
    text.require_utf8_mark()
    while character := text.after_blanks():
        if character == b"[":
            yield from _listed(text)
        else:
            yield text.position(), text.object()


def _listed(text: _Text) -> Iterator[tuple[str, bytes]]:
    number = 0
    text.at += 1
    character = text.after_blanks()
    while character != b"]":
        number += 1
        position = f"{text.position()}, delivery {number}"
        yield position, text.object(position)
        character = text.after_blanks()
        if character == b",":
            text.at += 1
            text.after_blanks()
        elif character != b"]":
            raise no_delivery(text.position()) if character else text.cut_short()
    text.at += 1


def no_delivery(position: str) -> UsageError:
    """The error about what stands where a delivery should."""
    return UsageError(f"{position}: is neither a slice nor a delivery as GitHub's API gives it", hint=_ADVICE)


class _Text:
    """The rest of a file: what was read of it and not yet taken, from `at` on."""

    def __init__(self, first: bytes, file: IO[bytes], name: str) -> None:
        self._read = first
        self._file = file
        self._name = name
        self._line = 1
        self._counted = 0
        self.at = 0

    def require_utf8_mark(self) -> None:
        """Pass over the mark of UTF-8 at the beginning. Raises UsageError for another's."""
        if self._read.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UsageError(
                f"{self._name}, line 1: is UTF-16, and JSON is UTF-8",
                hint="A shell has converted it: have it write UTF-8, or have `gh api` write the file.",
            )
        if self._read.startswith(codecs.BOM_UTF8):
            self.at = len(codecs.BOM_UTF8)

    def position(self) -> str:
        self._line += self._read.count(b"\n", self._counted, self.at)
        self._counted = self.at
        return f"{self._name}, line {self._line}"

    def after_blanks(self) -> bytes:
        """Pass over blanks: the character that follows, or none at the end."""
        while True:
            rest = len(self._read)
            while self.at < rest and self._read[self.at] in _BLANK:
                self.at += 1
            if self.at < rest:
                return self._read[self.at : self.at + 1]
            if not self._read_more():
                return b""

    def object(self, position: str | None = None) -> bytes:
        """Take the object that begins here. Raises UsageError."""
        position = position or self.position()
        character = self.after_blanks()
        if character != b"{":
            raise no_delivery(position) if character else self.cut_short()
        while True:
            try:
                end = value_end(self._read, self.at)
            except BadRequest:
                raise UsageError(
                    f"{position}: is nested too deeply", hint="GitHub's payloads are not so deep."
                ) from None
            if (len(self._read) if end is None else end) - self.at > OBJECT_MAX:
                raise UsageError(f"{position}: is longer than {OBJECT_MAX >> 20} MiB", hint="GitHub sends at most 25.")
            if end is not None:
                text = self._read[self.at : end]
                self.at = end
                return text
            if not self._read_more():
                raise self.cut_short()

    def cut_short(self) -> UsageError:
        return UsageError(
            f"{self._name}: is cut short: its end is missing",
            hint="The file is not whole: fetch it again, or copy it again.",
        )

    def _read_more(self) -> bool:
        """Read as much again as there is, so that a long object is looked through a few times at most; False at the end."""
        self.position()
        self._read = self._read[self.at :]
        self.at = self._counted = 0
        more = self._file.read(max(_PIECE, len(self._read)))
        self._read += more
        return bool(more)
