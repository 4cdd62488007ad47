"""The status object: one for a running daemon and for the files of a data directory without one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from covenq.config.live import ReloadStatus
from covenq.config.route import Route
from covenq.model import JsonObject
from covenq.operate.inspect import throughput, view
from covenq.operate.maintain import verify_note
from covenq.paths import JOURNAL_NAME
from covenq.state import query
from journal.health import Measurements, count, series
from journal.records import Head

SEGMENTS_MAX = 200


@dataclass(frozen=True, slots=True)
class DaemonProcess:
    """What only a running daemon knows of itself; without one, the defaults."""

    pid: int | None = None
    started_at: str | None = None
    webhook_url: str | None = None
    api_url: str | None = None
    worker: JsonObject | None = None
    """{"id", "concurrency", "running", "error"}."""
    upkeep: JsonObject | None = None
    """{"doing", "error"}."""
    reload: ReloadStatus | None = None
    refused: Mapping[str, int] = field(default_factory=dict)
    stuck: Sequence[JsonObject] = ()
    secrets: Sequence[JsonObject] = ()
    """{"secret", "problem"} of each that can't be read."""


NO_DAEMON = DaemonProcess()


def status(
    conn: sqlite3.Connection,
    data: Path,
    routes: Sequence[Route],
    *,
    version: str,
    reasons: Sequence[str],
    journal: JsonObject,
    state: JsonObject,
    process: DaemonProcess = NO_DAEMON,
) -> JsonObject:
    """The object of `GET /api/v1/status`; `covenq.client.interface.Source.status` describes it.

    `reasons` are why nothing is received, empty if the daemon is ready; `journal` is from `journal_object`; `state` is
    {"seq", "lag", "error"} of the fold; the counts are those of `conn`.
    """
    return {
        "ok": True,
        "ready": not reasons,
        "reasons": list(reasons),
        "version": version,
        "pid": process.pid,
        "started_at": process.started_at,
        "data": str(data),
        "webhook_url": process.webhook_url,
        "api_url": process.api_url,
        "journal": journal,
        "state": state,
        **view.counts(conn),
        "oldest": query.oldest(conn),
        "disk": disk(data),
        "worker": process.worker,
        "upkeep": process.upkeep,
        "routes": route_names(routes),
        "reload": msgspec.to_builtins(process.reload),
        "refused": dict(process.refused),
        "pauses": view.pauses(conn),
        "segments": newest_segments(data / JOURNAL_NAME),
        "verified": verify_note.read(data),
        "running": throughput.running(conn),
        "stuck": list(process.stuck),
        "secrets": list(process.secrets),
    }


def route_names(routes: Sequence[Route]) -> list[str]:
    return [route.name for route in routes]


def journal_object(
    id: str,
    epoch: str,
    head: Head,
    measurements: Measurements,
    *,
    poisoned: bool = False,
    full: bool = False,
) -> JsonObject:
    """The status object's `journal`, from its engine's `measurements`. Of one that nobody writes there are no syncs."""
    last_sync_s = measurements.get("last_sync_seconds")
    return {
        "id": id,
        "epoch": epoch,
        "head": {"seq": head.seq, "sum": head.sum},
        "segments": count(measurements, "segments"),
        "bytes": count(measurements, "bytes"),
        "poisoned": poisoned,
        "full": full,
        "last_sync_ms": round(last_sync_s * 1000, 3) if isinstance(last_sync_s, float) else None,
        "recent_syncs_ms": sync_times(series(measurements, "recent_sync_seconds")),
        "recent_batches": batch_sizes(series(measurements, "recent_batch_records")),
    }


def sync_times(seconds: Sequence[float]) -> JsonObject | None:
    """{"count", "median", "p99", "slowest"} in milliseconds; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    at = (len(ordered) // 2, min(len(ordered) - 1, len(ordered) * 99 // 100), -1)
    median, p99, slowest = (round(ordered[one] * 1000, 3) for one in at)
    return {"count": len(ordered), "median": median, "p99": p99, "slowest": slowest}


def batch_sizes(sizes: Sequence[float]) -> JsonObject | None:
    """{"count", "median", "largest"}: how many records shared a sync, of the newest syncs; None of nothing."""
    ordered = sorted(sizes)
    return {"count": len(ordered), "median": ordered[len(ordered) // 2], "largest": ordered[-1]} if ordered else None


def newest_segments(journal: Path) -> list[JsonObject]:
    """The newest SEGMENTS_MAX segments, newest first: {"name", "first", "bytes"}, `first` being its first record's seq."""
    try:
        names = sorted((entry.name for entry in os.scandir(journal) if entry.name.endswith(".jsonl")), reverse=True)
    except OSError:
        return []
    found: list[JsonObject] = []
    for name in names[:SEGMENTS_MAX]:
        with suppress(OSError, ValueError):  # one that retention removes meanwhile
            first = int(name.removesuffix(".jsonl"))
            found.append({"name": name, "first": first, "bytes": (journal / name).stat().st_size})
    return found


def disk(data: Path) -> Mapping[str, Any] | None:
    """{"free", "total"} in bytes, of the filesystem that the data directory is on; None where that can't be known."""
    try:
        found = os.statvfs(data)
    except OSError:
        return None
    return {"free": found.f_bavail * found.f_frsize, "total": found.f_blocks * found.f_frsize}
