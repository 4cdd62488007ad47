"""The report of `covenq bench`: what was measured as a document, as a table, and in sentences. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from covenq.cli.bench_limit import Limit, Usage, limit_of
from covenq.cli.output import clean
from covenq.cli.table import Column
from covenq.text import counted

if TYPE_CHECKING:
    from covenq.cli.bench_client import LoadResult

GITHUB_WAITS_S = 10
"""Seconds that GitHub waits for an answer."""
SLOW_MS = 1000.0
"""The 99th percentile at half of the peak above which answers are called slow."""
NAMES_MAX = 5
"""Routes named in a sentence."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and with what was measured."""

    directory: str
    filesystem: str
    connections: int
    body_bytes: int
    config: str | None
    """The configuration's file."""
    routes: int
    """Its routes; 0 means that one that every delivery matches stood in for them."""
    unmatched: tuple[str, ...]
    """Those that no delivery of the run could match."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """The times of single syncs (milliseconds, sorted), and the results of the runs."""

    syncs: list[float]
    peak: LoadResult
    half: LoadResult
    used: Usage
    """What the run at full load used."""
    sync_p50_ms: float
    sync_p99_ms: float
    """Of its newest syncs."""
    lag: int
    """Records that the fold had still before it at its end."""
    caught_up_s: float | None
    """Seconds until it had none any more; None if they were too many."""
    sent: int
    """Accepted in all runs, warm-up included."""
    found: int
    """Deliveries in the journal afterwards."""
    tasks: int
    """Tasks there."""


# ---- the document


class SyncTimes(TypedDict):
    """How long single syncs took, alone. `real`: that is what a disk takes, and not what memory does."""

    count: int
    p50_ms: float
    p99_ms: float
    real: bool


class AnswerTimes(TypedDict):
    """How many deliveries a second were accepted, and how long their answers took."""

    accepts_per_s: float
    p50_ms: float
    p99_ms: float
    p99_9_ms: float


class PeakTimes(AnswerTimes):
    """The same of the run at full load, with its syncs."""

    syncs_per_s: float
    sync_p50_ms: float
    sync_p99_ms: float
    deliveries_per_sync: float
    records_per_sync: float


class FoldRates(TypedDict):
    """The fold in the run at full load. `lag` is of its end; `caught_up_s` null: it took too long to wait for."""

    records_per_s: float
    folded_per_s: float
    lag: int
    caught_up_s: float | None
    kept_up: bool


class ProcessorUse(TypedDict):
    """How many cores were busy in the run at full load, on average; null where the system doesn't show it."""

    cores: int
    daemon: float | None
    follower: float | None
    client: float
    machine: float | None


class BenchReport(TypedDict):
    """The document that --json prints: measurements, and what they mean in sentences (`verdict`)."""

    ok: bool
    directory: str
    filesystem: str
    config: str | None
    routes: int
    unmatched_routes: list[str]
    tasks_per_delivery: float
    connections: int
    body_bytes: int
    sync: SyncTimes
    peak: PeakTimes
    half: AnswerTimes
    fold: FoldRates
    processor: ProcessorUse
    limit: Limit
    accepted: int
    refused: int
    missing: int
    github_waits_s: int
    verdict: list[str]


def report_of(measured: Measurements, setting: Setting) -> BenchReport:
    """The report on what was measured."""
    middle, slow = percentile(measured.syncs, 0.5), percentile(measured.syncs, 0.99)
    missing = max(0, measured.sent - measured.found)
    refused = sum(sum(one.statuses.values()) - one.accepted for one in (measured.peak, measured.half))
    real = _is_real_sync(middle, setting.filesystem)
    tasks = round(measured.tasks / measured.found, 2) if measured.found else 0.0
    limit = limit_of(measured.used)
    return {
        "ok": bool(measured.peak.accepted and measured.half.accepted) and not missing and not refused,
        "directory": setting.directory,
        "filesystem": setting.filesystem,
        "config": setting.config,
        "routes": setting.routes,
        "unmatched_routes": list(setting.unmatched),
        "tasks_per_delivery": tasks,
        "connections": setting.connections,
        "body_bytes": setting.body_bytes,
        "sync": {"count": len(measured.syncs), "p50_ms": middle, "p99_ms": slow, "real": real},
        "peak": _peak(measured),
        "half": _answers(measured.half),
        "fold": _fold(measured),
        "processor": _processor(measured.used),
        "limit": limit,
        "accepted": measured.sent,
        "refused": refused,
        "missing": missing,
        "github_waits_s": GITHUB_WAITS_S,
        "verdict": [
            *_rate_verdict(measured, limit),
            *_disk_verdict(real, middle, setting.filesystem),
            _latency_verdict(measured.half),
            _journal_verdict(measured.sent, missing, refused),
            *_routes_verdict(setting, tasks),
        ],
    }


def percentile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0


def _answers(outcome: LoadResult) -> AnswerTimes:
    return {
        "accepts_per_s": round(outcome.rate, 1),
        "p50_ms": round(outcome.percentile(0.5), 3),
        "p99_ms": round(outcome.percentile(0.99), 3),
        "p99_9_ms": round(outcome.percentile(0.999), 3),
    }


def _peak(measured: Measurements) -> PeakTimes:
    used = measured.used
    return {
        **_answers(measured.peak),
        "syncs_per_s": _each(used.syncs, used.seconds),
        "sync_p50_ms": round(measured.sync_p50_ms, 3),
        "sync_p99_ms": round(measured.sync_p99_ms, 3),
        "deliveries_per_sync": _each(used.accepted, used.syncs),
        "records_per_sync": _each(used.appended, used.syncs),
    }


def _fold(measured: Measurements) -> FoldRates:
    used, waited = measured.used, measured.caught_up_s
    return {
        "records_per_s": _each(used.appended, used.seconds),
        "folded_per_s": _each(used.folded, used.seconds),
        "lag": measured.lag,
        "caught_up_s": None if waited is None else round(waited, 2),
        "kept_up": used.kept_up,
    }


def _processor(used: Usage) -> ProcessorUse:
    def busy(seconds: float | None) -> float | None:
        return None if seconds is None or not used.seconds else round(seconds / used.seconds, 2)

    return {
        "cores": used.cores,
        "daemon": busy(used.daemon_cpu_s),
        "follower": busy(used.follower_cpu_s),
        "client": busy(used.client_cpu_s) or 0.0,
        "machine": busy(used.machine_cpu_s),
    }


def _each(number: float, of: float) -> float:
    return round(number / of, 1) if of else 0.0


def _is_real_sync(middle_ms: float, kind: str) -> bool:
    from covenq.operate.maintain.doctor import FAST_S
    from covenq.operate.maintain.filesystem import is_memory

    return not is_memory(kind) and middle_ms >= FAST_S * 1000


# ---- in sentences


def _rate_verdict(measured: Measurements, limit: Limit) -> Iterator[str]:
    peak = measured.peak
    if not peak.accepted:
        return
    yield f"{peak.rate:,.0f} deliveries a second are on disk before their 202; {peak.rate * 3600:,.0f} an hour."
    yield limit["sentence"]
    fold, waited = _fold(measured), measured.caught_up_s
    left = "none was left at the end"
    if measured.lag:
        then = "not folded for a while" if waited is None else f"folded {waited:.1f} s later"
        left = f"{counted(measured.lag, 'record')} behind at the end, {then}"
    if fold["kept_up"]:
        yield f"The fold kept up: {fold['folded_per_s']:,.0f} records a second; {left}."
    else:
        rates = f"of {fold['records_per_s']:,.0f} records a second it folded {fold['folded_per_s']:,.0f}"
        yield f"The fold fell behind: {rates}; {left}."


def _disk_verdict(real: bool, middle: float, kind: str) -> Iterator[str]:
    from covenq.operate.maintain.doctor import SLOW_S
    from covenq.operate.maintain.filesystem import is_memory

    if is_memory(kind):
        yield f"This is {kind}: memory, which keeps nothing over a power cut. Choose a directory on a disk with --data."
    elif not real:
        yield f"A sync in {middle:.3f} ms is none: something says that it wrote, and did not. Look at the disk's cache."
    elif middle > SLOW_S * 1000:
        yield f"The disk is slow: every delivery waits for a sync of {middle:.0f} ms."
    else:
        yield f"Syncs look real: half of them within {middle:.2f} ms."


def _latency_verdict(half: LoadResult) -> str:
    late = half.percentile(0.99)
    waits = f"GitHub waits {GITHUB_WAITS_S} s: at half of the peak 99 of 100 answers take {_millis_text(late)} or less"
    if half.percentile(0.999) >= GITHUB_WAITS_S * 1000:
        return f"{waits}, but some take so long that GitHub counts them as failed."
    if late > SLOW_MS:
        return f"{waits}, which is slow: look for what else uses this disk."
    return f"{waits}."


def _journal_verdict(sent: int, missing: int, refused: int) -> str:
    if not sent:
        return "Nothing was accepted, so nothing was measured."
    if missing:
        return f"{missing:,} of {sent:,} accepted deliveries are not in the journal. Don't rely on this disk."
    said = f"All {sent:,} accepted deliveries are in the journal."
    return f"{said} {refused:,} were refused, which shouldn't be." if refused else said


def _routes_verdict(setting: Setting, tasks: float) -> Iterator[str]:
    if not setting.routes:
        yield "No routes are configured: measured with one that every delivery matches, as a task."
        return
    routes = counted(setting.routes, "route") + ("" if setting.config is None else f" of {clean(setting.config)}")
    yield f"Measured with the {routes}: {tasks:g} tasks a delivery, none of which was run or forwarded."
    if setting.unmatched:
        more = len(setting.unmatched) - NAMES_MAX
        names = ", ".join(setting.unmatched[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
        yield f"No delivery was found that would match {names}: tried on each, and never taken."


def _millis_text(millis: float) -> str:
    return f"{millis:.0f} ms" if millis < 1000 else f"{millis / 1000:.1f} s"


# ---- the table


@dataclass(frozen=True, slots=True)
class BenchRow:
    """A line of the table. `rate` is in words, and the times are milliseconds."""

    what: str
    rate: str
    p50_ms: float
    p99_ms: float
    p99_9_ms: float | None = None


COLUMNS: list[Column[BenchRow]] = [
    Column("", lambda row: row.what, shrink=24, wraps=True),
    Column("A SECOND", lambda row: row.rate, right=True),
    Column("P50", lambda row: f"{row.p50_ms:.2f} ms", right=True),
    Column("P99", lambda row: f"{row.p99_ms:.2f} ms", right=True),
    Column("P99.9", lambda row: "" if row.p99_9_ms is None else f"{row.p99_9_ms:.2f} ms", right=True),
]


def rows_of(report: BenchReport) -> list[BenchRow]:
    """The lines of the table."""
    sync, peak, half = report["sync"], report["peak"], report["half"]
    many = f"its syncs, of {peak['deliveries_per_sync']:g} deliveries each"
    return [
        BenchRow("accepted, as many as go", f"{peak['accepts_per_s']:,.0f}", *_times(peak)),
        BenchRow(many, f"{peak['syncs_per_s']:,.0f}", peak["sync_p50_ms"], peak["sync_p99_ms"]),
        BenchRow("accepted, half as many", f"{half['accepts_per_s']:,.0f}", *_times(half)),
        BenchRow("a sync, alone", "", sync["p50_ms"], sync["p99_ms"]),
    ]


def _times(of: AnswerTimes) -> tuple[float, float, float]:
    return of["p50_ms"], of["p99_ms"], of["p99_9_ms"]
