"""Text from outside made safe to show, to log or to store; and instants, durations and sizes as people read them.

Values in, values out. The four cleaners differ in what they keep, because their readers do: see each. All replace only what
is harmful, so that plain text passes unchanged.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""A C0 control, DEL or a lone surrogate: what neither one line of text, nor UTF-8, nor an environment variable can hold."""

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}


def escape(text: str) -> str:
    """For a line on a terminal or in a log: whatever isn't printable, as Python would escape it: `\\x1b[2J`, `\\u202e`.

    Titles, repositories and headers come from whoever can open an issue; none may move the cursor, set the window's title,
    turn the direction of writing, or make one line look like two. The escape is readable, and says what it was.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def picture(text: str) -> str:
    """For a cell of the dashboard: each control as the one character that depicts it (`␛`, `␊`).

    So columns keep their width, which escapes would not allow; direction marks and lone surrogates become U+FFFD; joiners are
    left out.
    """
    if text.isprintable():
        return text
    return "".join(map(_picture, text))


def _picture(character: str) -> str:
    code = ord(character)
    if code in _PICTURES:
        return _PICTURES[code]
    category = unicodedata.category(character)
    if category == "Cf":
        # Joiners only change how neighbours are drawn; direction marks can make text read as other text.
        return REPLACEMENT if unicodedata.bidirectional(character) not in ("BN",) else ""
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return REPLACEMENT
    return character


def one_line(text: str, limit: int) -> str:
    """For a record that keeps an operator's words: spaces for controls and lone surrogates, at most `limit` characters.

    Direction marks stay, for they are text: whoever shows it, cleans it once more.
    """
    return CONTROLS.sub(" ", text)[:limit]


def storable(text: str, limit: int) -> str:
    """For a database: at most `limit` characters, without lone surrogates and NULs.

    No UTF-8 can hold a lone surrogate, and SQL functions stop at a NUL; U+FFFD stands for each. Everything else stays, newlines
    too: it is what was received.
    """
    text = text[:limit]
    if text.isascii():
        return text.replace("\0", REPLACEMENT) if "\0" in text else text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", REPLACEMENT)


def instant(text: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time; None for no text, and for one that isn't a time."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def duration(seconds: float) -> str:
    """A duration in its largest unit, rounded down: `42s`, `3m`, `5h`, `12d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def byte_size(number: float, largest: str) -> str:
    """Bytes in the unit that fits, up to `largest`: `812 B`, `7.6 KiB`, `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == largest:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise ValueError(largest)
