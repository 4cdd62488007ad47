"""Where values stand in a JSON text, without making objects of them: a value's own text is what keeps its spelling.

A parser gives 1.0, 1e5 and 12345678901234567890 as numbers, escapes as characters, and repeated keys once. What was signed
has them as they were written. Nothing here recurses, however deep a text is, and each byte is looked at once: brackets are
counted, and the strings between them are skipped by the regular expressions. What is no JSON may be given, and is left to a
parser to find: the positions are then of what would be values.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from covenq.errors import BadRequest

DEPTH_MAX = 1100
"""Levels of a text that is looked through: a few more than what any payload that is accepted has."""

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
"""A string, as the source of a regular expression with DOTALL. Possessive: no match is tried a second way."""

_STRING = re.compile(STRING, re.DOTALL)
_TO_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:' + STRING + rb'[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL)
_SCALAR = re.compile(rb"[^ \t\n\r,\]}]++")
_BLANKS = re.compile(rb"[ \t\n\r]*+")
_WITHOUT_BLANKS = re.compile(
    rb'[ \t\n\r]*+([^" \t\n\r]*+(?:' + STRING + rb'[^" \t\n\r]*+)*+)',
    re.DOTALL,
)


class Span(NamedTuple):
    """A part of a text."""

    start: int
    end: int

    def of(self, text: bytes) -> bytes:
        return text[self.start : self.end]


def members(text: bytes, start: int = 0) -> dict[str, Span] | None:
    """The values of the object that begins at `start`, by key, of a repeated one the last; None where none is there, or no end.

    Raises BadRequest for what is nested too deeply.
    """
    at = _after_blanks(text, start)
    if text[at : at + 1] != b"{":
        return None
    found: dict[str, Span] = {}
    at = _after_blanks(text, at + 1)
    if text[at : at + 1] == b"}":
        return found
    while True:
        key = _STRING.match(text, at)
        if key is None:
            return None
        at = _after_blanks(text, key.end())
        if text[at : at + 1] != b":":
            return None
        at = _after_blanks(text, at + 1)
        end = value_end(text, at)
        name = _name(key[0])
        if end is None or name is None:
            return None
        found[name] = Span(at, end)
        at = _after_blanks(text, end)
        separator = text[at : at + 1]
        if separator == b"}":
            return found
        if separator != b",":
            return None
        at = _after_blanks(text, at + 1)


def value_end(text: bytes, start: int) -> int | None:
    """Where the value that begins at `start` ends; None where it doesn't end in this text, or none begins.

    Raises BadRequest for what is nested too deeply.
    """
    first = text[start : start + 1]
    if first == b'"':
        found = _STRING.match(text, start)
        return None if found is None else found.end()
    if first not in (b"{", b"["):
        found = _SCALAR.match(text, start)
        return None if found is None else found.end()
    depth, at = 0, start
    while True:
        bracket = next_bracket(text, at)
        if bracket is None:
            return None
        depth += 1 if text[bracket] in b"{[" else -1
        if depth > DEPTH_MAX:
            raise BadRequest("body_too_deep", "The JSON is nested too deeply.")
        at = bracket + 1
        if not depth:
            return at


def next_bracket(text: bytes, start: int) -> int | None:
    """Where the next bracket outside strings is; `start` must be outside, too. None where no other is in this text."""
    found = _TO_BRACKET.match(text, start)
    return None if found is None else found.end() - 1


def compact(text: bytes) -> bytes:
    """A JSON text without the blanks between its tokens; strings, numbers and order stay as they are. Only of what is JSON."""
    return b"".join(_WITHOUT_BLANKS.findall(text))


def _after_blanks(text: bytes, start: int) -> int:
    found = _BLANKS.match(text, start)
    return start if found is None else found.end()


def _name(key: bytes) -> str | None:
    try:
        name = json.loads(key)
    except ValueError:  # also of what is not UTF-8
        return None
    return name if isinstance(name, str) else None
