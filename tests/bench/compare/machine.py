"""What is measured on: a figure without its machine says nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from covenq.cli.processor_time import cores
from tests.bench.compare.results import Machine
from tests.bench.postgres import programs

SYNCS = 200
PACKAGES = ("covenq", "falcon", "waitress", "huey", "procrastinate", "psycopg")


def look(directory: Path) -> Machine:
    """The machine, and the disk that `directory` is on."""
    return Machine(
        day=datetime.now(UTC).strftime("%Y-%m-%d"),
        processor=_field("/proc/cpuinfo", "model name") or platform.machine(),
        cores=cores(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        kernel=f"{platform.system()} {platform.release()}",
        filesystem=_filesystem(directory),
        sync_us=_sync_us(directory),
        load=round(os.getloadavg()[0], 2),
        versions=_versions(),
    )


def _sync_us(directory: Path) -> tuple[float, float]:
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for number in range(SYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 4096, number * 4096)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1e6)
    times.sort()
    return times[SYNCS // 2], times[SYNCS * 99 // 100]


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    try:
        said = subprocess.run([str(programs() / "postgres"), "--version"], capture_output=True, text=True, check=False)
        found["PostgreSQL"] = said.stdout.split()[2]
    except (LookupError, OSError, IndexError):
        pass  # it isn't installed, which the run says
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _filesystem(directory: Path) -> str:
    """The type of the file system, by the longest mount point above the directory."""
    path, best = str(directory.resolve()), ("", "unknown")
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return sys.platform
    for line in lines:
        _, point, kind, *_ = line.split()
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) > len(best[0]):
            best = (point, kind)
    return best[1]


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
