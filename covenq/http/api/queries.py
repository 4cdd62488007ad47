"""The read-only queries of the API: why, tail, stats, audit, usage, throughput, the ledger and notices.

GET /api/v1/why, /api/v1/tail, /api/v1/stats, /api/v1/audit, /api/v1/usage, /api/v1/pace, /api/v1/ledger and /api/v1/notices: the
history of a delivery, the journal's newest records, who did what, counts, and what operators were told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import falcon

from covenq.config.github_api import KEPT_S
from covenq.http.answers import respond_ok
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.events import STREAMS, FollowedJournal
from covenq.http.api.node_logs import NodeLogs
from covenq.http.api.params import filter_of, integer_of, limit_of
from covenq.http.guard import scope_of_request
from covenq.intake import refusal_log
from covenq.intake.refusal_log import Refusals
from covenq.model.notices import Notices
from covenq.operate.inspect import audit, ledger, stats, tail, throughput, usage, why
from covenq.state.folded import FoldedState
from journal.interface import Journal

WAIT_MS_MAX = 30_000
SLICE_S = 0.5
"""How often a request that waits checks whether the daemon is stopping."""
NEWEST_MAX = 1000
DAY_MS = 86_400_000


@dataclass(eq=False)
class Why:
    """`id=`: GUID, hook/GUID, a task's id, owner/name#number, or an issue's or pull request's address."""

    state: FoldedState
    journal: Journal
    config: EffectiveConfig
    data: Path
    logs: NodeLogs
    clock: Callable[[], float]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = req.get_param("id") or ""
        config, conn = self.config.config, self.state.reader(scope_of_request(req))
        answer = why.why(
            conn,
            self.journal,
            config,
            asked,
            now=self.clock(),
            waiting=why.waiting(self.config.caps),
            refused=lambda: refusal_log.read(self.data),
            read_log=lambda task, attempt, stream, last: self.logs.quoted(conn, task, attempt, stream, last),
        )
        respond_ok(resp, answer)


class Tail:
    """`filter=`, and `after=` a seq, `since_ms=` ago or the `newest=` so many; `wait_ms=` holds the answer until there is one."""

    def __init__(
        self,
        state: FoldedState,
        journal: FollowedJournal,
        clock: Callable[[], float],
        stopping: threading.Event,
        most: int = STREAMS,
    ) -> None:
        """`stopping` is set when requests that wait have to end; `most` may wait at a time."""
        self._state = state
        self._journal = journal
        self._clock = clock
        self._stopping = stopping
        self._free = threading.BoundedSemaphore(most)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        filter = filter_of(req)
        after, ago = integer_of(req, "after"), integer_of(req, "since_ms")
        newest = integer_of(req, "newest")
        wait_s = min(integer_of(req, "wait_ms") or 0, WAIT_MS_MAX) / 1000
        if after is not None and wait_s and self._free.acquire(blocking=False):
            # As many may wait as may stream, since each holds a thread: the others are answered now.
            try:
                self._wait(after, wait_s)
            finally:
                self._free.release()
        answer = tail.answer(
            self._state.reader(scope_of_request(req)),
            self._journal,
            filter,
            self._clock(),
            after=after,
            since_s=None if ago is None else ago / 1000,
            newest=None if newest is None else min(newest, NEWEST_MAX),
        )
        respond_ok(resp, answer)

    def _wait(self, after: int, wait_s: float) -> None:
        """Wait for more. Not for a seq beyond the head: that belongs to another history, and is answered at once."""
        journal, deadline = self._journal, time.monotonic() + wait_s
        while journal.head().seq == after and not self._stopping.is_set() and not journal.poisoned:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            journal.wait(after, min(left, SLICE_S))


@dataclass(eq=False)
class Stats:
    """`filter=`, `since_ms=` ago (a day)."""

    state: FoldedState
    clock: Callable[[], float]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        filter = filter_of(req)
        ago = integer_of(req, "since_ms")
        now = self.clock()
        since = max(0.0, now - (DAY_MS if ago is None else ago) / 1000)
        respond_ok(resp, stats.stats(self.state.reader(scope_of_request(req)), filter, since=since, now=now))


@dataclass(eq=False)
class Audit:
    """`filter=`, `who=`, `what=`: what was done, from the cursor `after=` on, or the `newest=` so many; `limit=`."""

    state: FoldedState
    journal: Journal
    data: Path
    clock: Callable[[], float]
    flush: Callable[[], None]
    """Writes to the log of reads what is counted and not there yet."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.flush()
        asked = audit.wanted(filter_of(req), req.get_param("who"), req.get_param("what"))
        found = audit.answer(
            self.state.reader(),
            self.journal,
            self.data,
            asked,
            after=req.get_param("after"),
            newest=integer_of(req, "newest"),
            limit=limit_of(req.get_param("limit")),
            now=self.clock(),
        )
        respond_ok(resp, found)


@dataclass(eq=False)
class Usage:
    """`month=` (this one), `by=`, `filter=`: what it had of each installation, repository and familiar; `limit=`, `after=`."""

    state: FoldedState
    clock: Callable[[], float]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = usage.question(
            filter_of(req),
            month=req.get_param("month"),
            by=req.get_param("by"),
            limit=limit_of(req.get_param("limit")),
            after=req.get_param("after"),
            now=self.clock(),
        )
        respond_ok(resp, usage.usage(self.state.reader(scope_of_request(req)), asked))


@dataclass(eq=False)
class Ledger:
    """`since_ms=` ago (three days): what GitHub listed, and what became of it, by the hour."""

    state: FoldedState
    config: EffectiveConfig
    clock: Callable[[], float]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        ago = integer_of(req, "since_ms")
        since = self.clock() - (KEPT_S if ago is None else ago / 1000)
        respond_ok(resp, ledger.ledger(self.state.reader(), self.config.config.github_logs, since))


@dataclass(eq=False)
class NoticeList:
    """What [notify] has told, and owes."""

    notices: Callable[[], Notices]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, self.notices())


@dataclass(eq=False)
class Throughput:
    """`minutes=` (60): how many deliveries came, were refused and ended in each minute."""

    state: FoldedState
    refusals: Refusals
    data: Path
    clock: Callable[[], float]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        minutes = integer_of(req, "minutes")
        found = throughput.per_minute(
            self.state.reader(),
            minutes=throughput.MINUTES if minutes is None else minutes,
            now=self.clock(),
            log=refusal_log.read(self.data),
            refused=self.refusals.minutes(),
        )
        respond_ok(resp, found)
