"""GET /metrics, for Prometheus. Every value is read at the scrape from where it is kept anyway: receiving has no extra cost.

Labels are covenq's own words (states, reasons, GitHub's event names) and the configuration's (routes), never anything that a
request could invent: no repository, no delivery, no client. A scrape costs the same however many deliveries there are.
"""

from __future__ import annotations

import logging
import platform
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import falcon
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    Metric,
)

from covenq.config.github_api import KEPT_S
from covenq.config.live import Live
from covenq.github.events import OTHER
from covenq.http.answers import respond_error
from covenq.http.counters import AcceptedCounts
from covenq.http.metric_table import METRICS, counter, gauge, gauge_if_known, histogram, histograms, info, labelled
from covenq.http.server.listener import ListenerStats
from covenq.intake.admission import Admission
from covenq.intake.refusal_log import Refusals
from covenq.model import Category, State, at_text, seconds_or
from covenq.model.drift import Drift
from covenq.model.ledger import HOUR_S, STATES
from covenq.model.notices import NotifyStatus
from covenq.model.status import FollowerStatus, Missing, ReconcilePass
from covenq.model.waiting import WaitingTasks
from covenq.operate.inspect import view
from covenq.operate.inspect.alarms import Alarms
from covenq.operate.inspect.waiting import by_cause
from covenq.operate.maintain.known_damage import KnownDamage
from covenq.operate.maintain.upkeep import Upkeep
from covenq.state import fold_ledger, fold_uninstalls, query
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.execution.pool import Pool
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from journal.database import Database
from journal.errors import JournalError
from journal.health import Measurement
from journal.histogram import Counts
from journal.interface import Engine

UNKNOWN_HOOK = "-"
"""The label of a hook whose id is not learnt yet."""
SCRAPES_MAX = 4
"""Scrapes at a time: they must not take a listener's threads, which with `[server] metrics` are the intake's."""

log = logging.getLogger("covenq.http")


_OUTCOMES = frozenset(map(str, State))
_CATEGORIES = frozenset(map(str, Category)) | {""}


class MetricSource(Protocol):
    """Metrics of one subject. Where one can't be read now, the ones after it are absent too."""

    def collect(self) -> Iterator[Metric]:
        """Raises JournalError, OSError, sqlite3.Error."""


class Metrics:
    """The resource, with a registry of its own: nothing is shared across the process. The answer has the sources' order."""

    def __init__(self, sources: Sequence[MetricSource]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Collector(sources))
        self._free = threading.BoundedSemaphore(SCRAPES_MAX)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self._free.acquire(blocking=False):
            respond_error(resp, 503, "busy", f"{SCRAPES_MAX} scrapes are being answered already.")
            return
        try:
            resp.data = generate_latest(self._registry)
        finally:
            self._free.release()
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4


class _Collector:
    def __init__(self, sources: Sequence[MetricSource]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            try:
                yield from source.collect()
            except (JournalError, OSError, sqlite3.Error) as error:
                # What can't be read now is absent, which Prometheus can alert on; the rest is there.
                log.warning("metrics are incomplete: %s", type(error).__name__)


@dataclass(frozen=True, slots=True)
class ReadinessMetrics:
    """What runs, and whether it takes deliveries."""

    version: str
    node: str
    admission: Admission
    live: Live

    def collect(self) -> Iterator[Metric]:
        yield info("covenq_build", {"version": self.version, "python": platform.python_version(), "node": self.node})
        yield gauge("covenq_ready", not self.admission.reasons())
        yield gauge("covenq_intake_open", self.admission.intake() is None)
        yield gauge("covenq_config_reload_ok", self.live.last.ok)


@dataclass(frozen=True, slots=True)
class WebhookMetrics:
    """The answers to deliveries."""

    accepted: AcceptedCounts
    refusals: Refusals

    def collect(self) -> Iterator[Metric]:
        accepted: Counter[str] = Counter()
        answers: Counter[str] = Counter({str(status): n for status, n in self.refusals.statuses().items()})
        duplicates = 0
        for key, number in self.accepted.counts().items():
            answers[str(key.status)] += number
            if key.seen_before:
                duplicates += number
            else:
                accepted[key.event] += number
        yield labelled("covenq_webhook_accepted", accepted)
        yield counter("covenq_webhook_duplicates", duplicates)
        yield labelled("covenq_webhook_refused", self.refusals.counts())
        yield labelled("covenq_webhook_answers", answers)


@dataclass(frozen=True, slots=True)
class JournalMetrics:
    """The engine's measurements under their own names, as far as METRICS documents them, and what every engine has."""

    journal: Engine
    known_damage: KnownDamage

    def collect(self) -> Iterator[Metric]:
        health = self.journal.health()
        values: dict[str, Measurement] = {
            **self.journal.measurements(),
            "head_seq": self.journal.head().seq,
            "poisoned": health.poisoned is not None,
            "damage": self.known_damage.findings,
            "full": health.full is not None,
            "beat_age_seconds": max(0.0, time.monotonic() - self.journal.beat),
        }
        for name in METRICS:
            value = values.get(name.removeprefix("covenq_journal_"))
            if isinstance(value, Counts):
                yield histogram(name, value)
            elif isinstance(value, int | float):
                yield gauge(name, value)


@dataclass(frozen=True, slots=True)
class DatabaseMetrics:
    """What the database said of itself last; absent of a journal in files, and what covenq's role may not see."""

    database: Callable[[], Database | None]

    def collect(self) -> Iterator[Metric]:
        found = self.database() or Database()
        standbys = found.standbys or ()
        yield labelled("covenq_database_standbys", Counter(one.sync_state for one in standbys))
        behind: dict[str, float] = {}
        for one in standbys:
            if one.behind is not None:
                behind[one.name] = max(behind.get(one.name, 0), one.behind)
        yield labelled("covenq_database_standby_behind_bytes", behind)
        seen = found.standbys is not None and found.away_s is None
        yield gauge_if_known("covenq_database_standbys_missing", len(found.missing) if seen else None)
        yield gauge_if_known("covenq_database_commits_wait", (found.waits is not None) if seen else None)
        yield gauge_if_known("covenq_database_clock_ahead_seconds", found.ahead_s)
        answers = 0.0 if found.seen_s is not None else None
        yield gauge_if_known("covenq_database_away_seconds", answers if found.away_s is None else found.away_s)


@dataclass(frozen=True, slots=True)
class NodeMetrics:
    """Which node leads. `nodes` gives the states of all that share the journal, as they were seen last."""

    leads: Callable[[], bool]
    nodes: Callable[[], Sequence[str]]

    def collect(self) -> Iterator[Metric]:
        yield gauge("covenq_leads", self.leads())
        yield labelled("covenq_nodes", Counter(self.nodes()))


@dataclass(frozen=True, slots=True)
class StateMetrics:
    """The rows of state.db, as far as they are folded: a scrape waits for nothing."""

    readers: Readers
    fold: FoldProgress
    follower: Callable[[], FollowerStatus]
    missing: Callable[[sqlite3.Connection, float], Missing | None]
    """What of GitHub's delivery logs could not be fetched yet, at that time."""
    waiting: Callable[[sqlite3.Connection], Sequence[WaitingTasks]]
    """What queued tasks wait for."""
    clock: Callable[[], float] = time.time

    def collect(self) -> Iterator[Metric]:
        yield gauge("covenq_fold_lag_records", self.fold.lag)
        yield gauge("covenq_fold_failing", self.fold.error is not None)
        yield counter("covenq_follower_restarts", self.follower().restarts)
        try:
            yield from self._of_rows()
        except sqlite3.Error as error:
            self.readers.met(error)
            raise

    def _of_rows(self) -> Iterator[Metric]:
        conn = self.readers.reader()
        counts, oldest, now = query.counts(conn), query.oldest(conn), self.clock()
        for what in ("deliveries", "tasks"):
            yield labelled(f"covenq_{what}", counts[what])
            ages = {state: max(0.0, now - seconds_or(at, now)) for state, at in getattr(oldest, what).items()}
            yield labelled(f"covenq_{what}_oldest_age_seconds", ages)
        yield labelled("covenq_uninstalls", fold_uninstalls.counts(conn))
        yield labelled("covenq_paused", Counter(pause.what for pause in view.pauses(conn)))
        ended: Counter[tuple[str, ...]] = Counter()
        for (outcome, category), number in query.attempts_ended(conn).items():
            known = (
                outcome if outcome in _OUTCOMES else OTHER,
                category if category in _CATEGORIES else OTHER,
            )
            ended[known] += number
        yield labelled("covenq_attempts_ended", ended)
        listed: Counter[tuple[str, ...]] = Counter()
        for row in fold_ledger.rows_since(conn, at_text(max(0.0, now - KEPT_S - HOUR_S))):
            for state in STATES:
                listed[row["hook"] or UNKNOWN_HOOK, state] += row[state]
        yield labelled("covenq_ledger_deliveries", listed)
        missing = self.missing(conn, now)
        name, done_at = "covenq_reconcile_done_seconds", None if missing is None else missing.done_at
        yield gauge_if_known(name, None if done_at is None else max(0.0, seconds_or(done_at, now) - now))
        yield gauge("covenq_reconcile_too_late", 0 if missing is None else missing.too_late)
        yield labelled("covenq_tasks_waiting", by_cause(self.waiting(conn)))


@dataclass(frozen=True, slots=True)
class WorkMetrics:
    """What the daemon does by itself."""

    pool: Pool
    upkeep: Upkeep
    alarms: Alarms

    def collect(self) -> Iterator[Metric]:
        yield gauge("covenq_worker_slots", self.pool.concurrency)
        yield gauge("covenq_worker_running", len(self.pool.running()))
        yield gauge("covenq_upkeep_failing", self.upkeep.error is not None)
        yield labelled("covenq_loop_overdue", self.alarms.by_loop())
        yield labelled("covenq_tasks_stuck", self.alarms.by_word())


@dataclass(frozen=True, slots=True)
class RouteMetrics:
    """How long tasks waited and attempts ran, of those that began here: by route as configured, all others as one."""

    times: AttemptTimes

    def collect(self) -> Iterator[Metric]:
        waited, ran = self.times.waited(), self.times.ran()
        yield histograms("covenq_task_wait_seconds", {(route,): read for route, read in waited.items()})
        yield histograms("covenq_attempt_seconds", {(route, ending): read for (route, ending), read in ran.items()})


@dataclass(frozen=True, slots=True)
class DiskMetrics:
    """The room that the journal has, and what is kept back of it; absent while the disk can't be asked."""

    admission: Admission

    def collect(self) -> Iterator[Metric]:
        found = self.admission.room()
        if found is not None:
            room, kept = found
            yield gauge("covenq_disk_free_bytes", room.free)
            yield gauge("covenq_disk_reserve_bytes", kept)
            yield gauge("covenq_ballast_bytes", room.set_aside)


@dataclass(frozen=True, slots=True)
class ReconcileMetrics:
    """The daemon's passes over GitHub's delivery logs; there is no age before the first one has ended."""

    passes: Callable[[], Mapping[str, ReconcilePass]]
    fetched: Callable[[], int]
    drift: Callable[[], Drift | None]
    clock: Callable[[], float] = time.time

    def collect(self) -> Iterator[Metric]:
        passes, now = list(self.passes().values()), self.clock()
        ages = [max(0.0, now - seconds_or(one.ended_at, now)) for one in passes]
        name = "covenq_reconcile_pass_age_seconds"
        yield gauge_if_known(name, max(ages) if ages else None)
        yield gauge("covenq_reconcile_missing", sum(one.states.get("open", 0) for one in passes))
        yield counter("covenq_reconcile_fetched", self.fetched())
        yield gauge("covenq_reconcile_failing", sum(one.error is not None for one in passes))
        drift = self.drift()
        name = "covenq_drift_findings"
        yield gauge_if_known(name, None if drift is None else len(drift.warnings))


@dataclass(frozen=True, slots=True)
class NotifyMetrics:
    """Those whom [notify] names, and how the telling goes; nothing where it names nobody."""

    notify: Callable[[], NotifyStatus | None]

    def collect(self) -> Iterator[Metric]:
        found = self.notify()
        targets = () if found is None else found.targets
        yield labelled("covenq_notices_sent", {one.to: one.sent for one in targets})
        yield labelled("covenq_notices_failed", {one.to: one.failed for one in targets})
        yield labelled("covenq_notices_owed", {one.to: one.owed for one in targets})
        yield labelled("covenq_notices_failing", {one.to: one.error is not None for one in targets})


@dataclass(frozen=True, slots=True)
class LogMetrics:
    """The log: `dropped` returns how many of its lines were not written."""

    dropped: Callable[[], int]

    def collect(self) -> Iterator[Metric]:
        yield counter("covenq_log_dropped_lines", self.dropped())


@dataclass(frozen=True, slots=True)
class ListenerMetrics:
    """The listeners, each by its name."""

    listeners: Mapping[str, Callable[[], ListenerStats]]

    def collect(self) -> Iterator[Metric]:
        stats = {name: read() for name, read in self.listeners.items()}
        yield labelled("covenq_http_connections", {name: one.connections for name, one in stats.items()})
        yield labelled("covenq_http_threads", {name: one.threads for name, one in stats.items()})
        yield labelled("covenq_http_threads_busy", {name: one.busy for name, one in stats.items()})
        yield labelled("covenq_http_requests_waiting", {name: one.waiting for name, one in stats.items()})
        yield labelled("covenq_http_body_bytes", {name: one.body_bytes for name, one in stats.items()})
