"""The groups of HTTP routes, made of the parts of the daemon that each uses. Which listener has which is `listeners`'."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass

from covenq import log_writer
from covenq.daemon import logs
from covenq.daemon.datadir import Storage
from covenq.daemon.parts import Background, Intake, StatsByName, Workers
from covenq.http import metrics
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.node_logs import NodeLogs
from covenq.http.api.snapshot import Snapshot
from covenq.http.api.status import DaemonInfo, StatusSources, nodes_of
from covenq.http.app import ApiRoutes, HealthRoutes, MetricsRoutes, PhaseRoutes, WebhookRoutes
from covenq.http.webhook import AnswerRecorder, WebhookIntake
from covenq.intake.read_log import ReadLog
from covenq.model.status import Missing
from covenq.operate.inspect import ledger
from covenq.operate.inspect.alarms import Alarms
from covenq.operate.inspect.nodes import node_states
from covenq.operate.inspect.waiting import KeptWaiting
from covenq.paths import READS_NAME


@dataclass(frozen=True, slots=True)
class Routes:
    """All groups."""

    webhook: WebhookRoutes
    health: HealthRoutes
    metrics: MetricsRoutes
    api: ApiRoutes
    phases: PhaseRoutes


@dataclass(frozen=True, slots=True)
class _Observed:
    """What the daemon knows of its own work."""

    config: EffectiveConfig
    alarms: Alarms
    waiting: KeptWaiting


def make_routes(
    info: DaemonInfo,
    effective: EffectiveConfig,
    storage: Storage,
    intake: Intake,
    workers: Workers,
    background: Background,
    stats: StatsByName,
    stopping: threading.Event,
) -> Routes:
    """`stats` is read at each scrape: listeners may be added to it later, since they are made of these routes."""
    alarms = _make_alarms(storage, workers, background)
    live = effective.live
    observed = _Observed(effective, alarms, KeptWaiting(lambda: effective.caps))

    def missing(conn: sqlite3.Connection, now: float) -> Missing | None:
        config = live.now.config
        return ledger.missing(conn, config.github_logs, background.reconciler.budgets, config.reconcile.every_s, now)

    return Routes(
        WebhookRoutes(
            WebhookIntake(storage.journal, intake.admission, intake.bindings, live, storage.state.lookup),
            intake.twins,
            AnswerRecorder(intake.accepted, intake.refusals),
            live.now.config.webhook_path,
            intake.passing,
        ),
        HealthRoutes(
            info.version,
            intake.admission,
            alarms,
            intake.known_damage,
            storage.fold,
            live.now.config.webhook_path,
        ),
        MetricsRoutes(
            [
                metrics.ReadinessMetrics(info.version, storage.node.name, intake.admission, live),
                metrics.WebhookMetrics(intake.accepted, intake.refusals),
                metrics.JournalMetrics(storage.journal, intake.known_damage),
                metrics.DatabaseMetrics(storage.journal.database),
                metrics.NodeMetrics(
                    lambda: intake.passing is None or intake.passing.accepts(),
                    lambda: [] if storage.succession is None else node_states(storage.succession.nodes()),
                ),
                metrics.StateMetrics(
                    storage.readers, storage.fold, storage.fold.status, missing, observed.waiting.read
                ),
                metrics.WorkMetrics(workers.pool, background.upkeep, alarms),
                metrics.RouteMetrics(workers.times),
                metrics.ReconcileMetrics(
                    lambda: background.reconciler.passes,
                    lambda: background.reconciler.fetched,
                    lambda: background.reconciler.drift,
                ),
                metrics.NotifyMetrics(background.notifier.status),
                metrics.DiskMetrics(intake.admission),
                metrics.LogMetrics(lambda: log_writer.stderr.dropped),
                metrics.ListenerMetrics(stats),
            ],
        ),
        _make_api(info, storage, intake, workers, background, observed, stopping),
        PhaseRoutes(workers.claims),
    )


def _make_alarms(storage: Storage, workers: Workers, background: Background) -> Alarms:
    upkeep, reconciler = background.upkeep, background.reconciler
    of_tasks = [workers.pool.loop, workers.claims.loop, workers.tokens.loop, storage.fold.loop]
    loops = [*of_tasks, upkeep.loop, reconciler.loop, background.notifier.loop, background.acts.loop]
    return Alarms(storage.journal, storage.readers, workers.pool, upkeep, loops, lag=lambda: storage.fold.lag)


def _make_api(
    info: DaemonInfo,
    storage: Storage,
    intake: Intake,
    workers: Workers,
    background: Background,
    observed: _Observed,
    stopping: threading.Event,
) -> ApiRoutes:
    status = StatusSources(
        info,
        storage.data,
        storage.journal,
        storage.readers,
        storage.fold,
        storage.fold.status,
        observed.config,
        intake.admission,
        intake.refusals,
        workers.pool,
        background.upkeep,
        observed.alarms,
        observed.waiting,
        background.reconciler.status,
        logs.newest.lines,
        background.notifier.status,
        storage.succession,
        standby_problem=(lambda: None) if workers.standby is None else workers.standby.problem,
    )
    return ApiRoutes(
        data=storage.data,
        journal=storage.journal,
        state=storage.state,
        config=observed.config,
        refusals=intake.refusals,
        claims=workers.claims,
        operations=background.operations,
        notices=background.notifier.notices,
        status=status,
        logs=NodeLogs(storage.data, storage.journal, storage.node.name, lambda: nodes_of(status)),
        snapshot=Snapshot(storage.data, stopping),
        stopping=stopping,
        reads=ReadLog(storage.data / READS_NAME, room=intake.admission.keeps_refusals),
    )
