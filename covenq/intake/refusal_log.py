"""The log of refused requests: counted by reason, the newest kept in a bounded file in the data directory, and read back.

It answers "why did nothing arrive", and is no part of the journal: it is written without a sync, and may be deleted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from covenq.model import JsonObject, at_text
from covenq.paths import REFUSALS_NAME

LOG_MAX = 1 << 20
"""Bytes after which the log becomes `refused.jsonl.1`, whose predecessor is lost: two of these are the most there is."""
LINE_MAX = 16384
"""Bytes of one line; a few hundred are written."""

_REQUIRED = (("at", str), ("error", str), ("status", int))
"""What each has. Anybody who may write the directory may write anything there; none of it may fail who reads it."""
_TEXT_MAX = 200
MINUTES_MAX = 1440
LOG_INTERVAL_S = 60.0
"""Seconds between two lines of the daemon's log about the same reason."""

log = logging.getLogger("covenq.http")


class Refusals:
    """Counts since the start of the process, and the log. Methods may be called from any thread and raise nothing."""

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Callable[[], float] = time.time,
        room: Callable[[], bool] = lambda: True,
        limit: int = LOG_MAX,
        mask: Callable[[str], str] = lambda text: text,
    ) -> None:
        """`path` is the log's (None: count only); `room` says whether the disk has space for it; `mask` masks secrets."""
        self._mask = mask
        self._logged_at: dict[str, float] = {}
        self._path = path
        self._clock = clock
        self._room = room
        self._limit = limit
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._minutes: Counter[str] = Counter()
        self._failed = False

    def note(self, word: str, status: int, detail: str, **about: Any) -> None:
        """Count one refusal under `word`. `about`: what else is known of the request; texts are cut to 200 characters."""
        line: dict[str, Any] = {"at": at_text(self._clock()), "error": word, "status": status}
        line |= {name: self._clean(value) for name, value in {"detail": detail, **about}.items() if value}
        with self._lock:
            self._counts[word] += 1
            self._statuses[status] += 1
            self._minutes[line["at"][:16]] += 1
            if len(self._minutes) > MINUTES_MAX:
                del self._minutes[min(self._minutes)]
            self._log_now_and_then(word, status)
            if self._path is not None and self._room():
                self._write(self._path, orjson.dumps(line) + b"\n")

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def statuses(self) -> dict[int, int]:
        """The same refusals, by the status they were answered with."""
        with self._lock:
            return dict(self._statuses)

    def minutes(self) -> dict[str, int]:
        """The same refusals, of the last day, by the minute they came in: 2026-11-23T08:49."""
        with self._lock:
            return dict(self._minutes)

    def _log_now_and_then(self, word: str, status: int) -> None:
        """A line in the daemon's log, once in a while for each reason: a flood of refusals must not be one of lines."""
        now = time.monotonic()
        if now - self._logged_at.get(word, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged_at[word] = now
            log.warning(
                "refused with %d %s, %d since the start; `covenq refused` says more", status, word, self._counts[word]
            )

    def _clean(self, value: Any) -> Any:
        """A text without secrets or what is no UTF-8, and cut short."""
        return self._mask(value)[:_TEXT_MAX].encode("utf-8", "replace").decode() if isinstance(value, str) else value

    def _write(self, path: Path, line: bytes) -> None:
        try:
            if path.exists() and path.stat().st_size + len(line) > self._limit:
                path.replace(path.with_name(path.name + ".1"))
            with open(path, "ab", opener=_private) as file:
                file.write(line)
        except OSError as error:
            if not self._failed:  # once: a full disk is said elsewhere, and this log is a convenience
                self._failed = True
                log.warning("%s can't be written: %s", path, error.strerror)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def read(data: Path) -> Iterator[JsonObject]:
    """Each refusal: {"at", "error", "status", "detail", …}, oldest first. Lines that can't be read are left out: one may be
    on its way to the disk just now. Nothing where there is no log, or it can't be read.
    """
    for name in (f"{REFUSALS_NAME}.1", REFUSALS_NAME):
        try:
            with (data / name).open("rb") as file:
                while line := file.readline(LINE_MAX):
                    try:
                        found = orjson.loads(line)
                    except orjson.JSONDecodeError:
                        continue
                    if isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in _REQUIRED):
                        yield found
        except OSError:
            continue
