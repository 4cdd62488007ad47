"""GET /api/v1/status: the daemon's state, for `covenq status`, the dashboard and monitoring."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import falcon

from covenq.http.answers import respond_ok
from covenq.http.api.effective import EffectiveConfig
from covenq.intake.admission import JOURNAL_DAMAGED, STANDBY, Admission
from covenq.intake.refusal_log import Refusals
from covenq.model import status as model_status
from covenq.model.notices import NotifyStatus
from covenq.model.status import (
    Descriptors,
    FollowerStatus,
    KnownNode,
    LogLine,
    NodeStatus,
    ReconcileStatus,
    SecretProblem,
    StateStatus,
    UpkeepStatus,
    Watchdog,
)
from covenq.model.worker_status import WorkerStatus
from covenq.operate.inspect import status as inspect_status
from covenq.operate.inspect import stuck
from covenq.operate.inspect.alarms import Alarms
from covenq.operate.inspect.nodes import known_nodes
from covenq.operate.inspect.waiting import KeptWaiting
from covenq.operate.maintain.upkeep import Upkeep
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from covenq.tasks.execution.pool import Pool
from journal.interface import Engine, Succeeding


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """What stays the same from the start of the daemon to its end."""

    version: str
    started_at: str
    """RFC 3339."""
    webhook_url: str | None
    """None where nothing is posted here."""
    api_url: str | None = None
    """Where the API listens on TCP, if [api] is configured."""
    metrics_url: str | None = None
    """Where /metrics has a listener of its own, if [metrics] is configured."""
    descriptors: Descriptors | None = None
    """What the limit of open files allows."""
    watchdog: Watchdog | None = None
    """systemd's."""
    node: NodeStatus | None = None


@dataclass(frozen=True, slots=True)
class StatusSources:
    """What the status is read from."""

    info: DaemonInfo
    data: Path
    journal: Engine
    readers: Readers
    fold: FoldProgress
    follower: Callable[[], FollowerStatus]
    config: EffectiveConfig
    admission: Admission
    refusals: Refusals
    pool: Pool
    upkeep: Upkeep
    alarms: Alarms
    waiting: KeptWaiting
    reconcile: Callable[[], ReconcileStatus | None] = lambda: None
    log: Callable[[], Sequence[LogLine]] = tuple
    """The newest warnings of the daemon's log."""
    notify: Callable[[], NotifyStatus | None] = lambda: None
    succession: Succeeding | None = None
    standby_problem: Callable[[], str | None] = lambda: None
    clock: Callable[[], float] = time.time


class Status:
    def __init__(self, sources: StatusSources) -> None:
        self._sources = sources

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, status(self._sources))


def status(sources: StatusSources) -> model_status.Status:
    """The daemon's state. Answers even while the fold is stuck: it says so."""
    health, measurements = sources.journal.health(), sources.journal.measurements()
    reasons = sources.admission.reasons()
    fold = sources.fold
    left_s = fold.left_s
    state = StateStatus(
        fold.folded,
        fold.lag,
        fold.error,
        None if left_s is None else round(left_s),
        sources.follower(),
        fold.distrusted,
        fold.still_since,
    )
    # The counts are of all there was when the question came, or, where that takes too long, as far as it is folded.
    sources.fold.wait_for(sources.journal.head().seq, 1.0)
    conn = sources.readers.reader()
    pool, upkeep, live = sources.pool, sources.upkeep, sources.config.live
    return inspect_status.status(
        conn,
        sources.data,
        sources.config.config,
        version=sources.info.version,
        reasons=[reason.sentence for reason in reasons],
        journal=inspect_status.journal_status(
            sources.journal.id,
            sources.journal.epoch,
            sources.journal.head(),
            measurements,
            settings=sources.config.config.journal,
            durability=sources.journal.durability,
            health=health,
            database=sources.journal.database(),
        ),
        state=state,
        process=inspect_status.DaemonProcess(
            node=sources.info.node,
            nodes=nodes_of(sources, conn),
            pid=os.getpid(),
            started_at=sources.info.started_at,
            webhook_url=sources.info.webhook_url,
            api_url=sources.info.api_url,
            worker=WorkerStatus(
                pool.id,
                pool.concurrency,
                pool.running(),
                pool.error,
                pool.waits(),
                sources.config.config.on_standby is not None,
                sources.standby_problem(),
            ),
            descriptors=sources.info.descriptors,
            watchdog=sources.info.watchdog,
            upkeep=UpkeepStatus(upkeep.doing, upkeep.error),
            uninstalls_wait=upkeep.uninstalls_wait,
            reload=live.status(),
            refused=sources.refusals.counts(),
            refused_unkept=sources.refusals.unkept(),
            stuck=[]
            if sources.alarms.is_far_behind
            else stuck.stuck(conn, sources.clock(), sources.config.caps, sources.alarms.tasks()),
            overdue=sources.alarms.overdue(),
            secrets=[SecretProblem(one.name, why) for one, why in live.secret_status() if why],
            reconcile=sources.reconcile(),
            log=sources.log(),
            standby=any(reason.word == STANDBY for reason in reasons),
            damaged=any(reason.word == JOURNAL_DAMAGED for reason in reasons),
            waiting=sources.waiting.read(conn),
            notify=sources.notify(),
        ),
    )


def nodes_of(sources: StatusSources, conn: sqlite3.Connection | None = None) -> list[KnownNode]:
    """All that share the journal, with what each owes by the rows of `conn`; none where nobody can."""
    if sources.succession is None or sources.info.node is None:
        return []
    head, config = sources.journal.head().seq, sources.config.config.sha256
    return known_nodes(sources.succession.nodes(), sources.info.node.id, head, config, conn)
