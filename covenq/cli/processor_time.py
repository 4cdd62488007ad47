"""How much processor time processes have used, and the whole machine: what a benchmark's figures are to be explained by.

Linux's /proc alone tells: elsewhere it isn't known.
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def cpu_s(pid: int) -> float | None:
    """Seconds of processor time that a process has used, with those of its children that have ended; None if that isn't known."""
    fields = _stat(pid)
    return None if fields is None else sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def children_cpu_s(pid: int) -> float | None:
    """The same of its children that run: a daemon's follower is one."""
    try:
        names = [entry.name for entry in PROC.iterdir()]
    except OSError:
        return None
    found = 0.0
    for name in names:
        fields = _stat(int(name)) if name.isdecimal() else None
        if fields is not None and int(fields[1]) == pid:
            found += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return found


def machine_cpu_s() -> float | None:
    """Seconds that all processors together have been busy since the machine started."""
    try:
        with (PROC / "stat").open() as file:
            user, nice, system, _idle, _wait, interrupts, soft, *_ = map(int, file.readline().split()[1:])
    except (OSError, ValueError):
        return None
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def cores() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # a system without
        return os.cpu_count() or 1


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything. None if there are none."""
    try:
        return (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
