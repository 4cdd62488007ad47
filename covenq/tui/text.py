"""Turning values into text that is safe and fits: payloads are hostile, terminals obey control characters.

Every string that came from a request passes `clean` (one line) or `clean_block` (several) before it is drawn. Nothing
drawn here is ever parsed as markup.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rich.cells import cell_len, chop_cells, set_cell_size

from covenq.model.short_ids import short_id as _short_id
from covenq.text import byte_size, instant, picture
from covenq.text import duration as in_largest_unit

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

ABSENT = "–"


def clean(value: object) -> str:
    """`value` as one line without any character that a terminal acts on: controls become visible pictures."""
    return picture(value if isinstance(value, str) else str(value))


def short_id(id: str) -> str:
    """An id by its beginning, as commands take it: the detail has the whole of it."""
    return clean(_short_id(id))


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


def wrap(text: str, width: int) -> list[str]:
    """Clean `text` as lines of `width` cells at most, broken between words, and within a longer one. Indentation stays."""
    lines: list[str] = []
    line = ""
    for word in re.findall(r" *[^ ]+", text):
        if cell_len(line) + cell_len(word) <= width:
            line += word
            continue
        if line.strip():
            lines.append(line)
            word = word.lstrip(" ")
        *full, line = chop_cells(word, width) or [""]
        lines += full
    return [*lines, line] if line or not lines else lines


def state(word: str | None) -> str:
    """A state as glyph and word: `✗ failed`. Unknown words pass, cleaned."""
    if not word:
        return ABSENT
    return f"{GLYPHS.get(word, '?')} {clean(word)}"


def duration(seconds: float) -> str:
    """At most four cells: `850ms`, `12s`, `5m`, `3h`, `9d`. Unlike the command line's it has milliseconds, for attempts."""
    seconds = max(0.0, seconds)
    return f"{int(seconds * 1000)}ms" if seconds < 1 else in_largest_unit(seconds)


def age(text: str | None, now: float) -> str:
    """How long ago: `12s`; `now` below a second, and for a time ahead. The command line says `in 3m` for that."""
    at = instant(text)
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
    first = instant(start)
    if first is None:
        return ABSENT
    last = instant(end)
    return duration((now if last is None else last) - first)


def size(count: int | None) -> str:
    """Bytes for people: `7.6 KiB`, `20.0 TiB`."""
    return ABSENT if count is None else byte_size(count, "TiB")


def number(value: int) -> str:
    return f"{value:,}"
