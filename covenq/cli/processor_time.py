"""How much processor time processes have used, and the whole machine: what a benchmark's figures are to be explained by.

Linux's /proc alone tells: elsewhere it isn't known.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

PROC = Path("/proc")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""A container's quota of processor time, and the period that it is for."""


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
    """Seconds that the processors which this process may use have been busy, whoever used them; None if that isn't known.

    It isn't where a quota gives this process a part of them: then it doesn't matter how busy they are.
    """
    if _quota() is not None:
        return None
    used = _affinity()
    found = 0
    try:
        with (PROC / "stat").open() as file:
            for line in file:
                name, *fields = line.split()
                number = name.removeprefix("cpu")
                if number.isdecimal() and (used is None or int(number) in used):
                    user, nice, system, _idle, _wait, interrupts, soft, *_ = map(int, fields)
                    found += user + nice + system + interrupts + soft
    except (OSError, ValueError):
        return None
    return found / os.sysconf("SC_CLK_TCK")


def cores() -> int:
    """The processors that this process may use, or as many as a quota gives it time for, rounded up."""
    used = _affinity()
    there = (os.cpu_count() or 1) if used is None else len(used)
    quota = _quota()
    return there if quota is None else max(1, min(there, math.ceil(quota)))


def _affinity() -> set[int] | None:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # a system without
        return None


def _quota() -> float | None:
    """The cores' worth of time that a container is given; None where there is no such limit."""
    try:
        quota, period = CPU_MAX.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything. None if there are none."""
    try:
        return (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
