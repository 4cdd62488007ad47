"""`covenq bench`: how many deliveries a second this machine makes durable before it answers, on the data's own disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from covenq.cli import output
from covenq.cli.context import locate
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import say
from covenq.cli.table import Column, print_table
from covenq.errors import CovenqError
from covenq.paths import JOURNAL_NAME
from journal.presence import is_directory

if TYPE_CHECKING:
    from covenq.cli.bench_client import LoadPlan, LoadResult

GITHUB_WAITS_S = 10
"""Seconds that GitHub waits for an answer."""
SLOW_MS = 1000.0
"""The 99th percentile at half of the peak above which answers are called slow."""
RATE_MAX = 6000
"""Requests built per second of a run, before its clock starts: more than this client can send."""
SYNC_PROBE_S = 2.0
"""Seconds for measuring the disk's syncs alone, at most."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """The times of single syncs (milliseconds, sorted), and the results of the runs."""

    syncs: list[float]
    peak: LoadResult
    half: LoadResult
    sent: int
    """Accepted in all runs, warm-up included."""
    found: int
    """Deliveries in the journal afterwards."""
    batches: float | None
    """The median of records per sync; None if it can't be known."""


def bench(
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.2, max=60, metavar="N", help="Of each measurement.")
    ] = 4.0,
    connections: Annotated[int, typer.Option("--connections", min=1, max=500, metavar="N", help="At once.")] = 64,
    size: Annotated[int, typer.Option("--size", min=1000, max=1_000_000, metavar="BYTES", help="Of a body.")] = 8192,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Measure how many deliveries a second are durable before they are answered.

    With a daemon of its own in a scratch directory on the data's disk: first the disk's syncs alone, then as many deliveries
    as go, then half as many. All are signed and distinct, and those accepted are looked for in the journal. Takes 10 to 20
    seconds; the scratch directory is removed. Exits with 1 if anything accepted is missing, or nothing was accepted.
    """
    from covenq.operate.maintain.filesystem import kind_of

    where = _nearest_directory(locate(data, config).data)
    kind = kind_of(where)
    measured = _measure(where, seconds=seconds, connections=connections, size=size)
    report = report_of(measured, where=str(where), kind=kind, connections=connections, size=size)
    if json:
        output.emit_json(report)
    else:
        print_table(COLUMNS, _rows(report))
        for sentence in report["verdict"]:
            say(sentence)
    if not report["ok"]:
        raise typer.Exit(1)


# ---- measuring


def _measure(where: Path, *, seconds: float, connections: int, size: int) -> Measurements:
    from covenq.cli import bench_client
    from covenq.cli.demo_daemon import DemoDaemon
    from covenq.config.secret_keys import default_file

    with _scratch_directory(where) as directory:
        say(f"Measuring in {directory}, which is removed afterwards …")
        syncs = _time_syncs(directory, min(SYNC_PROBE_S, seconds))
        with DemoDaemon(directory, ["push"]) as daemon:  # a route that matches nothing that is sent
            daemon.start()
            host, _, port = daemon.url.removeprefix("http://").removesuffix("/webhook").rpartition(":")
            secret = default_file(daemon.data).read_text().strip()
            plan = bench_client.LoadPlan(host, int(port), secret, seconds, connections, size)
            warm = _run(replace(plan, seconds=seconds / 4))
            peak = _run(plan)
            half = _run(replace(plan, rate=max(1.0, peak.rate / 2)))
            daemon.stop()
        found, batches = _read_back(daemon.data / JOURNAL_NAME)
    return Measurements(syncs, peak, half, warm.accepted + peak.accepted + half.accepted, found, batches)


def _run(plan: LoadPlan) -> LoadResult:
    from covenq.cli import bench_client

    # Bounded in memory as well, because the requests are built beforehand.
    count = min(int(plan.seconds * RATE_MAX) + plan.connections, (256 << 20) // plan.size)
    try:
        return bench_client.run(plan, count)
    except OSError as error:
        raise CovenqError(f"the measurement came to no end: {error}", hint="Try fewer --connections.") from error


def _time_syncs(directory: Path, seconds: float) -> list[float]:
    from covenq.operate.maintain.doctor import time_syncs

    found: list[float] = []
    began = time.perf_counter()
    try:
        while time.perf_counter() - began < seconds:
            found += [taken * 1000 for taken in time_syncs(directory, time.perf_counter)]
    except OSError as error:
        raise CovenqError(
            f"{directory} can't be written: {error.strerror}", hint="Check the disk's space and permissions."
        ) from error
    return sorted(found)


def _read_back(directory: Path) -> tuple[int, float | None]:
    """The number of deliveries in the journal, and the median of records per sync, from the watermark that each record holds."""
    from journal import open_reader

    found = 0
    watermarks: dict[int, int] = {}
    with open_reader(directory) as reader:
        for record in reader.read(0):
            found += record.kind == "delivery.received"
            watermarks[record.synced] = watermarks.get(record.synced, 0) + 1
    sizes = sorted(watermarks.values())
    return found, sizes[len(sizes) // 2] if sizes else None


def _nearest_directory(data: Path) -> Path:
    """The data directory, or its nearest parent that exists: it may not have been made yet."""
    for one in (data, *data.absolute().parents):
        if is_directory(one):
            return one
    return Path("/")


@contextmanager
def _scratch_directory(where: Path) -> Iterator[Path]:
    from covenq.cli.commands.demo import remove_directory

    try:
        directory = Path(tempfile.mkdtemp(prefix=".bench-", dir=where))
    except OSError as error:
        raise CovenqError(
            f"nothing can be written in {where}: {error.strerror}", hint="Choose another directory with --data."
        ) from error
    try:
        yield directory
    finally:
        remove_directory(directory)


# ---- reporting


class SyncTimes(TypedDict):
    """How long single syncs took. `real`: that is what a disk takes, and not what memory does."""

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
    """The same of the run at full load; `records_per_sync` as in Measurements."""

    records_per_sync: float | None


class BenchReport(TypedDict):
    """The document that --json prints: measurements, and what they mean in sentences (`verdict`)."""

    ok: bool
    directory: str
    filesystem: str
    connections: int
    body_bytes: int
    sync: SyncTimes
    peak: PeakTimes
    half: AnswerTimes
    accepted: int
    refused: int
    missing: int
    github_waits_s: int
    verdict: list[str]


def report_of(measured: Measurements, *, where: str, kind: str, connections: int, size: int) -> BenchReport:
    """The report on what was measured."""
    middle, slow = percentile(measured.syncs, 0.5), percentile(measured.syncs, 0.99)
    missing = max(0, measured.sent - measured.found)
    refused = sum(sum(one.statuses.values()) - one.accepted for one in (measured.peak, measured.half))
    real = _is_real_sync(middle, kind)
    return {
        "ok": bool(measured.peak.accepted and measured.half.accepted) and not missing and not refused,
        "directory": where,
        "filesystem": kind,
        "connections": connections,
        "body_bytes": size,
        "sync": {"count": len(measured.syncs), "p50_ms": middle, "p99_ms": slow, "real": real},
        "peak": {**_measurements(measured.peak), "records_per_sync": measured.batches},
        "half": _measurements(measured.half),
        "accepted": measured.sent,
        "refused": refused,
        "missing": missing,
        "github_waits_s": GITHUB_WAITS_S,
        "verdict": [
            *_disk_verdict(real, middle, kind),
            *_latency_verdict(measured.peak, measured.half),
            _journal_verdict(measured.sent, missing, refused),
        ],
    }


def percentile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0


def _measurements(outcome: LoadResult) -> AnswerTimes:
    return {
        "accepts_per_s": round(outcome.rate, 1),
        "p50_ms": round(outcome.percentile(0.5), 3),
        "p99_ms": round(outcome.percentile(0.99), 3),
        "p99_9_ms": round(outcome.percentile(0.999), 3),
    }


def _is_real_sync(middle_ms: float, kind: str) -> bool:
    from covenq.operate.maintain.doctor import FAST_S
    from covenq.operate.maintain.filesystem import is_memory

    return not is_memory(kind) and middle_ms >= FAST_S * 1000


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


def _latency_verdict(peak: LoadResult, half: LoadResult) -> Iterator[str]:
    late = half.percentile(0.99)
    waits = f"GitHub waits {GITHUB_WAITS_S} s: at half of the peak 99 of 100 answers take {_millis_text(late)} or less"
    yield f"{peak.rate:,.0f} deliveries a second are on disk before their 202; {peak.rate * 3600:,.0f} an hour."
    if half.percentile(0.999) >= GITHUB_WAITS_S * 1000:
        yield f"{waits}, but some take so long that GitHub counts them as failed."
    elif late > SLOW_MS:
        yield f"{waits}, which is slow: look for what else uses this disk."
    else:
        yield f"{waits}."


def _journal_verdict(sent: int, missing: int, refused: int) -> str:
    if not sent:
        return "Nothing was accepted, so nothing was measured."
    if missing:
        return f"{missing:,} of {sent:,} accepted deliveries are not in the journal. Don't rely on this disk."
    said = f"All {sent:,} accepted deliveries are in the journal."
    return f"{said} {refused:,} were refused, which shouldn't be." if refused else said


def _millis_text(millis: float) -> str:
    return f"{millis:.0f} ms" if millis < 1000 else f"{millis / 1000:.1f} s"


COLUMNS: list[Column[BenchRow]] = [
    Column("", lambda row: row.what),
    Column("A SECOND", lambda row: row.rate, right=True),
    Column("P50", lambda row: f"{row.p50_ms:.2f} ms", right=True),
    Column("P99", lambda row: f"{row.p99_ms:.2f} ms", right=True),
    Column("P99.9", lambda row: "" if row.p99_9_ms is None else f"{row.p99_9_ms:.2f} ms", right=True),
]


@dataclass(frozen=True, slots=True)
class BenchRow:
    """A line of the table. `rate` is in words, and the times are milliseconds."""

    what: str
    rate: str
    p50_ms: float
    p99_ms: float
    p99_9_ms: float | None = None


def _rows(report: BenchReport) -> list[BenchRow]:
    sync = report["sync"]
    runs = {"accepted, as many as go": report["peak"], "accepted, half as many": report["half"]}
    return [
        BenchRow("a sync, alone", "", sync["p50_ms"], sync["p99_ms"]),
        *(
            BenchRow(what, f"{one['accepts_per_s']:,.0f}", one["p50_ms"], one["p99_ms"], one["p99_9_ms"])
            for what, one in runs.items()
        ),
    ]
