"""Processes that a command left behind: found by what they carry, and ended.

A command is the leader of its own process group, which is ended with it. What got away from the group, or outlived a
daemon that was killed, is known by the fencing token in its environment (`COVENQ_FENCE`, unique to one claim), or by
being in the group of a leader whose pid *and* start time are the recorded ones. A pid alone is never believed: it may
be somebody else's by now. Only Linux shows these things (/proc); elsewhere nothing is found.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
FENCE = "COVENQ_FENCE"
_DEATH_MS = 2000  # the longest a killed process is waited for: one in the kernel's hands dies when that lets it go
_PASSES = 10
"""A process may fork while the list is being read; it is read again until nothing more is found."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One process, unmistakably: pid, start in clock ticks since boot, and which boot."""

    pid: int
    start: int
    boot: str


def mark_of(pid: int) -> Mark | None:
    """The mark of a process, or None where it can't be had."""
    stat = _stat(pid)
    return Mark(pid, stat.start, _boot()) if stat is not None else None


def write_mark(path: Path, mark: Mark) -> None:
    """Keep it for a later daemon, if there is space: without it the fencing token alone has to do.

    Not synced: after a power cut there is no process to find.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        os.write(fd, json.dumps(asdict(mark)).encode())
    except OSError:
        return
    finally:
        os.close(fd)


def read_mark(path: Path) -> Mark | None:
    """What `write_mark` wrote, or None if it is missing or was cut short by the daemon's death."""
    try:
        found = json.loads(path.read_bytes())
        return Mark(int(found["pid"]), int(found["start"]), str(found["boot"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def kill_leftovers(claims: Mapping[str, Mark | None]) -> list[int]:
    """SIGKILL every process of these claims (fencing token → the mark of its command, if known); the pids ended.

    They are dead on return, but for one that the kernel holds on to.
    """
    killed: list[int] = []
    for _ in range(_PASSES):
        groups = {mark.pid for mark in claims.values() if mark is not None and mark_of(mark.pid) == mark}
        found = [pid for pid in _pids() if pid not in killed and _kill(pid, claims.keys(), groups)]
        if not found:
            break
        killed += found
    return killed


def _kill(pid: int, fences: Collection[str], groups: set[int]) -> bool:
    """SIGKILL it if it is one of ours: looked at again once a descriptor pins the process, so that no other is hit."""
    if not _is_ours(pid, fences, groups):
        return False
    try:
        pinned = os.pidfd_open(pid)
    except OSError:  # gone already
        return False
    try:
        if not _is_ours(pid, fences, groups):
            return False
        signal.pidfd_send_signal(pinned, signal.SIGKILL)
        gone = select.poll()
        gone.register(pinned, select.POLLIN)
        gone.poll(_DEATH_MS)
    except OSError:  # gone meanwhile, or a set-uid program that is not ours to end
        return False
    finally:
        os.close(pinned)
    return True


def _is_ours(pid: int, fences: Collection[str], groups: set[int]) -> bool:
    stat = _stat(pid)
    if stat is None or stat.state in "ZX":
        return False
    if stat.group in groups:
        return True
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    name = FENCE.encode() + b"="
    carried = (item[len(name) :] for item in environment.split(b"\0") if item.startswith(name))
    return any(token.decode("ascii", "replace") in fences for token in carried)


def _pids() -> Iterator[int]:
    """Every process but this one. None where there is no /proc."""
    own = os.getpid()
    try:
        names = [entry.name for entry in PROC.iterdir()]
    except OSError:
        return
    for name in names:
        if name.isdecimal() and int(name) != own:
            yield int(name)


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    group: int
    start: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses, and may hold any character: the rest follows the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(state=fields[0], group=int(fields[2]), start=int(fields[19]))


@cache
def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
