"""The logs beside the journal as lines of the audit: requests that were refused, and those that tokens were used for.

Each is JSON Lines in two files: the one that is written, and the one before it (`.1`), whose predecessor is lost. A place in it
is a file, known by the time in its first line, and an offset there. So who goes on after it reads each line once, also where the
files have moved on meanwhile. A log that has moved on twice is read from the oldest line that is left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from covenq.intake import refusal_log
from covenq.model.audit import AuditLine, On, Who
from covenq.paths import READS_NAME, REFUSALS_NAME
from covenq.state.rows import as_text

LINE_MAX = 1 << 16
"""Bytes of a line; a few hundred are written. What is longer is none."""
TEXT_MAX = 200
NEWEST_BYTES = 1 << 20
"""Of each log, where the newest lines are asked for."""
_DIGITS = re.compile(r"[^0-9]")


class LogPosition(NamedTuple):
    """Where to go on: the file, by the digits of the time in its first line, and the offset in it."""

    file: str
    offset: int


class LogStep(NamedTuple):
    """A line of a log, where the next one begins, and what it says; None where it says nothing."""

    place: LogPosition
    line: AuditLine | None


class AuditLog(NamedTuple):
    """A log, as it is named in a cursor, and how a line of it is read. `decode` raises msgspec.DecodeError."""

    letter: str
    name: str
    decode: Callable[[bytes], AuditLine]


class Use(msgspec.Struct):
    """What a token was used for, as `reads.jsonl` has it: so often in a minute, with that method, path and answer."""

    at: str
    token: str
    method: str
    path: str | None
    """None: there is no such path."""
    status: int
    count: int = 1


def steps(data: Path, log: AuditLog, place: LogPosition | None) -> Iterator[LogStep]:
    """The lines after a place, oldest first; all that are left without one."""
    with ExitStack() as stack:
        files = _open(data, log.name, stack)
        names = [name for name, _ in files]
        start = names.index(place.file) if place is not None and place.file in names else 0
        for at, (name, file) in enumerate(files[start:]):
            if at == 0 and place is not None and place.file == name:
                file.seek(place.offset)
            for end, line in _lines(file):
                yield LogStep(LogPosition(name, end), _decoded(log, line))


def newest_of(data: Path, log: AuditLog) -> tuple[list[AuditLine], LogPosition | None]:
    """The lines in the last NEWEST_BYTES of what is left of it, and where it ends; None where there is none."""
    found: list[AuditLine] = []
    place: LogPosition | None = None
    with ExitStack() as stack:
        files = _open(data, log.name, stack)
        left = NEWEST_BYTES - (os.fstat(files[-1][1].fileno()).st_size if len(files) > 1 else 0)
        for name, file in files:
            size = os.fstat(file.fileno()).st_size
            skipped = max(0, size - (left if file is not files[-1][1] else NEWEST_BYTES))
            if skipped < size:
                _skip(file, skipped)
            else:
                file.seek(size)
            place = LogPosition(name, file.tell())
            for end, line in _lines(file):
                place, told = LogPosition(name, end), _decoded(log, line)
                found += [] if told is None else [told]
    return found, place


def _open(data: Path, name: str, stack: ExitStack) -> list[tuple[str, BinaryIO]]:
    """The files there are, the older one first, each with its name in a place. One that has moved on meanwhile is there once."""
    found: list[tuple[str, BinaryIO]] = []
    for path in (data / name, data / f"{name}.1"):
        with suppress(OSError):
            file = stack.enter_context(path.open("rb"))
            first = file.readline(LINE_MAX)
            file.seek(0)
            if first.endswith(b"\n"):
                found.append((_name_of(first), file))
    if len(found) == 2 and found[0][0] == found[1][0]:
        found.pop()
    return found[::-1]


class _Dated(msgspec.Struct):
    at: str


def _name_of(line: bytes) -> str:
    try:
        return _DIGITS.sub("", msgspec.json.decode(line, type=_Dated).at)[:20] or "0"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "0"


def _skip(file: BinaryIO, offset: int) -> None:
    """Go to the first line that begins at the offset or later."""
    if offset:
        file.seek(offset - 1)
        while (part := file.readline(LINE_MAX)) and not part.endswith(b"\n"):
            pass


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each whole line with the offset behind it. One that is too long is empty; one that is being written is not there yet."""
    offset, whole = file.tell(), True
    while part := file.readline(LINE_MAX):
        if not part.endswith(b"\n"):
            if len(part) < LINE_MAX:
                return
            whole = False
            offset += len(part)
            continue
        offset += len(part)
        yield offset, part if whole else b""
        whole = True


def _decoded(log: AuditLog, line: bytes) -> AuditLine | None:
    """A line that is none is skipped: a program with access may have written anything."""
    try:
        return log.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# ---- what they say


def _short(text: str | None) -> str | None:
    cut = None if text is None else as_text(text[:TEXT_MAX])
    return cut or None


_REFUSAL = msgspec.json.Decoder(refusal_log.Refusal)
_USE = msgspec.json.Decoder(Use)


def _refused(line: bytes) -> AuditLine:
    """A request that left nothing in the journal. Nothing proves who it was: no signature covers headers, if it bore one."""
    one = _REFUSAL.decode(line)
    hook, guid = _short(one.hook), _short(one.delivery)
    named = On("delivery", f"{hook}/{guid}" if hook else guid) if guid else On("request", _short(one.path))
    return AuditLine(
        at=one.at,
        seq=None,
        who=Who("sender", hook or _short(one.client)),
        what="refused",
        on=named,
        outcome="refused",
        reason=_short(one.error),
        detail=_short(one.detail),
        hook=hook,
        guid=guid,
        event=_short(one.event),
        status=one.status,
        verified=False,
    )


def _used(line: bytes) -> AuditLine:
    one = _USE.decode(line)
    return AuditLine(
        at=one.at,
        seq=None,
        who=Who("token", _short(one.token)),
        what="read" if one.method in ("GET", "HEAD") else "requested",
        on=On("request", _short(f"{one.method} {one.path or 'no such path'}")),
        outcome="done" if one.status < 400 else "refused" if one.status < 500 else "failed",
        reason=None,
        status=one.status,
        count=max(one.count, 0),
    )


REFUSALS = AuditLog("r", REFUSALS_NAME, _refused)
USES = AuditLog("t", READS_NAME, _used)
LOGS: Mapping[str, AuditLog] = {log.letter: log for log in (REFUSALS, USES)}
