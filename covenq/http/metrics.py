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
from typing import Literal, Protocol, TypeVar

import falcon
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from covenq.config.github_api import KEPT_S
from covenq.config.live import Live
from covenq.github.events import OTHER
from covenq.http.answers import respond_error
from covenq.http.counters import AcceptedCounts
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
from covenq.state import fold_ledger, query
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.execution.pool import Pool
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from journal.errors import JournalError
from journal.health import Measurement
from journal.histogram import Counts
from journal.interface import Engine

UNKNOWN_HOOK = "-"
"""The label of a hook whose id is not learnt yet."""
SCRAPES_MAX = 4
"""Scrapes at a time: they must not take a listener's threads, which with `[server] metrics` are the intake's."""

Kind = Literal["counter", "gauge", "histogram", "info"]

log = logging.getLogger("covenq.http")


@dataclass(frozen=True, slots=True)
class Spec:
    """A metric's documentation. A counter's name is without `_total`, an info's without `_info`."""

    kind: Kind
    about: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Spec] = {
    "covenq_build": Spec("info", "Versions of covenq and Python.", ("version", "python")),
    "covenq_ready": Spec("gauge", "1 while /readyz answers 200."),
    "covenq_intake_open": Spec("gauge", "1 while deliveries are accepted."),
    "covenq_paused": Spec("gauge", "What operators have paused, by what it is.", ("what",)),
    "covenq_config_reload_ok": Spec("gauge", "0 after a reload of the configuration was refused."),
    "covenq_webhook_accepted": Spec("counter", "New deliveries answered 2xx, each durable before.", ("event",)),
    "covenq_webhook_duplicates": Spec("counter", "Deliveries answered 200 as seen before."),
    "covenq_webhook_refused": Spec("counter", "Requests refused, by the word of the answer.", ("reason",)),
    "covenq_webhook_answers": Spec("counter", "Answers to deliveries, and refusals of any POST.", ("status",)),
    "covenq_journal_sync_seconds": Spec("histogram", "How long the journal's syncs took."),
    "covenq_journal_batch_records": Spec("histogram", "Records that shared one sync."),
    "covenq_journal_head_seq": Spec("gauge", "The newest durable record."),
    "covenq_journal_segments": Spec("gauge", "Files of the journal."),
    "covenq_journal_bytes": Spec("gauge", "Bytes of the journal."),
    "covenq_journal_poisoned": Spec("gauge", "1 if a sync failed: this process will end."),
    "covenq_journal_damage": Spec("gauge", "Known findings of damage: of the last whole verification, and of reading since."),
    "covenq_journal_full": Spec("gauge", "1 if the last append found no space."),
    "covenq_journal_beat_age_seconds": Spec("gauge", "Since the thread that syncs last came round; it does so every second."),
    "covenq_journal_index_backlog": Spec("gauge", "Records that the journal's index has still to write."),
    "covenq_fold_lag_records": Spec("gauge", "Durable records that state.db has not folded yet."),
    "covenq_fold_failing": Spec("gauge", "1 while state.db can't be written."),
    "covenq_follower_restarts": Spec("counter", "How often the process that folds had to be started again."),
    "covenq_deliveries": Spec("gauge", "Deliveries by state.", ("state",)),
    "covenq_tasks": Spec("gauge", "Tasks by state.", ("state",)),
    "covenq_deliveries_oldest_age_seconds": Spec("gauge", "Age of the oldest delivery that waits to be routed.", ("state",)),
    "covenq_tasks_oldest_age_seconds": Spec("gauge", "Age, since it was made, of the oldest that waits or runs.", ("state",)),
    "covenq_attempts_ended": Spec("counter", "Attempts that ended, by outcome and failure category.", ("outcome", "category")),
    "covenq_task_wait_seconds": Spec("histogram", "From a task's queuing to the start of its first attempt.", ("route",)),
    "covenq_attempt_seconds": Spec("histogram", "From an attempt's start to its end.", ("route", "outcome")),
    "covenq_ledger_deliveries": Spec("gauge", "What GitHub lists of three days, by how it stands.", ("hook", "state")),
    "covenq_tasks_waiting": Spec("gauge", "Queued tasks by what they wait for, each counted once.", ("cause",)),
    "covenq_worker_slots": Spec("gauge", "Tasks that may run here at a time."),
    "covenq_worker_running": Spec("gauge", "Tasks that run here."),
    "covenq_tasks_stuck": Spec("gauge", "Running tasks that nobody ends, by why: timeout, unheld, lease.", ("why",)),
    "covenq_loop_overdue": Spec("gauge", "1 while a loop of the daemon doesn't come round.", ("loop",)),
    "covenq_disk_free_bytes": Spec("gauge", "What may still be written to the data directory's disk."),
    "covenq_disk_reserve_bytes": Spec("gauge", "With less than this free, the intake closes."),
    "covenq_ballast_bytes": Spec("gauge", "The ballast file, which is given up when the disk is full; 0 if it is."),
    "covenq_upkeep_failing": Spec("gauge", "1 if retention, or an erasure, failed and waits."),
    "covenq_reconcile_pass_age_seconds": Spec("gauge", "Since a pass over GitHub's delivery logs ended: of several, the oldest."),
    "covenq_reconcile_missing": Spec("gauge", "Deliveries that the newest passes found missing, and could not fetch yet."),
    "covenq_reconcile_fetched": Spec("counter", "Deliveries that the daemon's passes fetched."),
    "covenq_reconcile_failing": Spec("gauge", "Delivery logs whose newest pass did not reach its end."),
    "covenq_reconcile_done_seconds": Spec("gauge", "Until what is missing can be fetched, at GitHub's limit; absent if unknown."),
    "covenq_reconcile_too_late": Spec("gauge", "Missing deliveries that GitHub forgets before its limit lets them be fetched."),
    "covenq_drift_findings": Spec("gauge", "What drifted between GitHub's settings and the configuration, once that is known."),
    "covenq_notices_sent": Spec("counter", "Notices that were taken, by who was told: run, url.", ("to",)),
    "covenq_notices_failed": Spec("counter", "Tries to tell a notice that got nothing through.", ("to",)),
    "covenq_notices_owed": Spec("gauge", "Notices that have still to be told.", ("to",)),
    "covenq_notices_failing": Spec("gauge", "1 while no try gets through.", ("to",)),
    "covenq_log_dropped_lines": Spec("counter", "Lines of the log that could not be written, or not as fast as they came."),
    "covenq_http_connections": Spec("gauge", "Open connections.", ("listener",)),
    "covenq_http_threads": Spec("gauge", "Threads that answer.", ("listener",)),
    "covenq_http_threads_busy": Spec("gauge", "Threads that answer something now.", ("listener",)),
    "covenq_http_requests_waiting": Spec("gauge", "Requests that wait for a thread.", ("listener",)),
    "covenq_http_body_bytes": Spec("gauge", "Bytes of bodies that are being received.", ("listener",)),
}  # fmt: skip
"""Every metric of covenq's own, in the order of the answer; covenq-http(7) lists the same. `process_*` are the library's."""

_OUTCOMES = frozenset(map(str, State))
_CATEGORIES = frozenset(map(str, Category)) | {""}

_Labels = TypeVar("_Labels", str, tuple[str, ...])


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
    admission: Admission
    live: Live

    def collect(self) -> Iterator[Metric]:
        yield _info("covenq_build", {"version": self.version, "python": platform.python_version()})
        yield _gauge("covenq_ready", not self.admission.reasons())
        yield _gauge("covenq_intake_open", self.admission.intake() is None)
        yield _gauge("covenq_config_reload_ok", self.live.last.ok)


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
        yield _labelled("covenq_webhook_accepted", accepted)
        yield _counter("covenq_webhook_duplicates", duplicates)
        yield _labelled("covenq_webhook_refused", self.refusals.counts())
        yield _labelled("covenq_webhook_answers", answers)


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
                yield _histogram(name, value)
            elif isinstance(value, int | float):
                yield _gauge(name, value)


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
        yield _gauge("covenq_fold_lag_records", self.fold.lag)
        yield _gauge("covenq_fold_failing", self.fold.error is not None)
        yield _counter("covenq_follower_restarts", self.follower().restarts)
        try:
            yield from self._of_rows()
        except sqlite3.Error as error:
            self.readers.met(error)
            raise

    def _of_rows(self) -> Iterator[Metric]:
        conn = self.readers.reader()
        counts, oldest, now = query.counts(conn), query.oldest(conn), self.clock()
        for what in ("deliveries", "tasks"):
            yield _labelled(f"covenq_{what}", counts[what])
            ages = {state: max(0.0, now - seconds_or(at, now)) for state, at in getattr(oldest, what).items()}
            yield _labelled(f"covenq_{what}_oldest_age_seconds", ages)
        yield _labelled("covenq_paused", Counter(pause.what for pause in view.pauses(conn)))
        ended: Counter[tuple[str, ...]] = Counter()
        for (outcome, category), number in query.attempts_ended(conn).items():
            known = (
                outcome if outcome in _OUTCOMES else OTHER,
                category if category in _CATEGORIES else OTHER,
            )
            ended[known] += number
        yield _labelled("covenq_attempts_ended", ended)
        listed: Counter[tuple[str, ...]] = Counter()
        for row in fold_ledger.rows_since(conn, at_text(max(0.0, now - KEPT_S - HOUR_S))):
            for state in STATES:
                listed[row["hook"] or UNKNOWN_HOOK, state] += row[state]
        yield _labelled("covenq_ledger_deliveries", listed)
        missing = self.missing(conn, now)
        name, done_at = "covenq_reconcile_done_seconds", None if missing is None else missing.done_at
        done = GaugeMetricFamily(name, METRICS[name].about)
        yield done if done_at is None else _gauge(name, max(0.0, seconds_or(done_at, now) - now))
        yield _gauge("covenq_reconcile_too_late", 0 if missing is None else missing.too_late)
        yield _labelled("covenq_tasks_waiting", by_cause(self.waiting(conn)))


@dataclass(frozen=True, slots=True)
class WorkMetrics:
    """What the daemon does by itself."""

    pool: Pool
    upkeep: Upkeep
    alarms: Alarms

    def collect(self) -> Iterator[Metric]:
        yield _gauge("covenq_worker_slots", self.pool.concurrency)
        yield _gauge("covenq_worker_running", len(self.pool.running()))
        yield _gauge("covenq_upkeep_failing", self.upkeep.error is not None)
        yield _labelled("covenq_loop_overdue", self.alarms.by_loop())
        yield _labelled("covenq_tasks_stuck", self.alarms.by_word())


@dataclass(frozen=True, slots=True)
class RouteMetrics:
    """How long tasks waited and attempts ran, of those that began here: by route as configured, all others as one."""

    times: AttemptTimes

    def collect(self) -> Iterator[Metric]:
        waited, ran = self.times.waited(), self.times.ran()
        yield _histograms("covenq_task_wait_seconds", {(route,): read for route, read in waited.items()})
        yield _histograms("covenq_attempt_seconds", {(route, ending): read for (route, ending), read in ran.items()})


@dataclass(frozen=True, slots=True)
class DiskMetrics:
    """The room that the journal has, and what is kept back of it; absent while the disk can't be asked."""

    admission: Admission

    def collect(self) -> Iterator[Metric]:
        found = self.admission.room()
        if found is not None:
            room, kept = found
            yield _gauge("covenq_disk_free_bytes", room.free)
            yield _gauge("covenq_disk_reserve_bytes", kept)
            yield _gauge("covenq_ballast_bytes", room.set_aside)


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
        yield _gauge(name, max(ages)) if ages else GaugeMetricFamily(name, METRICS[name].about)
        yield _gauge("covenq_reconcile_missing", sum(one.states.get("open", 0) for one in passes))
        yield _counter("covenq_reconcile_fetched", self.fetched())
        yield _gauge("covenq_reconcile_failing", sum(one.error is not None for one in passes))
        drift = self.drift()
        name = "covenq_drift_findings"
        yield GaugeMetricFamily(name, METRICS[name].about) if drift is None else _gauge(name, len(drift.warnings))


@dataclass(frozen=True, slots=True)
class NotifyMetrics:
    """Those whom [notify] names, and how the telling goes; nothing where it names nobody."""

    notify: Callable[[], NotifyStatus | None]

    def collect(self) -> Iterator[Metric]:
        found = self.notify()
        targets = () if found is None else found.targets
        yield _labelled("covenq_notices_sent", {one.to: one.sent for one in targets})
        yield _labelled("covenq_notices_failed", {one.to: one.failed for one in targets})
        yield _labelled("covenq_notices_owed", {one.to: one.owed for one in targets})
        yield _labelled("covenq_notices_failing", {one.to: one.error is not None for one in targets})


@dataclass(frozen=True, slots=True)
class LogMetrics:
    """The log: `dropped` returns how many of its lines were not written."""

    dropped: Callable[[], int]

    def collect(self) -> Iterator[Metric]:
        yield _counter("covenq_log_dropped_lines", self.dropped())


@dataclass(frozen=True, slots=True)
class ListenerMetrics:
    """The listeners, each by its name."""

    listeners: Mapping[str, Callable[[], ListenerStats]]

    def collect(self) -> Iterator[Metric]:
        stats = {name: read() for name, read in self.listeners.items()}
        yield _labelled("covenq_http_connections", {name: one.connections for name, one in stats.items()})
        yield _labelled("covenq_http_threads", {name: one.threads for name, one in stats.items()})
        yield _labelled("covenq_http_threads_busy", {name: one.busy for name, one in stats.items()})
        yield _labelled("covenq_http_requests_waiting", {name: one.waiting for name, one in stats.items()})
        yield _labelled("covenq_http_body_bytes", {name: one.body_bytes for name, one in stats.items()})


# ---- metric families, made from METRICS


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, METRICS[name].about, value=float(value))


def _counter(name: str, value: float) -> Metric:
    return CounterMetricFamily(name, METRICS[name].about, value=float(value))


def _labelled(name: str, values: Mapping[_Labels, float]) -> Metric:
    """By label: keys are the label's value, or a tuple of values."""
    known = METRICS[name]
    make = CounterMetricFamily if known.kind == "counter" else GaugeMetricFamily
    family = make(name, known.about, labels=known.labels)
    for key, value in sorted(values.items()):
        family.add_metric(list(key) if isinstance(key, tuple) else [key], float(value))
    return family


def _info(name: str, value: dict[str, str]) -> Metric:
    return InfoMetricFamily(name, METRICS[name].about, value=value)


def _histogram(name: str, read: Counts) -> Metric:
    return HistogramMetricFamily(name, METRICS[name].about, buckets=_buckets(read), sum_value=read.total)


def _histograms(name: str, found: Mapping[tuple[str, ...], Counts]) -> Metric:
    """By the labels' values."""
    family = HistogramMetricFamily(name, METRICS[name].about, labels=METRICS[name].labels)
    for labels, read in sorted(found.items()):
        family.add_metric(list(labels), _buckets(read), sum_value=read.total)
    return family


def _buckets(read: Counts) -> list[tuple[str, float]]:
    buckets, below = [], 0
    for bound, number in zip((*map(str, read.bounds), "+Inf"), read.counts, strict=True):
        below += number
        buckets.append((bound, float(below)))
    return buckets
