"""GET /api/v1/why, /api/v1/tail, /api/v1/stats and /api/v1/pace: the story of what an id means, what the journal
records as it goes on, and counts."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import falcon

from covenq.errors import UsageError
from covenq.filter.grammar import parse
from covenq.http.answers import say
from covenq.http.services import STREAMS, Services
from covenq.intake import refusal_log
from covenq.operate.inspect import stats, tail, throughput, why


class Why:
    """`id=`: GUID, hook/GUID, a task's id, owner/name#number, or an issue's or pull request's address."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = req.get_param("id") or ""
        services = self._services
        config = services.config
        answer = why.why(
            services.reader(),
            services.journal,
            config.routes,
            config.sha256,
            asked,
            now=services.clock(),
            waiting=why.waiting(replace(config, caps=services.caps)),
            refused=lambda: refusal_log.read(services.data),
        )
        say(resp, 200, {"ok": True, **answer})


WAIT_MS_MAX = 30_000
SLICE_S = 0.5
"""How often a request that waits looks whether the daemon is stopping."""
NEWEST_MAX = 1000
DAY_MS = 86_400_000


class Tail:
    """`filter=`, and `after=` a seq, `since_ms=` ago or the `newest=` so many; `wait_ms=` holds the answer until there is one."""

    def __init__(self, services: Services, most: int = STREAMS) -> None:
        self._services = services
        self._free = threading.BoundedSemaphore(most)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        filter = parse(req.get_param("filter") or "")
        after, ago = _whole(req, "after"), _whole(req, "since_ms")
        newest = _whole(req, "newest")
        wait_s = min(_whole(req, "wait_ms") or 0, WAIT_MS_MAX) / 1000
        services = self._services
        if after is not None and wait_s and self._free.acquire(blocking=False):
            # As many may wait as may stream: each holds a thread, and half of them stay free. The others are answered now.
            try:
                self._wait(after, wait_s)
            finally:
                self._free.release()
        answer = tail.answer(
            services.reader(),
            services.journal,
            filter,
            services.clock(),
            after=after,
            since_s=None if ago is None else ago / 1000,
            newest=None if newest is None else min(newest, NEWEST_MAX),
        )
        say(resp, 200, {"ok": True, **answer})

    def _wait(self, after: int, wait_s: float) -> None:
        """Until there is more. Not for what is beyond the head: that is a place in another history, and told at once."""
        journal, deadline = self._services.journal, time.monotonic() + wait_s
        while journal.head().seq == after and not self._services.stopping.is_set() and not journal.poisoned:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            journal.wait(after, min(left, SLICE_S))


class Stats:
    """`filter=`, `since_ms=` ago (a day)."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        filter = parse(req.get_param("filter") or "")
        ago = _whole(req, "since_ms")
        now = self._services.clock()
        since = max(0.0, now - (DAY_MS if ago is None else ago) / 1000)
        say(resp, 200, {"ok": True, **stats.stats(self._services.reader(), filter, since=since, now=now)})


class Throughput:
    """`minutes=` (60): how many came, were refused and ended in each of them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        services = self._services
        minutes = _whole(req, "minutes")
        found = throughput.per_minute(
            services.reader(),
            minutes=throughput.MINUTES if minutes is None else minutes,
            now=services.clock(),
            log=refusal_log.read(services.data),
            refused=services.refusals.minutes(),
        )
        say(resp, 200, {"ok": True, **found})


def _whole(req: falcon.Request, name: str) -> int | None:
    text = req.get_param(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise UsageError(f"{text[:40]!r} is no {name}", hint="It is a whole number.")
    return int(text)
