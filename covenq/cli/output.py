"""What commands print: data on stdout, as text or as JSON, and words on stderr; nothing in it that a terminal would obey.

Only data goes to stdout. Everything else, progress, questions and results in words, goes to stderr.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, TextIO

from covenq import stderr
from covenq.cli.prose import HANG, wrap
from covenq.cli.terminal_width import columns
from covenq.client.suggestion import with_suggestions
from covenq.errors import CovenqError
from covenq.json_text import json_text as any_depth
from covenq.model.palette import STATE_TONES, escape_sequences
from covenq.text import INVISIBLE, byte_size, counted, duration, escape, instant

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"

_TONES = escape_sequences(os.environ)
BAD, WARNING, GOOD, ACTIVE, MUTED = (_TONES[one] for one in ("bad", "warning", "good", "active", "muted"))
"""The colours, by what they mean: `covenq.model.palette` has them, for the dashboard too."""

_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff{INVISIBLE}]")
"""Characters that JSON allows in a string, and a terminal might obey or nobody sees: DEL, C1 controls, direction marks, tags; and
lone surrogates."""


def clean(value: object) -> str:
    """The value as one line of text in which whatever a terminal could obey is escaped (`covenq.text.escape`); None is empty."""
    return escape("" if value is None else str(value))


def is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and stream.isatty()


def has_colour(stream: IO[str] | None) -> bool:
    """Whether to use colour: on a terminal, unless NO_COLOR is set and not empty, or TERM is dumb."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, coloured: bool) -> str:
    return f"{colour}{text}{PLAIN}" if coloured and colour and text else text


def stdout() -> TextIO:
    """Standard output. Raises CovenqError when it was closed before the command began."""
    if sys.stdout is None:
        raise CovenqError("standard output is closed", hint="Give the command somewhere to write.")
    return sys.stdout


def say(words: str = "", hang: int = HANG) -> None:
    """Words for a person on stderr: on a terminal wrapped, with its later lines indented by `hang` (`covenq.cli.prose`).

    A command that they tell to type is told as it is to be typed here (`covenq.client.suggestion`).
    """
    room = columns(sys.stderr)
    for words_of_line in with_suggestions(words).split("\n"):
        stderr.say("\n".join(wrap(words_of_line, room, hang)))


_unread: ContextVar[list[OSError] | None] = ContextVar("unread", default=None)
"""In the report of an act (`report_of_act`): the error for which standard output was given up, if there was one."""


@contextmanager
def _stdout_for_writing() -> Iterator[TextIO]:
    """Standard output; a failed write raises CovenqError. BrokenPipeError passes: a reader that closed the pipe is no failure.

    In the report of an act neither is raised: what is still to be printed goes to /dev/null.
    """
    try:
        yield stdout()
    except OSError as error:
        given_up = _unread.get()
        if given_up is not None:
            given_up.append(error)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        elif isinstance(error, BrokenPipeError):
            raise
        else:
            raise CovenqError(
                f"can't write to standard output: {error.strerror}", hint="What was written is not complete."
            ) from error


def line(text: str = "") -> None:
    """One line of data on stdout. The caller cleans what came from outside."""
    with _stdout_for_writing() as out:
        out.write(text + "\n")


def prose(text: str, hang: int = HANG) -> None:
    """One line of words on stdout, on a terminal wrapped, with its later lines indented by `hang`. The caller cleans."""
    line("\n".join(wrap(text, columns(stdout()), hang)))


def write_bytes(content: bytes) -> None:
    """Exactly these bytes on stdout."""
    with _stdout_for_writing() as out:
        out.flush()
        _write_all(out, content)
        out.buffer.flush()


def _write_all(out: TextIO, content: bytes) -> None:
    """Where Python doesn't buffer (PYTHONUNBUFFERED), a write may take a part, as of a full disk or a reader that leaves."""
    rest = memoryview(content)
    while rest:
        written = out.buffer.write(rest)
        if not written:  # a descriptor that doesn't block, and has no room
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        rest = rest[written:]


def flush() -> None:
    """Write out what was printed so far."""
    with _stdout_for_writing() as out:
        out.flush()


def is_piped() -> bool:
    """Whether standard output is a pipe or a socket, whose reader may leave before the end."""
    try:
        mode = os.fstat(1).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def stop_if_unread() -> None:
    """Raise BrokenPipeError where the reader of standard output has left: what waits would learn that at its next line only."""
    if not is_piped():
        return
    import select  # here, for commands that follow: the others must start fast

    poll = select.poll()
    poll.register(1, 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def pause(seconds: float) -> None:
    """Wait so long between two looks at what is followed. Raises BrokenPipeError where nobody reads that any more."""
    stop_if_unread()
    time.sleep(seconds)


@contextmanager
def report_of_act(acted: bool = True) -> Iterator[None]:
    """For the report of an action that is done: nothing that happens to stdout changes the action's exit code.

    A reader that left, and a closed stdout, are no trouble; what could not be written, on a full disk for example, is said.
    Not `acted`, as in a dry run, what is printed is all that the command is for, and fails as any output does.
    """
    if not acted:
        yield
        return
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    given_up: list[OSError] = []
    before = _unread.set(given_up)
    try:
        yield
        flush()
    finally:
        _unread.reset(before)
    lost = next((error for error in given_up if not isinstance(error, BrokenPipeError)), None)
    if lost is not None:
        say(f"warning: it is done, and not all that it printed was written: standard output: {lost.strerror}")


@contextmanager
def report_of_verdict() -> Iterator[None]:
    """For what a command prints whose exit code is its verdict: a reader that left changes nothing of it.

    Else `covenq status | head -1` would say of a daemon that is ready that it isn't. What can't be written for another reason is
    an error as any output's is.
    """
    try:
        yield
        flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def json_text(value: object, *, indent: int | None = None) -> str:
    """One JSON document in UTF-8, in which whatever a terminal would obey is escaped. Raises ValueError for NaN."""
    return escape_json(any_depth(value, indent=indent, default=_builtins))


def escape_json(text: str) -> str:
    """A JSON document in which whatever a terminal would obey is escaped."""
    if text.isascii() and "\x7f" not in text:  # which most are, and the expression takes as long as the encoding
        return text
    return _UNSAFE_IN_JSON.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    pairs = found[0].encode("utf-16-be", "surrogatepass")  # beyond the first plane, two surrogates
    return "".join(f"\\u{pairs[at : at + 2].hex()}" for at in range(0, len(pairs), 2))


def _builtins(value: object) -> object:
    from msgspec import to_builtins  # what a source answers is of its types; then it is imported already

    return to_builtins(value)


def _write_json(text: str) -> None:
    with _stdout_for_writing() as out:
        _write_all(out, text.encode())


_lines: ContextVar[bool] = ContextVar("lines", default=False)


@contextmanager
def json_lines(lines: bool) -> Iterator[None]:
    """Set, for the `with`, whether JSON is printed as lines (`--jsonl`)."""
    before = _lines.set(lines)
    try:
        yield
    finally:
        _lines.reset(before)


def is_json_lines() -> bool:
    return _lines.get()


def json_option() -> str:
    """The option that asked for JSON."""
    return "--jsonl" if is_json_lines() else "--json"


def emit_json(value: object) -> None:
    """Print one document: indented on a terminal, one line in a pipe or with --jsonl."""
    _write_json(json_text(value, indent=2 if is_terminal(stdout()) and not is_json_lines() else None) + "\n")


def emit_page(items: Sequence[object], **others: object) -> None:
    """Print a complete list as `{"items":[…]}`, with `others` behind it; with --jsonl, only its items."""
    if is_json_lines():
        emit_jsonl(items)
    else:
        emit_json({"items": items, **others})


def emit_jsonl(items: Iterable[object]) -> None:
    """Print one object per line, as they come."""
    for item in items:
        _write_json(json_text(item) + "\n")


def emit_items(items: Iterable[object], following: Callable[[], str | int | None]) -> None:
    """Print `{"items":[…],"next":…}` without holding the items, one per line. `following` is called at the end, for the cursor.

    Nothing is written before the first item: if getting it raises, because the filter is wrong for example, stdout is empty.
    With --jsonl, only the items."""
    if is_json_lines():
        emit_jsonl(items)
        return
    first = True
    for item in items:
        _write_json(('{"items":[\n' if first else ",\n") + json_text(item))
        first = False
    _write_json(('{"items":[]' if first else "\n]") + ',"next":' + json_text(following()) + "}\n")


# Values in words


def state_colour(word: str) -> str:
    tone = STATE_TONES.get(word)
    return "" if tone is None else _TONES[tone]


def age(at: str | None, now: float) -> str:
    """`3m` for an RFC 3339 time, counted back from `now` (seconds since 1970); `in 3m` for one ahead; empty for none.

    What isn't a time is shown as it is. The dashboard's ages differ: `now` for one ahead, a dash for none.
    """
    then = instant(at)
    if then is None:
        return clean(at)
    text = duration(abs(now - then))
    return f"in {text}" if now - then < -1 else text


def left(at: str | None, now: float) -> str:
    """How long until then: `9h`; `now` for what is over, and empty for none. What isn't a time is shown as it is."""
    then = instant(at)
    return clean(at) if then is None else duration(then - now) if then > now else "now"


def elapsed(at: str | None, now: float) -> str:
    """How long ago it was: `3m`. Never negative, even if the clock was set back meanwhile. What isn't a time is shown as is."""
    then = instant(at)
    return clean(at) if then is None else duration(max(0.0, now - then))


def minute(at: str | None, now: float) -> str:
    """When it was, to the minute, UTC: `02:34`, and longer than a day ago `11-23 02:34`. What isn't a time is shown as it is."""
    then = instant(at)
    if at is None or then is None:
        return clean(at)
    return at[11:16] if abs(now - then) < 86400 else f"{at[5:10]} {at[11:16]}"


def clock(at: str | None, now: float) -> str:
    """When it was, UTC: `02:34:56Z`, and longer than a day ago `11-23 02:34Z`. What isn't a time is shown as it is."""
    then = instant(at)
    if at is None or then is None:
        return clean(at)
    return f"{at[11:19]}Z" if 0 <= now - then < 86400 else f"{at[5:10]} {at[11:16]}Z"


def timestamp(at: str | None) -> str:
    """A time to the second, UTC: `2026-11-23 02:34:56Z`."""
    if not at:
        return ""
    try:
        return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except ValueError:
        return clean(at)


def command_text(*words: str) -> str:
    """A command as it can be typed: quoted for a shell where that is needed, and clean."""
    import shlex

    return clean(shlex.join(words))


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 task`, `2 tasks`, `1,004,221 deliveries`."""
    return counted(number, one, many)


def size(number: float) -> str:
    """Bytes for people, up to GiB: `812 B`, `7.6 KiB`, `20480.0 GiB`. The dashboard, which has less room, goes on to TiB."""
    return byte_size(number, "GiB")
