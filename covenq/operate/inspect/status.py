"""The status object: one for a running daemon and for the files of a data directory without one."""

from __future__ import annotations

import os
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from covenq.config.journal import JournalSettings
from covenq.config.load import Config
from covenq.filter.grammar import parse
from covenq.model import at_text
from covenq.model.journal_status import (
    BatchSizes,
    DatabaseStatus,
    HeadStatus,
    JournalStatus,
    StandbyStatus,
    SyncTimes,
)
from covenq.model.notices import NotifyStatus
from covenq.model.status import (
    Descriptors,
    Disk,
    KnownNode,
    LogLine,
    NodeStatus,
    Overdue,
    ReconcileStatus,
    Reload,
    SecretProblem,
    Segment,
    StateStatus,
    Status,
    Stuck,
    UpkeepStatus,
    Watchdog,
)
from covenq.model.waiting import WaitingTasks
from covenq.model.worker_status import WorkerStatus
from covenq.operate.inspect import ledger, throughput, unrevoked, view
from covenq.operate.maintain import uninstall, verify_note
from covenq.paths import JOURNAL_NAME
from covenq.routing.held import HELD
from covenq.state import query
from journal.health import Health, Measurements, count, series
from journal.interface import Durability
from journal.records import Head

if TYPE_CHECKING:
    from journal.database import Database

SEGMENTS_MAX = 200
SYNC_BOUNDS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0)
HELD_BACK = parse(f"state:received reason:{HELD}")


@dataclass(frozen=True, slots=True)
class DaemonProcess:
    """What only a running daemon knows of itself; without one, the defaults."""

    node: NodeStatus | None = None
    """Without a daemon too."""
    nodes: Sequence[KnownNode] = ()
    pid: int | None = None
    standby: bool = False
    started_at: str | None = None
    webhook_url: str | None = None
    api_url: str | None = None
    worker: WorkerStatus | None = None
    descriptors: Descriptors | None = None
    watchdog: Watchdog | None = None
    upkeep: UpkeepStatus | None = None
    uninstalls_wait: Mapping[int, str] = field(default_factory=dict)
    """Why uninstalled installations that are due are not erased."""
    reload: Reload | None = None
    refused: Mapping[str, int] = field(default_factory=dict)
    refused_unkept: Mapping[str, int] = field(default_factory=dict)
    stuck: Sequence[Stuck] = ()
    overdue: Sequence[Overdue] = ()
    secrets: Sequence[SecretProblem] = ()
    reconcile: ReconcileStatus | None = None
    """Without a daemon too, by the records alone."""
    damaged: bool = False
    """Whether damage of the journal is among the reasons; without a daemon too."""
    log: Sequence[LogLine] = ()
    waiting: Sequence[WaitingTasks] = ()
    """What queued tasks wait for; without a daemon too."""
    notify: NotifyStatus | None = None


NO_DAEMON = DaemonProcess()
NO_HEALTH = Health()


def status(
    conn: sqlite3.Connection,
    data: Path,
    config: Config,
    *,
    version: str,
    reasons: Sequence[str],
    journal: JournalStatus,
    state: StateStatus,
    process: DaemonProcess = NO_DAEMON,
) -> Status:
    """The object of `GET /api/v1/status`.

    `reasons` are why nothing is received, empty if the daemon is ready; `journal` is from `journal_status`; the counts are
    those of `conn`.
    """
    counts = view.counts(conn)
    reconcile = process.reconcile
    if reconcile is not None:
        reconcile.waiting = view.count(conn, "deliveries", HELD_BACK)
        budgets = {one.log: one.budget for one in reconcile.logs if one.budget is not None}
        reconcile.missing = ledger.missing(conn, config.github_logs, budgets, reconcile.every_s, time.time())
    return Status(
        ready=not reasons,
        reasons=list(reasons),
        standby=process.standby,
        version=version,
        node=process.node,
        nodes=list(process.nodes),
        pid=process.pid,
        started_at=process.started_at,
        data=str(data),
        config=None if config.path is None else str(config.path.absolute()),
        webhook_url=process.webhook_url,
        api_url=process.api_url,
        journal=journal,
        state=state,
        deliveries=counts["deliveries"],
        tasks=counts["tasks"],
        oldest=query.oldest(conn),
        disk=disk(data),
        worker=process.worker,
        descriptors=process.descriptors,
        watchdog=process.watchdog,
        upkeep=process.upkeep,
        uninstalls=uninstall.shown(conn, config.retention, process.uninstalls_wait),
        routes=[route.name for route in config.routes],
        reload=process.reload,
        refused=dict(process.refused),
        refused_unkept=dict(process.refused_unkept),
        pauses=view.pauses(conn),
        segments=newest_segments(data / JOURNAL_NAME),
        verified=verify_note.read(data, journal.engine),
        damaged=process.damaged,
        running=throughput.running(conn),
        waiting=list(process.waiting),
        stuck=list(process.stuck),
        overdue=list(process.overdue),
        secrets=list(process.secrets),
        reconcile=reconcile,
        log=list(process.log),
        notify=process.notify,
        tokens=unrevoked.unrevoked(conn, at_text(time.time())),
    )


def journal_status(
    id: str,
    epoch: str,
    head: Head,
    measurements: Measurements,
    *,
    settings: JournalSettings,
    durability: Durability = "fsync",
    health: Health = NO_HEALTH,
    database: Database | None = None,
) -> JournalStatus:
    """The status of the journal, from its engine's `measurements`. Of one that nobody writes there are no syncs."""
    last_sync_s = measurements.get("last_sync_seconds")
    return JournalStatus(
        id=id,
        epoch=epoch,
        head=HeadStatus(head.seq, head.sum),
        segments=count(measurements, "segments"),
        bytes=count(measurements, "bytes"),
        poisoned=health.poisoned is not None,
        full=health.full is not None,
        last_sync_ms=round(last_sync_s * 1000, 3) if isinstance(last_sync_s, float) else None,
        recent_syncs_ms=sync_times(series(measurements, "recent_sync_seconds")),
        recent_batches=batch_sizes(series(measurements, "recent_batch_records")),
        engine="file" if settings.url is None else "postgres",
        durability="managed" if settings.managed and durability == "fsync" else durability,
        database=None if database is None else database_status(database),
    )


def database_status(found: Database) -> DatabaseStatus:
    standbys = found.standbys
    return DatabaseStatus(
        standbys=None
        if standbys is None
        else [
            StandbyStatus(one.name, one.state, one.sync_state, None if one.behind is None else max(0, one.behind))
            for one in standbys
        ],
        hidden=found.hidden,
        named=list(found.named),
        needed=found.needed,
        missing=list(found.missing),
        waits=found.waits,
        ahead_s=_rounded(found.ahead_s),
        seen_s=_rounded(found.seen_s),
        away_s=_rounded(found.away_s),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def sync_times(seconds: Sequence[float]) -> SyncTimes | None:
    """None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    at = (len(ordered) // 2, min(len(ordered) - 1, len(ordered) * 99 // 100), -1)
    median, p99, slowest = (round(ordered[one] * 1000, 3) for one in at)
    below = [bisect_right(ordered, bound / 1000) for bound in SYNC_BOUNDS_MS]
    counts = [high - low for low, high in pairwise((0, *below, len(ordered)))]
    return SyncTimes(len(ordered), median, p99, slowest, list(SYNC_BOUNDS_MS), counts)


def batch_sizes(sizes: Sequence[float]) -> BatchSizes | None:
    """None of nothing."""
    ordered = sorted(sizes)
    return BatchSizes(len(ordered), int(ordered[len(ordered) // 2]), int(ordered[-1])) if ordered else None


def newest_segments(journal: Path) -> list[Segment]:
    """The newest SEGMENTS_MAX segments, newest first."""
    try:
        names = sorted((entry.name for entry in os.scandir(journal) if entry.name.endswith(".jsonl")), reverse=True)
    except OSError:
        return []
    found: list[Segment] = []
    for name in names[:SEGMENTS_MAX]:
        with suppress(OSError, ValueError):  # one that retention removes meanwhile
            first = int(name.removesuffix(".jsonl"))
            found.append(Segment(name, first, (journal / name).stat().st_size))
    return found


def disk(data: Path) -> Disk | None:
    """Of the filesystem that the data directory is on; None where that can't be known."""
    try:
        found = os.statvfs(data)
    except OSError:
        return None
    return Disk(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
