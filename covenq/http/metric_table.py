"""The metrics that covenq has, each with its documentation, and the families of samples that are made by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from journal.histogram import Counts

Kind = Literal["counter", "gauge", "histogram", "info"]
_Labels = TypeVar("_Labels", str, tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Spec:
    """A metric's documentation. A counter's name is without `_total`, an info's without `_info`."""

    kind: Kind
    about: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Spec] = {
    "covenq_build": Spec("info", "Versions of covenq and Python; the name of the node.", ("version", "python", "node")),
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
    "covenq_journal_index_backlog": Spec("gauge", "Records that the journal's index has still to write; files alone have one."),
    "covenq_database_standbys": Spec("gauge", "Standbys that are connected; sync and quorum are waited for.", ("sync_state",)),
    "covenq_database_standby_behind_bytes": Spec("gauge", "What a standby doesn't have on its disk yet.", ("standby",)),
    "covenq_database_standbys_missing": Spec("gauge", "Standbys that synchronous_standby_names names, not connected."),
    "covenq_database_commits_wait": Spec("gauge", "1 while each commit waits for a synchronous standby that is not there."),
    "covenq_database_clock_ahead_seconds": Spec("gauge", "How far the database's clock is ahead of this machine's."),
    "covenq_database_away_seconds": Spec("gauge", "Since the database last answered; 0 while it does."),
    "covenq_leads": Spec("gauge", "1 on the node that takes deliveries in and works on them, 0 on one that stands by."),
    "covenq_nodes": Spec("gauge", "Nodes that share the journal, as this one sees them; absent where none can.", ("state",)),
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
    "covenq_uninstalls": Spec("gauge", "Uninstalled installations by what becomes of their content.", ("state",)),
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


def gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, METRICS[name].about, value=float(value))


def gauge_if_known(name: str, value: float | None) -> Metric:
    """A gauge without a value where there is none."""
    return GaugeMetricFamily(name, METRICS[name].about) if value is None else gauge(name, value)


def counter(name: str, value: float) -> Metric:
    return CounterMetricFamily(name, METRICS[name].about, value=float(value))


def labelled(name: str, values: Mapping[_Labels, float]) -> Metric:
    """By label: keys are the label's value, or a tuple of values."""
    known = METRICS[name]
    make = CounterMetricFamily if known.kind == "counter" else GaugeMetricFamily
    family = make(name, known.about, labels=known.labels)
    for key, value in sorted(values.items()):
        family.add_metric(list(key) if isinstance(key, tuple) else [key], float(value))
    return family


def info(name: str, value: dict[str, str]) -> Metric:
    return InfoMetricFamily(name, METRICS[name].about, value=value)


def histogram(name: str, read: Counts) -> Metric:
    return HistogramMetricFamily(name, METRICS[name].about, buckets=_buckets(read), sum_value=read.total)


def histograms(name: str, found: Mapping[tuple[str, ...], Counts]) -> Metric:
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
