"""Text from outside made safe to show, to log or to store; its columns in a terminal; and instants, durations and sizes as read.

Values in, values out. The four cleaners differ in what they keep, because their readers do: see each. All replace only what
is harmful, so that plain text passes unchanged.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from datetime import datetime

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0"
    "\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that take no room, or are blank where nobody expects it (Unicode's Default_Ignorable_Code_Point), as the inside of a
regular expression's brackets: joiners, direction marks, fillers, variation selectors, tags. Text can be hidden in them from a
reader, and is there for a model or a program. U+FE0E and U+FE0F, which choose how an emoji is drawn, are not among them."""

_SELECTORS = "\ufe0e\ufe0f"
_HIDDEN = re.compile(f"[{INVISIBLE}{_SELECTORS}]")

CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""A C0 control, DEL or a lone surrogate: what neither one line of text, nor UTF-8, nor an environment variable can hold."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What the command line colours with: no other control gets to a terminal."""
_ISSUE = re.compile(r"#[0-9]+\Z")

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}


def escape(text: str) -> str:
    """For a line on a terminal or in a log: whatever isn't printable, as Python would escape it: `\\x1b[2J`, `\\u202e`.

    Titles, repositories and headers come from whoever can open an issue; none may move the cursor, set the window's title,
    turn the direction of writing, or make one line look like two. The escape is readable, and says what it was.
    """
    if text.isprintable() and (text.isascii() or _HIDDEN.search(text) is None):
        return text
    return "".join(
        c if _is_visible(c, text[at - 1 : at]) else c.encode("unicode_escape").decode() for at, c in enumerate(text)
    )


def _is_visible(character: str, before: str) -> bool:
    """Whether it can be seen, and moves nothing; an emoji's selector counts with the symbol or digit `before` it."""
    if character in _SELECTORS:
        return unicodedata.category(before)[0] in "SNP" if before else False
    return character.isprintable() and _HIDDEN.match(character) is None


def picture(text: str) -> str:
    """For a cell of the dashboard: each control as the one character that depicts it (`␛`, `␊`).

    So columns keep their width, which escapes would not allow; what else can't be seen becomes U+FFFD: direction marks, joiners,
    tags.
    """
    if text.isprintable() and (text.isascii() or _HIDDEN.search(text) is None):
        return text
    return "".join(c if _is_visible(c, text[at - 1 : at]) else _picture(c) for at, c in enumerate(text))


def _picture(character: str) -> str:
    code = ord(character)
    if code in _PICTURES:
        return _PICTURES[code]
    category = unicodedata.category(character)
    return character if category in ("Zs", "Cn", "Co") else REPLACEMENT


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


def character_start(content: bytes) -> int:
    """Where the first whole character of UTF-8 begins: what is before it is the rest of one that was cut."""
    return next((at for at, byte in enumerate(content[:3]) if byte & 0xC0 != 0x80), len(content[:3]))


def character_end(content: bytes) -> int:
    """Where the last whole character of UTF-8 ends: what follows may be the beginning of one. Bytes that are none are whole."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(content[-4:])
    return len(content) - len(decoder.getstate()[0])


def width(text: str) -> int:
    """The columns a cleaned text takes: a wide character takes two, a combining one and our own colours none.

    The dashboard draws by rich.cells, as Textual does; all else saves the time of importing it.
    """
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


def shorten_words(text: str, room: int) -> str:
    """The text in at most `room` columns, with … where its end was cut: behind a word, unless the first alone is longer."""
    if width(text) <= room:
        return text
    words, _, _ = _first(text, room - 1).rpartition(
        " "
    )  # of one that ends where the room does, a space is left for the …
    return f"{words.rstrip()} …" if words.strip() and width(words) <= room - 2 else shorten(text, room)


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


def shorten_target(text: str, room: int) -> str:
    """`octo/a-long-name#12` in at most `room` columns, cut in its middle. The number stays, even where there is no room for it:
    it tells the target from others of its repository."""
    number = _ISSUE.search(text)
    if number is None:
        return shorten_middle(text, room)
    return shorten_middle(text, max(room, len(number[0]) + 1), len(number[0]))


def instant(text: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time; None for no text, and for one that isn't a time."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def to_the_second(at: str) -> str:
    """A time of a record's, UTC, as people read it: `2026-11-23 02:34:56Z`. What isn't a time is shown as it is."""
    return at if instant(at) is None else f"{at[:10]} {at[11:19]}Z"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 task`, `2 tasks`, `1,004,221 deliveries`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """A duration in its largest unit, rounded down: `42s`, `3m`, `5h`, `12d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def latency(seconds: float) -> str:
    """How long something took, in at most five characters: `850ms`, `1.2s`, `42s`, `3.5m`, `17m`, `5h`, `12d`."""
    for unit, size in (("m", 60.0), ("s", 1.0)):
        if size <= seconds < 9.95 * size:
            return f"{seconds / size:.1f}{unit}"
    return f"{int(max(0.0, seconds) * 1000)}ms" if seconds < 1 else duration(seconds)


def byte_size(number: float, largest: str) -> str:
    """Bytes in the unit that fits, up to `largest`: `812 B`, `7.6 KiB`, `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == largest:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise ValueError(largest)
