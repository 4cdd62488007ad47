"""`covenq bench`: how many deliveries a second are durable before they are answered, on the user's own disk and routes.

Nothing of the user's is written, run or sent: the daemon that is measured has a data directory, a secret and a port of its own,
and a configuration in which what routes run or forward to isn't there (`covenq.cli.bench_deliveries`).
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covenq.cli import output
from covenq.cli.context import locate_in_use
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import say
from covenq.cli.table import print_table
from covenq.errors import CovenqError, DiskFull
from covenq.paths import JOURNAL_NAME
from journal.presence import is_directory

if TYPE_CHECKING:
    from covenq.cli.bench_client import LoadPlan, LoadResult
    from covenq.cli.bench_deliveries import BenchLoad
    from covenq.cli.bench_limit import Usage
    from covenq.cli.bench_report import Measurements
    from covenq.cli.bench_usage import Reading

RATE_MAX = 6000
"""Requests built per second of a run, before its clock starts: more than this client can send."""
REQUESTS_MAX = 256 << 20
"""Bytes of requests that are built for one run."""
DISK_MAX = 1 << 30
"""Bytes that all runs together may write, by the estimate of a delivery's in `_Room`."""
RECORD_BYTES = 2048
"""Of a record in the journal, without a payload, and of its row in state.db with the write-ahead log: estimated generously."""
KEPT_MAX = 256 << 20
"""Bytes that are left free on the disk, or a fifth of a smaller one: a daemon there closes its intake where less is."""
SYNC_PROBE_S = 1.0
"""Seconds for measuring the disk's syncs alone, at most, for each of the two sizes."""
CATCH_UP_S = 10.0
"""Seconds that the fold is waited for after a run."""


def bench(
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.2, max=60, metavar="N", help="Of the run at full load.")
    ] = 3.0,
    connections: Annotated[int, typer.Option("--connections", min=1, max=500, metavar="N", help="At once.")] = 64,
    size: Annotated[
        int | None, typer.Option("--size", min=1000, max=1_000_000, metavar="BYTES", help="Of a body, at least.")
    ] = None,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Measure how many deliveries a second are durable before they are answered, and what limits that.

    With a daemon of its own in a scratch directory on the data's disk, and your routes, of which nothing is run or forwarded:
    as many deliveries as go, then half as many. All are signed and distinct, and those accepted are looked for in the
    journal. Says in a sentence what limits: the disk's sync, the processor, the fold or the network's side. Takes about ten
    seconds; the scratch directory is removed. Exits with 1 if anything accepted is missing, or nothing was accepted.

    Before a new configuration is used: covenq bench --config new.toml
    """
    from covenq.cli.bench_deliveries import load_for
    from covenq.cli.bench_report import COLUMNS, Setting, report_of, rows_of
    from covenq.operate.maintain.filesystem import kind_of

    found = locate_in_use(data, config)
    where = _nearest_directory(found.data)
    load = load_for(found.config, size)
    room = _Room(seconds, connections, load)
    room.require(where)
    measured = _measure(where, load, room)
    path = None if found.config.path is None else str(found.config.path)
    setting = Setting(
        str(where), kind_of(where), connections, load.body_bytes, path, load.routes, tuple(load.unmatched)
    )
    report = report_of(measured, setting)
    if json:
        output.emit_json(report)
    else:
        print_table(COLUMNS, rows_of(report))
        for sentence in report["verdict"]:
            say(sentence)
    if not report["ok"]:
        raise typer.Exit(1)


# ---- its bounds


@dataclass(frozen=True, slots=True)
class _Room:
    """How many deliveries each run may send: what time, memory and the disk allow."""

    seconds: float
    connections: int
    load: BenchLoad

    @property
    def warm(self) -> int:
        return self._count(self.seconds / 4, RATE_MAX, 0.15)

    @property
    def peak(self) -> int:
        return self._count(self.seconds, RATE_MAX, 0.55)

    @property
    def half(self) -> int:
        return self._count(self.seconds / 2, RATE_MAX / 2, 0.3)

    @property
    def _each(self) -> int:
        """Bytes that a delivery takes on the disk, at most."""
        return self.load.body_bytes + int(RECORD_BYTES * (2 + self.load.tasks))

    def _count(self, seconds: float, rate: float, share: float) -> int:
        wanted = int(seconds * rate) + self.connections
        return max(
            self.connections, min(wanted, REQUESTS_MAX // self.load.body_bytes, int(share * DISK_MAX) // self._each)
        )

    def require(self, where: Path) -> None:
        """Raises DiskFull where the disk has less free than may be written, and CovenqError where it can't be asked."""
        try:
            disk = os.statvfs(where)
        except OSError as error:
            raise CovenqError(
                f"{where} can't be looked at: {error.strerror}", hint="Choose another directory with --data."
            ) from error
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        wanted = (self.warm + self.peak + self.half) * self._each + min(KEPT_MAX, total // 5)
        if free < wanted:
            raise DiskFull(
                f"there is no room for a measurement in {where}: {free >> 20} MiB are free, and"
                f" {-(-wanted >> 20)} MiB are wanted, of which a part stays free",
                hint="Try --seconds 0.5 or fewer --connections, or choose another disk's directory with --data.",
            )


# ---- measuring


def _measure(where: Path, load: BenchLoad, room: _Room) -> Measurements:
    from covenq.cli import bench_client, bench_usage
    from covenq.cli.bench_report import Measurements
    from covenq.cli.demo_daemon import DemoDaemon
    from covenq.client.open import open_source
    from covenq.config.load import Config
    from covenq.config.secret_keys import default_file

    with _scratch_directory(where) as directory:
        say(f"Measuring in {directory}, which is removed afterwards …")
        syncs = _time_syncs(directory, min(SYNC_PROBE_S, room.seconds))
        with DemoDaemon(directory, load.config) as daemon:
            daemon.start()
            client = daemon.client
            host, _, port = daemon.url.removeprefix("http://").removesuffix("/webhook").rpartition(":")
            secret = default_file(daemon.data).read_text().strip()
            plan = bench_client.LoadPlan(
                host, int(port), secret, room.seconds, room.connections, templates=load.templates
            )
            warm = _run(replace(plan, seconds=room.seconds / 4), room.warm)
            bench_usage.wait_folded(client, CATCH_UP_S)
            before = bench_usage.read(client, daemon.pid)
            peak = _run(plan, room.peak)
            after, ended = bench_usage.read(client, daemon.pid), time.monotonic()
            caught_up_s = time.monotonic() - ended if bench_usage.wait_folded(client, CATCH_UP_S) else None
            with open_source(daemon.data, Config()) as source:
                recent = source.status().journal.recent_syncs_ms
            half = _run(replace(plan, seconds=room.seconds / 2, rate=max(1.0, peak.rate / 2)), room.half)
            daemon.stop()
        alone_s = _time_batches(directory, before, after, min(SYNC_PROBE_S, room.seconds))
        found, tasks = _read_back(daemon.data / JOURNAL_NAME)
    return Measurements(
        syncs,
        peak,
        half,
        _usage(peak, before, after, alone_s, room.connections),
        recent.median if recent is not None else 0.0,
        recent.p99 if recent is not None else 0.0,
        after.lag,
        caught_up_s,
        warm.accepted + peak.accepted + half.accepted,
        found,
        tasks,
    )


def _run(plan: LoadPlan, count: int) -> LoadResult:
    from covenq.cli import bench_client

    try:
        return bench_client.run(plan, count)
    except OSError as error:
        raise CovenqError(f"the measurement came to no end: {error}", hint="Try fewer --connections.") from error


def _usage(peak: LoadResult, before: Reading, after: Reading, alone_s: float, connections: int) -> Usage:
    from covenq.cli.bench_limit import Usage
    from covenq.cli.processor_time import cores

    def spent(now: float | None, then: float | None) -> float | None:
        return None if now is None or then is None else now - then

    appended = after.head - before.head
    return Usage(
        seconds=peak.seconds,
        cores=cores(),
        connections=connections,
        accepted=peak.accepted,
        syncs=after.syncs - before.syncs,
        sync_alone_s=alone_s,
        client_cpu_s=peak.cpu_s,
        daemon_cpu_s=spent(after.daemon_cpu_s, before.daemon_cpu_s),
        follower_cpu_s=spent(after.follower_cpu_s, before.follower_cpu_s),
        machine_cpu_s=peak.machine_cpu_s,
        appended=appended,
        folded=max(0, appended - after.lag),
    )


def _time_syncs(directory: Path, seconds: float) -> list[float]:
    from covenq.operate.maintain.doctor import time_syncs

    found: list[float] = []
    began = time.perf_counter()
    try:
        while time.perf_counter() - began < seconds:
            found += [taken * 1000 for taken in time_syncs(directory, time.perf_counter)]
    except OSError as error:
        raise _unwritable(directory, error) from error
    return sorted(found)


def _time_batches(directory: Path, before: Reading, after: Reading, seconds: float) -> float:
    """Seconds that a sync takes, on average, of as many bytes as one wrote between the readings, where nothing else runs."""
    size = max(4096, (after.journal_bytes - before.journal_bytes) // max(1, after.syncs - before.syncs))
    block = os.urandom(min(size, 1 << 24))
    path = directory / "batches"
    taken: list[float] = []
    until = time.perf_counter() + seconds
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while time.perf_counter() < until and len(taken) * len(block) < KEPT_MAX // 4:
                os.pwrite(descriptor, block, len(taken) * len(block))
                begun = time.perf_counter()
                os.fdatasync(descriptor)
                taken.append(time.perf_counter() - begun)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unwritable(directory, error) from error
    return sum(taken) / len(taken) if taken else 0.0


def _unwritable(directory: Path, error: OSError) -> CovenqError:
    return CovenqError(
        f"{directory} can't be written: {error.strerror}", hint="Check the disk's space and permissions."
    )


def _read_back(directory: Path) -> tuple[int, int]:
    """The deliveries and the tasks in the journal."""
    from journal import open_reader

    found = tasks = 0
    with open_reader(directory) as reader:
        for record in reader.read(0):
            found += record.kind == "delivery.received"
            tasks += record.kind == "task.queued"
    return found, tasks


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
        # Who is impatient doesn't keep it from being removed.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        remove_directory(directory)
        for number, handler in before.items():
            signal.signal(number, handler)
