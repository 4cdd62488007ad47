"""Trees of processes, by /proc: what they hold of memory, and their end by SIGKILL, all at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """The process and all that it started and that runs, itself first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def pss_mib(pids: list[int]) -> float:
    """Their proportional share of memory: what several of them share is counted once."""
    kib = 0
    for pid in pids:
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def kill_tree(*roots: int) -> None:
    """SIGKILL to these processes and all below them, at once, and wait until none of them is there."""
    pids: list[int] = []
    while more := [pid for root in roots for pid in tree(root) if pid not in pids]:
        for pid in more:  # nothing of it may notice the end of another and tidy up, or start something
            _signal(pid, signal.SIGSTOP)
        pids += more
    for pid in pids:
        _signal(pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > until:
            raise RuntimeError("processes outlived SIGKILL by 20 s")
        time.sleep(0.005)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended


def _runs(pid: int) -> bool:
    """Whether it is there and no zombie, which waits only for its parent to look."""
    try:
        return (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
