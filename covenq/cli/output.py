"""What commands print: tables and JSON on stdout, words on stderr, and nothing that a payload could make a terminal do.

Data alone goes to stdout. Everything else, progress and questions and results in words, goes to stderr.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from covenq.errors import CovenqError

BOLD, DIM, RED, GREEN, YELLOW, BLUE, PLAIN = (
    "\x1b[1m",
    "\x1b[2m",
    "\x1b[31m",
    "\x1b[32m",
    "\x1b[33m",
    "\x1b[34m",
    "\x1b[0m",
)

STATE_COLOURS = {
    "received": YELLOW,
    "queued": BLUE,
    "running": BLUE,
    "completed": GREEN,
    "failed": RED,
    "cancelled": YELLOW,
    "superseded": DIM,
    "ignored": DIM,
}

_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""What JSON lets stand in a string, and a terminal might obey: DEL, C1 controls, direction marks; and lone surrogates."""


def clean(value: object) -> str:
    """The text with everything a terminal could obey made visible: `\\x1b[2J`, direction marks, newlines.

    Titles, repositories and headers come from whoever can open an issue; none may move the cursor, set the window's
    title, or make one line look like two.
    """
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def width(text: str) -> int:
    """The columns a cleaned text takes in a terminal: wide characters are two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, room: int) -> str:
    """The text in at most `room` columns, with … where it was cut."""
    if width(text) <= room:
        return text
    kept, used = [], 0
    for c in text:
        used += width(c)
        if used > room - 1:
            break
        kept.append(c)
    return "".join(kept) + "…"


def is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and stream.isatty()


def has_colour(stream: IO[str] | None) -> bool:
    """Colour only on a terminal, and not against NO_COLOR (any value but empty) or TERM=dumb."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, coloured: bool) -> str:
    return f"{colour}{text}{PLAIN}" if coloured and colour and text else text


def stdout() -> IO[str]:
    """Standard output. Raises CovenqError when it was closed before the command began."""
    if sys.stdout is None:
        raise CovenqError("standard output is closed", hint="Give the command somewhere to write.")
    return sys.stdout


def say(words: str = "") -> None:
    """One line for a person, on stderr. It never fails the command: without a stderr there is nobody to tell."""
    try:
        print(words, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


@contextmanager
def _writing() -> Iterator[IO[str]]:
    """Standard output, with a failed write told as such. BrokenPipeError passes: a reader that left is no failure to tell."""
    try:
        yield stdout()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CovenqError(
            f"can't write to standard output: {error.strerror}", hint="What was written is not complete."
        ) from error


def line(text: str = "") -> None:
    """One line of data on stdout. The caller has cleaned what came from outside."""
    with _writing() as out:
        out.write(text + "\n")


def raw(content: bytes) -> None:
    """Exactly these bytes on stdout."""
    with _writing() as out:
        out.flush()
        out.buffer.write(content)  # type: ignore[attr-defined]
        out.buffer.flush()  # type: ignore[attr-defined]


def flush() -> None:
    """Everything that was printed so far, written out."""
    with _writing() as out:
        out.flush()


@contextmanager
def of_what_is_done() -> Iterator[None]:
    """Around the report of an act: whether anyone reads it, or ever could, changes nothing of how the act ended."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    try:
        yield
        flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def json_text(value: object, *, indent: int | None = None) -> str:
    """One JSON document, UTF-8 but for what a terminal would obey, which stays escaped. NaN is refused."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write_json(text: str) -> None:
    with _writing() as out:
        out.buffer.write(text.encode())  # type: ignore[attr-defined]


_lines: ContextVar[bool] = ContextVar("lines", default=False)


@contextmanager
def as_lines(lines: bool) -> Iterator[None]:
    """Whether JSON is meant for programs that read a line at a time."""
    before = _lines.set(lines)
    try:
        yield
    finally:
        _lines.reset(before)


def are_lines() -> bool:
    return _lines.get()


def json_option() -> str:
    """The option that asked for JSON."""
    return "--jsonl" if are_lines() else "--json"


def emit_json(value: object) -> None:
    """One document: indented for a person at a terminal, one line for a pipe, or where lines are asked for."""
    _write_json(json_text(value, indent=2 if is_terminal(stdout()) and not are_lines() else None) + "\n")


def emit_page(page: Mapping[str, Any]) -> None:
    """A list that is at hand whole, with what else its document has; as lines, its items alone."""
    if are_lines():
        emit_jsonl(page["items"])
    else:
        emit_json(page)


def emit_jsonl(items: Iterable[Mapping[str, Any]]) -> None:
    """An object a line, written as they come."""
    for item in items:
        _write_json(json_text(item) + "\n")


def emit_items(items: Iterable[Mapping[str, Any]], following: Callable[[], str | int | None]) -> None:
    """`{"items":[…],"next":…}` without holding the items: one a line. `following` is asked for the cursor at the end. If there
    is no first item to be had, because the filter is wrong for one, nothing was written yet. As lines, the items alone."""
    if are_lines():
        emit_jsonl(items)
        return
    first = True
    for item in items:
        _write_json(('{"items":[\n' if first else ",\n") + json_text(item))
        first = False
    _write_json(('{"items":[]' if first else "\n]") + ',"next":' + json_text(following()) + "}\n")


# Tables


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, how a row's cell is made, whether numbers stand right, and the least width it may shrink to
    when the terminal is narrow (None: it is never cut, because an id that is cut is no id)."""

    heading: str
    cell: Callable[[Mapping[str, Any]], object]
    right: bool = False
    shrink: int | None = None
    colour: Callable[[str], str] | None = None


SAMPLE = 200
"""Rows looked at before the first is printed, to find the widths. Later rows that are wider push their line out."""


def table(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> int:
    """Print aligned rows under their headings, as they come; return how many. No rows: no headings either.

    On a terminal, columns that may shrink do so until the line fits; in a pipe nothing is cut.
    """
    out = stdout()
    coloured = has_colour(out)
    source = iter(rows)
    held: list[list[str]] = []
    for row in source:
        held.append([clean(column.cell(row)) for column in columns])
        if len(held) == SAMPLE:
            break
    if not held:
        return 0
    widths = [max(width(column.heading), *(width(cells[i]) for cells in held)) for i, column in enumerate(columns)]
    if is_terminal(out):
        _fit(columns, widths, shutil.get_terminal_size().columns)
    headings = [_pad(column.heading, widths[i], column.right) for i, column in enumerate(columns)]
    line(paint("  ".join(headings).rstrip(), BOLD, coloured))
    count = 0
    for cells in _chain(held, columns, source):
        line(_row(columns, widths, cells, coloured, cut=is_terminal(out)))
        count += 1
    return count


def _chain(
    held: list[list[str]], columns: Sequence[Column], source: Iterable[Mapping[str, Any]]
) -> Iterable[list[str]]:
    yield from held
    for row in source:
        yield [clean(column.cell(row)) for column in columns]


def _fit(columns: Sequence[Column], widths: list[int], room: int) -> None:
    """Take the excess from the widest shrinkable columns, one by one, in place."""
    excess = sum(widths) + 2 * (len(widths) - 1) - room
    while excess > 0:
        able = [i for i, column in enumerate(columns) if column.shrink is not None and widths[i] > column.shrink]
        if not able:
            return
        widest = max(able, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1


def _pad(text: str, to: int, right: bool) -> str:
    gap = " " * max(0, to - width(text))
    return gap + text if right else text + gap


def _row(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], coloured: bool, *, cut: bool) -> str:
    parts = []
    for column, room, cell in zip(columns, widths, cells, strict=True):
        text = shorten(cell, room) if cut and column.shrink is not None else cell
        padded = _pad(text, room, column.right)
        parts.append(paint(padded, column.colour(cell), coloured) if column.colour else padded)
    return "  ".join(parts).rstrip()


# Words for values


def state_colour(word: str) -> str:
    return STATE_COLOURS.get(word, "")


def age(at: str | None, now: float) -> str:
    """`3m` for an RFC 3339 time, counted back from `now` (seconds since 1970); `in 3m` for one ahead; empty for none."""
    if not at:
        return ""
    try:
        seconds = now - datetime.fromisoformat(at).timestamp()
    except ValueError:
        return clean(at)
    text = span(abs(seconds))
    return f"in {text}" if seconds < -1 else text


def lasted(at: str | None, now: float) -> str:
    """How long it is since then: `3m`. Nothing lasts less than no time, though the clock was set back meanwhile."""
    text = age(at, now)
    return span(0) if text.startswith("in ") else text


def span(seconds: float) -> str:
    """A duration in its largest unit: `42s`, `3m`, `5h`, `12d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def when(at: str | None) -> str:
    """A time to the second, UTC: `2026-11-23 02:34:56Z`."""
    if not at:
        return ""
    try:
        return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except ValueError:
        return clean(at)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 task`, `2 tasks`, `1,004,221 deliveries`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    """Bytes for people: `812 B`, `7.6 KiB`, `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("unreachable")
