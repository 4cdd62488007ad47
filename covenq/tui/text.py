"""Turning values into text that is safe and fits: payloads are hostile, terminals obey control characters.

Every string that came from a request passes `clean` (one line) or `clean_block` (several) before it is drawn. Nothing
drawn here is ever parsed as markup.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_C0 = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}

GLYPHS = {
    "received": "·",
    "ignored": "–",
    "queued": "○",
    "running": "◐",
    "completed": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "superseded": "»",
}

STYLES = {
    "received": "magenta",
    "ignored": "bright_black",
    "queued": "cyan",
    "running": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "bright_black",
    "superseded": "bright_black",
}

ABSENT = "–"


def _safe(character: str) -> str:
    code = ord(character)
    if code in _C0:
        return _C0[code]
    category = unicodedata.category(character)
    if category == "Cf":
        # Joiners only change how neighbours are drawn; direction marks can make text read as other text.
        return REPLACEMENT if unicodedata.bidirectional(character) not in ("BN",) else ""
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return REPLACEMENT
    return character


def clean(value: object) -> str:
    """`value` as one line without any character that a terminal acts on: controls become visible pictures."""
    text = value if isinstance(value, str) else str(value)
    if text.isprintable():
        return text
    return "".join(map(_safe, text))


def clean_block(text: str) -> list[str]:
    """Lines of `text`, each clean; tabs become four spaces. Only newlines split."""
    return [clean(line.removesuffix("\r").replace("\t", "    ")) for line in text.split("\n")]


@lru_cache(maxsize=16384)
def fit(text: str, width: int, right: bool = False) -> str:
    """Clean `text` in exactly `width` cells, cut with an ellipsis if it is longer."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width > 1 else "…"[:width]
    pad = " " * (width - length)
    return pad + text if right else text + pad


def state(word: str | None) -> str:
    """A state as glyph and word: `✗ failed`. Unknown words pass, cleaned."""
    if not word:
        return ABSENT
    return f"{GLYPHS.get(word, '?')} {clean(word)}"


def duration(seconds: float) -> str:
    """At most four cells: `850ms`, `12s`, `5m`, `3h`, `9d`."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    for unit, size, limit in (("s", 1, 60), ("m", 60, 3600), ("h", 3600, 86400)):
        if seconds < limit:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86400)}d"


def when(text: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time, None for none or for nonsense."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def age(text: str | None, now: float) -> str:
    """How long ago: `12s`; `now` below a second."""
    at = when(text)
    if at is None:
        return ABSENT
    return "now" if now - at < 1 else duration(now - at)


def ago(text: str | None, now: float) -> str:
    """The same with its word: `12s ago`, `just now`."""
    told = age(text, now)
    return {"now": "just now", ABSENT: "at some time"}.get(told, f"{told} ago")


def cells(text: str) -> int:
    """How wide it is drawn."""
    return cell_len(text)


def span(start: str | None, end: str | None, now: float) -> str:
    """How long from start to end, or to now while it has no end."""
    first = when(start)
    if first is None:
        return ABSENT
    last = when(end)
    return duration((now if last is None else last) - first)


def size(count: int | None) -> str:
    """Bytes for people: `7.6 KiB`."""
    if count is None:
        return ABSENT
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def number(value: int) -> str:
    return f"{value:,}"
