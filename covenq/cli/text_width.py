"""Columns of a terminal: how many there are, how many a text takes, and a text cut to so many.

What is cut has … where something is missing. The dashboard uses rich.cells, as Textual does; the command line saves the time of
importing it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import IO

COLUMNS = 80
"""Of a terminal that doesn't say."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What `output.paint` adds: no other control gets to a terminal."""


def columns(stream: IO[str] | None) -> int | None:
    """How many columns the terminal behind a stream has, or COLUMNS says; None for what is no terminal: nothing is cut there.

    As `shutil.get_terminal_size`, which looks at standard output alone.
    """
    if stream is None or not stream.isatty():
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdecimal() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS
    except (OSError, ValueError):
        return COLUMNS


def width(text: str) -> int:
    """The columns a cleaned text takes: a wide character takes two, a combining one and our own colours none."""
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    return len(text) if text.isascii() else sum(map(_width_of, text))


def _width_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me") or _joins_syllable(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _joins_syllable(character: str) -> bool:
    """Whether it is a vowel or final of Hangul, drawn in the room of the consonant before it."""
    return "\u1160" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7ff"


def shorten(text: str, room: int) -> str:
    """The text in at most `room` columns, with … where its end was cut."""
    return text if width(text) <= room else _first(text, room - 1) + "…"


def shorten_middle(text: str, room: int, keep: int = 0) -> str:
    """The text in at most `room` columns, with … where its middle was cut; the last `keep` characters stay while there is room.

    For what is told apart by its end: `octo/a-long-name#12`, a file's path.
    """
    if width(text) <= room:
        return text
    end = text[len(text) - keep :] if keep else ""
    left = room - 1 - width(end)
    if left < 0:
        return shorten(text, room)
    rest = text[: len(text) - keep]
    if keep:  # the end says which one, and of the rest the beginning says most
        return f"{_first(rest, left)}…{end}"
    return f"{_first(rest, (left + 1) // 2)}…{_last(rest, left // 2)}"


def _first(text: str, room: int) -> str:
    """As much of its beginning as `room` columns take."""
    used = 0
    for at, character in enumerate(text):
        used += _width_of(character)
        if used > room:
            return text[:at]
    return text


def _last(text: str, room: int) -> str:
    """As much of its end as `room` columns take; it doesn't begin with what combines with a character before it."""
    start, used = len(text), 0
    for at in range(len(text) - 1, -1, -1):
        taken = _width_of(text[at])
        used += taken
        if used > room:
            break
        if taken:
            start = at
    return text[start:]


_NUMBER = re.compile(r"#[0-9]+\Z")


def shorten_target(text: str, room: int) -> str:
    """`octo/a-long-name#12` in at most `room` columns, cut in its middle. The number stays, even where there is no room for it:
    it tells the target from others of its repository."""
    number = _NUMBER.search(text)
    if number is None:
        return shorten_middle(text, room)
    return shorten_middle(text, max(room, len(number[0]) + 1), len(number[0]))
