"""covenq bench: how many deliveries a second this machine makes durable before it answers, on the data's own disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covenq.cli import output
from covenq.cli.common import ConfigOption, DataOption, Json
from covenq.cli.context import locate
from covenq.cli.output import Column, say
from covenq.errors import CovenqError
from covenq.paths import JOURNAL_NAME

if TYPE_CHECKING:
    from covenq.cli.bench_client import Load, Outcome

GITHUB_WAITS_S = 10
"""Seconds that GitHub waits for an answer."""
LATE_MS = 1000.0
"""At half of the peak one answer in a hundred may take so long before that is called slow."""
MOST_PER_S = 6000
"""Requests a second that are made before the clock starts: more than this client can send."""
PROBE_S = 2.0
"""Seconds for the disk's syncs alone, at the most."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of single syncs, in order, and what came of the two runs."""

    syncs: list[float]
    peak: Outcome
    half: Outcome
    sent: int
    """Accepted in all runs, the warming up included."""
    found: int
    """Deliveries in the journal afterwards."""
    batches: float | None
    """Records that went to the disk with one sync, in the middle; None if it can't be known."""


def bench(
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.2, max=60, metavar="N", help="Of each measurement.")
    ] = 4.0,
    connections: Annotated[int, typer.Option("--connections", min=1, max=500, metavar="N", help="At once.")] = 64,
    size: Annotated[int, typer.Option("--size", min=1000, max=1_000_000, metavar="BYTES", help="Of a body.")] = 8192,
    json: Json = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Measure how many deliveries a second are durable before they are answered.

    With a daemon of its own in a scratch directory on the data's disk: first the disk's syncs alone, then as many deliveries
    as go, then half as many. All are signed and distinct, and those accepted are looked for in the journal. Takes 10 to 20
    seconds; the scratch directory is removed. Exits with 1 if anything accepted is missing.
    """
    from journal.file.lock import filesystem_of

    where = _existing(locate(data, config).data)
    kind = filesystem_of(where)
    measured = _measure(where, seconds=seconds, connections=connections, size=size)
    report = report_of(measured, where=str(where), kind=kind, connections=connections, size=size)
    if json:
        output.emit_json(report)
    else:
        output.table(COLUMNS, _rows(report))
        for sentence in report["verdict"]:
            say(sentence)
    if not report["ok"]:
        raise typer.Exit(1)


# ---- measuring


def _measure(where: Path, *, seconds: float, connections: int, size: int) -> Measured:
    from covenq.cli import bench_client
    from covenq.cli.demo_daemon import DemoDaemon
    from covenq.config.secret_keys import default_file

    with _scratch(where) as directory:
        say(f"Measuring in {directory}, which is removed afterwards …")
        syncs = _time_syncs(directory, min(PROBE_S, seconds))
        with DemoDaemon(directory, ["push"]) as stage:  # a route, which matches nothing of what is sent
            stage.start()
            host, _, port = stage.url.removeprefix("http://").removesuffix("/webhook").rpartition(":")
            secret = default_file(stage.data).read_text().strip()
            plan = bench_client.Load(host, int(port), secret, seconds, connections, size)
            warm = _run(replace(plan, seconds=seconds / 4))
            peak = _run(plan)
            half = _run(replace(plan, rate=max(1.0, peak.rate / 2)))
            stage.stop()
        found, batches = _in_journal(stage.data / JOURNAL_NAME)
    return Measured(syncs, peak, half, warm.accepted + peak.accepted + half.accepted, found, batches)


def _run(plan: Load) -> Outcome:
    from covenq.cli import bench_client

    # Bounded in memory as well: what is sent is made beforehand.
    count = min(int(plan.seconds * MOST_PER_S) + plan.connections, (256 << 20) // plan.size)
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


def _in_journal(directory: Path) -> tuple[int, float | None]:
    """How many deliveries the journal has, and how many records a sync covered, by what each line says was durable."""
    from journal.file.reader import open_reader

    found = 0
    watermarks: dict[int, int] = {}
    with open_reader(directory) as reader:
        for record in reader.read(0):
            found += record.kind == "delivery.received"
            watermarks[record.synced] = watermarks.get(record.synced, 0) + 1
    sizes = sorted(watermarks.values())
    return found, sizes[len(sizes) // 2] if sizes else None


def _existing(data: Path) -> Path:
    """The data directory, or what there is of the path to it: it may not have been made yet."""
    for one in (data, *data.absolute().parents):
        if one.is_dir():
            return one
    return Path("/")


@contextmanager
def _scratch(where: Path) -> Iterator[Path]:
    from covenq.cli.commands.demo import remove

    try:
        directory = Path(tempfile.mkdtemp(prefix=".bench-", dir=where))
    except OSError as error:
        raise CovenqError(
            f"nothing can be written in {where}: {error.strerror}", hint="Choose another directory with --data."
        ) from error
    try:
        yield directory
    finally:
        remove(directory)


# ---- telling


def report_of(measured: Measured, *, where: str, kind: str, connections: int, size: int) -> dict[str, Any]:
    """The one document: figures, and what they mean in sentences."""
    middle, slow = at(measured.syncs, 0.5), at(measured.syncs, 0.99)
    missing = max(0, measured.sent - measured.found)
    refused = sum(sum(one.statuses.values()) - one.accepted for one in (measured.peak, measured.half))
    real = _is_real(middle, kind)
    return {
        "ok": not missing and not refused,
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
            *_of_the_disk(real, middle, kind),
            *_of_the_answers(measured.peak, measured.half),
            _of_the_journal(measured.sent, missing, refused),
        ],
    }


def at(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0


def _measurements(outcome: Outcome) -> dict[str, float]:
    return {
        "accepts_per_s": round(outcome.rate, 1),
        "p50_ms": round(outcome.percentile(0.5), 3),
        "p99_ms": round(outcome.percentile(0.99), 3),
        "p99_9_ms": round(outcome.percentile(0.999), 3),
    }


def _is_real(middle_ms: float, kind: str) -> bool:
    from covenq.operate.maintain.doctor import FAST_S
    from journal.file.lock import MEMORY

    return kind not in MEMORY and middle_ms >= FAST_S * 1000


def _of_the_disk(real: bool, middle: float, kind: str) -> Iterator[str]:
    from covenq.operate.maintain.doctor import SLOW_S
    from journal.file.lock import MEMORY

    if kind in MEMORY:
        yield f"This is {kind}: memory, which keeps nothing over a power cut. Choose a directory on a disk with --data."
    elif not real:
        yield f"A sync in {middle:.3f} ms is none: something says that it wrote, and did not. Look at the disk's cache."
    elif middle > SLOW_S * 1000:
        yield f"The disk is slow: every delivery waits for a sync of {middle:.0f} ms."
    else:
        yield f"Syncs look real: half of them within {middle:.2f} ms."


def _of_the_answers(peak: Outcome, half: Outcome) -> Iterator[str]:
    late = half.percentile(0.99)
    waits = f"GitHub waits {GITHUB_WAITS_S} s: at half of the peak 99 of 100 answers take {_span(late)} or less"
    yield f"{peak.rate:,.0f} deliveries a second are on disk before their 202; {peak.rate * 3600:,.0f} an hour."
    if half.percentile(0.999) >= GITHUB_WAITS_S * 1000:
        yield f"{waits}, but some take so long that GitHub counts them as failed."
    elif late > LATE_MS:
        yield f"{waits}, which is slow: look for what else uses this disk."
    else:
        yield f"{waits}."


def _of_the_journal(sent: int, missing: int, refused: int) -> str:
    if missing:
        return f"{missing:,} of {sent:,} accepted deliveries are not in the journal. Don't rely on this disk."
    said = f"All {sent:,} accepted deliveries are in the journal."
    return f"{said} {refused:,} were refused, which shouldn't be." if refused else said


def _span(millis: float) -> str:
    return f"{millis:.0f} ms" if millis < 1000 else f"{millis / 1000:.1f} s"


COLUMNS = [
    Column("", lambda row: row["what"]),
    Column("A SECOND", lambda row: row["rate"], right=True),
    Column("P50", lambda row: f"{row['p50_ms']:.2f} ms", right=True),
    Column("P99", lambda row: f"{row['p99_ms']:.2f} ms", right=True),
    Column("P99.9", lambda row: f"{row['p99_9_ms']:.2f} ms" if "p99_9_ms" in row else "", right=True),
]


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"what": "a sync, alone", "rate": "", **report["sync"]},
        {"what": "accepted, as many as go", "rate": f"{report['peak']['accepts_per_s']:,.0f}", **report["peak"]},
        {"what": "accepted, half as many", "rate": f"{report['half']['accepts_per_s']:,.0f}", **report["half"]},
    ]
