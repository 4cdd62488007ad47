"""The log of refused requests: counters by word, status and minute, and a bounded file with the newest, read back here too.

It is for the question why nothing arrived. It is not part of the journal: it is written without a sync, and may be deleted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Unpack

import msgspec

from covenq.intake.refusal_evidence import Evidence
from covenq.model import at_text
from covenq.model.rows import Time
from covenq.paths import REFUSALS_NAME
from journal.presence import exists

LOG_MAX = 1 << 20
"""Bytes after which the log becomes `refused.jsonl.1`, whose predecessor is lost: two of these are the most there is."""
LINE_MAX = 16384
"""Bytes of one line; a few hundred are written."""
TEXT_MAX = 200
MINUTES_MAX = 1440
LOG_INTERVAL_S = 60.0
"""Seconds between two lines in the daemon's log about the same word."""

log = logging.getLogger("covenq.http")


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused request, a line of the log: when, its word and status; what was seen of the request; null is unknown.

    `hint` is what to do about it, `verified` that nothing proves whose delivery it was; no line of the log has them, but
    `covenq.intake.refusal_hints` adds them.
    """

    at: Time
    error: str
    status: int
    detail: str | None = None
    path: str | None = None
    client: str | None = None
    delivery: str | None = None
    hook: str | None = None
    event: str | None = None
    content_type: str | None = None
    github: bool | None = None
    proxied: bool | None = None
    body: str | None = None
    signature: str | None = None
    hint: str | None = None
    verified: Annotated[bool, msgspec.Meta(extra_json_schema={"const": False})] | None = None


class About(Evidence, total=False):
    """What else is known of a refused request."""

    path: str | None
    client: str | None


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
        """`path` is the file (None: only count); `room` returns whether the disk has space for it; `mask` masks secrets."""
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
        self._unkept: Counter[str] = Counter()

    def note(self, word: str, status: int, detail: str, *, at: float | None = None, **about: Unpack[About]) -> None:
        """Count one refusal under `word`. `about`: what else is known of the request; texts are cut to 200 characters.

        `at` is when it was, in seconds since 1970, if that isn't now.
        """
        refusal = Refusal(
            at=at_text(self._clock() if at is None else at),
            error=word,
            status=status,
            detail=self._clean(detail),
            path=self._clean(about.get("path")),
            client=self._clean(about.get("client")),
            delivery=self._clean(about.get("delivery")),
            hook=self._clean(about.get("hook")),
            event=self._clean(about.get("event")),
            content_type=self._clean(about.get("content_type")),
            github=about.get("github"),
            proxied=about.get("proxied"),
            body=self._clean(about.get("body")),
            signature=self._clean(about.get("signature")),
        )
        with self._lock:
            self._counts[word] += 1
            self._statuses[status] += 1
            self._minutes[refusal.at[:16]] += 1
            if len(self._minutes) > MINUTES_MAX:
                del self._minutes[min(self._minutes)]
            self._log_at_intervals(word, status)
            if self._path is None:
                return
            if not self._room() or not self._write(self._path, msgspec.json.encode(refusal) + b"\n"):
                self._unkept[word] += 1

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def unkept(self) -> dict[str, int]:
        """Those of them that the log could not be written for."""
        with self._lock:
            return dict(self._unkept)

    def statuses(self) -> dict[int, int]:
        """The same refusals, by the status they were answered with."""
        with self._lock:
            return dict(self._statuses)

    def minutes(self) -> dict[str, int]:
        """The same refusals, of the last day, by the minute they came in: 2026-11-23T08:49."""
        with self._lock:
            return dict(self._minutes)

    def _log_at_intervals(self, word: str, status: int) -> None:
        """Write a line to the daemon's log, at most every LOG_INTERVAL_S for each word, so that many refusals don't fill it."""
        now = time.monotonic()
        if now - self._logged_at.get(word, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged_at[word] = now
            log.warning(
                "refused with %d %s, %d since the start; `covenq refused` says more", status, word, self._counts[word]
            )

    def _clean(self, text: str | None) -> str | None:
        """The text with secrets masked, encodable as UTF-8, and cut to TEXT_MAX characters; None if there is none."""
        return self._mask(text)[:TEXT_MAX].encode("utf-8", "replace").decode() if text else None

    def _write(self, path: Path, line: bytes) -> bool:
        try:
            if exists(path) and path.stat().st_size + len(line) > self._limit:
                path.replace(path.with_name(path.name + ".1"))
            with open(path, "ab", opener=_private) as file:
                file.write(line)
        except OSError as error:
            if not self._failed:  # once: a full disk is logged elsewhere, and this log is a convenience
                self._failed = True
                log.warning("%s can't be written: %s", path, error.strerror)
            return False
        return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def read(data: Path) -> Iterator[Refusal]:
    """Each refusal, oldest first.

    Lines that are no refusals are skipped: one may be only partly written at the moment, and a program with access may have
    written anything. Empty if there is no log, or it can't be read.
    """
    decoder = msgspec.json.Decoder(Refusal)
    for name in (f"{REFUSALS_NAME}.1", REFUSALS_NAME):
        try:
            with (data / name).open("rb") as file:
                while line := file.readline(LINE_MAX):
                    try:
                        yield decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        continue
        except OSError:
            continue
