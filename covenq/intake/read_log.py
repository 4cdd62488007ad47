"""The log of what was asked with tokens: who read what, when, how often, in a bounded file; read back here too.

It is for the question who has looked, which the journal can't answer: a read changes nothing, so it is no record. As the log of
refusals it is written without a sync and may be deleted.

Nobody fills it by asking often. Of each token, method, path, status and minute there are two lines at most: one as it is first
asked, so that it is seen at once, and one at the minute's end with how often more. Paths are the interface's own, without ids,
parameters and filters, so their number is fixed, and a token can't push what it did before out of the file by asking for a
million things; and the text of a filter, which may be a name, is nowhere. A crash loses the second line of its minute.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from covenq.model import at_text
from covenq.model.rows import Time
from covenq.model.token_scope import Scope
from covenq.paths import READS_NAME
from journal.presence import exists

LOG_MAX = 4 << 20
"""Bytes after which the log becomes `reads.jsonl.1`, whose predecessor is lost: two of these are the most there is."""
LINE_MAX = 16384
"""Bytes of a line; a scope has 200 numbers at most."""
KEYS_MAX = 2000
"""Kinds of requests in one minute that are told apart; what comes beyond is counted together, as nobody's."""
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
OTHER = "other"

log = logging.getLogger("covenq.http")


class Read(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line: how often (`count`) a token asked for it in the minute of `at`, and how many items it was given in all.

    `path` is as in the description of the API, as `/api/v1/tasks/{id}`, null for what is none. `installations` and `repositories`
    are the token's scope.
    """

    at: Time
    token: str
    method: str
    path: str | None
    status: int
    count: int
    items: int = 0
    installations: list[int] | None = None
    repositories: list[int] | None = None


class _Key(NamedTuple):
    token: str
    scope: Scope | None
    method: str
    path: str | None
    status: int


class ReadLog:
    """Methods may be called from any thread and raise nothing."""

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Callable[[], float] = time.time,
        room: Callable[[], bool] = lambda: True,
        limit: int = LOG_MAX,
    ) -> None:
        """`path` is the file (None: nothing is kept); `room` returns whether the disk has space for it."""
        self._path = path
        self._clock = clock
        self._room = room
        self._limit = limit
        self._lock = threading.Lock()
        self._minute = ""
        self._more: dict[_Key, list[int]] = {}
        """What came in this minute after the first: how often, and how many items."""
        self._failed = False

    def note(self, token: str, scope: Scope | None, method: str, path: str | None, status: int, items: int = 0) -> None:
        """One request with that token; `path` is the route's own, no sender's text."""
        key = _Key(token, scope, method if method in METHODS else OTHER, path, status)
        at = at_text(self._clock())
        with self._lock:
            if at[:16] != self._minute:
                self._flush()
                self._minute = at[:16]
            if key not in self._more and len(self._more) >= KEYS_MAX:
                key = _Key(OTHER, None, OTHER, None, 0)
            more = self._more.get(key)
            if more is None:
                self._more[key] = [0, 0]
                self._write([_read(at, key, 1, items)])
            else:
                more[0] += 1
                more[1] += items

    def flush(self) -> None:
        """Write what was counted and is not in the file yet: before it is read, and at the end."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        self._write([_read(f"{self._minute}:59.999999Z", key, *more) for key, more in self._more.items() if more[0]])
        self._more.clear()

    def _write(self, reads: list[Read]) -> None:
        if self._path is None or not reads or not self._room():
            return
        lines = b"".join(msgspec.json.encode(one) + b"\n" for one in reads)
        try:
            if exists(self._path) and self._path.stat().st_size + len(lines) > self._limit:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with open(self._path, "ab", opener=_private) as file:
                file.write(lines)
        except OSError as error:
            if not self._failed:  # once: a full disk is logged elsewhere
                self._failed = True
                log.warning("%s can't be written: who reads through tokens is not kept: %s", self._path, error.strerror)


def _read(at: str, key: _Key, count: int, items: int) -> Read:
    scope = key.scope
    installations = None if scope is None else list(scope.installations)
    repositories = None if scope is None or scope.repositories is None else list(scope.repositories)
    return Read(at, key.token, key.method, key.path, key.status, count, items, installations, repositories)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def read(data: Path) -> Iterator[Read]:
    """Each line, oldest first. Lines that are none are skipped, as `refusal_log.read` does. Empty if there is no log."""
    decoder = msgspec.json.Decoder(Read)
    for name in (f"{READS_NAME}.1", READS_NAME):
        try:
            with (data / name).open("rb") as file:
                while line := file.readline(LINE_MAX):
                    try:
                        yield decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        continue
        except OSError:
            continue


def by_minute(reads: Iterator[Read]) -> Iterator[Read]:
    """The two lines of a minute as one: `at` is when it was first asked."""
    waiting: dict[tuple[object, ...], Read] = {}
    minute = ""
    for one in reads:
        if one.at[:16] != minute:
            yield from waiting.values()
            waiting.clear()
            minute = one.at[:16]
        key = (one.token, one.method, one.path, one.status, str(one.installations), str(one.repositories))
        before = waiting.get(key)
        waiting[key] = (
            one
            if before is None
            else msgspec.structs.replace(before, count=before.count + one.count, items=before.items + one.items)
        )
    yield from waiting.values()
