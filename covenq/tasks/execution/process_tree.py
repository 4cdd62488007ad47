"""Finds and kills all processes of a command.

A command is the leader of its own session and process group, and the group is ended with it. A process that left the group, or
outlived a daemon that was killed, is known by any of these (`ProcessMarks`):

- the fencing token in its environment (`COVENQ_FENCE`, unique to one claim);
- its session or group, whose leader's pid *and* start time are the recorded ones: a pid alone is never believed;
- the command's output pipes among its descriptors;
- a parent of which one of these is true.

A process can shed all of these on purpose. Then it is an orphan, and its parent is a daemon that called `adopt` (Linux's
child subreaper). An orphan that has no token at all and nothing of another running command, not even its directory, is killed
when the next command is ended by force: it can't be attributed to a command, because it hid where it came from.

Only Linux shows these things (/proc); elsewhere nothing is found.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from journal.presence import is_directory

PROC = Path("/proc")
FENCE = "COVENQ_FENCE"
_DEATH_MS = 2000
"""The longest that a killed process is waited for: one in an uninterruptible system call dies only when that returns."""
_PASSES = 20
"""A process may fork while the list is being read: it is read again until nothing more is found, so often at most."""

_ANCESTORS_MAX = 1000
"""Parents that are looked at, one after another: some may change meanwhile."""

_PR_SET_CHILD_SUBREAPER = 36
_REAP_S = 5.0
"""Seconds between scans for children, each of which reads a file per thread."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """The unique identity of a process: pid, start in clock ticks since boot, and the boot's id."""

    pid: int
    start: int
    boot: str


@dataclass(frozen=True, slots=True)
class ProcessMarks:
    """What the processes of one attempt are known by. `pipes` are named as the links in /proc/PID/fd are."""

    fence: str
    identity: ProcessIdentity | None = None
    directory: Path | None = None
    pipes: frozenset[str] = frozenset()


class _Commands:
    """The running commands of this process, and its own helpers (`own`).

    `lock` is held while one is started: a child is known before it can be reaped.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[int, ProcessMarks] = {}
        self.own: set[int] = set()
        self.adopting = False
        self.reaped = 0.0


_commands = _Commands()


def adopt() -> bool:
    """Make this process the parent of its commands' orphans, for good. Returns whether the system can do that."""
    if not sys.platform.startswith("linux"):
        return False
    _commands.adopting = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    return _commands.adopting


@contextmanager
def starting() -> Iterator[dict[int, ProcessMarks]]:
    """Start a command within this, and add its pid to the result: it is no orphan."""
    with _commands.lock:
        yield _commands.running


def forget(pid: int) -> None:
    """Remove a command of this process that has ended and is reaped."""
    with _commands.lock:
        _commands.running.pop(pid, None)


@contextmanager
def starting_own() -> Iterator[set[int]]:
    """Start a process that is no command, but a part of this one, within this, and add its pid to the result.

    It is never taken for a command's, neither killed nor reaped here.
    """
    with _commands.lock:
        yield _commands.own


def forget_own(pid: int) -> None:
    """Remove a process that was started so, has ended and is reaped."""
    with _commands.lock:
        _commands.own.discard(pid)


def reap() -> int:
    """Reap adopted orphans that ended, for which nothing else waits; how many there were."""
    if not _commands.adopting or time.monotonic() < _commands.reaped + _REAP_S:
        return 0
    _commands.reaped = time.monotonic()
    taken = 0
    with _commands.lock:
        for pid in _children():
            known = pid in _commands.running or pid in _commands.own
            stat = None if known else _stat(pid)
            if stat is not None and stat.state == "Z":
                try:
                    taken += os.waitpid(pid, os.WNOHANG)[0] == pid
                except ChildProcessError:
                    continue
    return taken


def identity_of(pid: int) -> ProcessIdentity | None:
    """The identity of a process, or None where it can't be read."""
    stat = _stat(pid)
    return ProcessIdentity(pid, stat.start, _boot()) if stat is not None else None


def descends(pid: int) -> bool:
    """Whether the process is this one's descendant: a command, or what one started. Also where that can't be found out.

    Nothing that a command starts gets out of it where `adopt` succeeded. False where the system shows no processes.
    """
    if not is_directory(PROC):
        return False
    own = os.getpid()
    for _ in range(_ANCESTORS_MAX):
        if pid == own:
            return True
        stat = _stat(pid)
        if stat is None:
            return pid != 0  # it, or a parent, has ended meanwhile; 0 is the parent of the first process of all
        pid = stat.parent
    return True


def kill_leftovers(marks: Collection[ProcessMarks], *, orphans: bool = False) -> list[int]:
    """SIGKILL every process of these attempts; their pids.

    They are dead on return, but for one in an uninterruptible system call.

    With `orphans`, also those that this process adopted and that can't be attributed to any command.
    """
    killed: list[int] = []
    for _ in range(_PASSES):
        seen = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None and stat.state not in "ZX"}
        found = [pid for pid in _with_descendants(seen, marks, orphans) if pid not in killed and _kill(pid, seen[pid])]
        if not found:
            break
        killed += found
    reap()
    return killed


def _with_descendants(seen: dict[int, _Stat], marks: Collection[ProcessMarks], orphans: bool) -> set[int]:
    """Those of `seen` that match a mark, and all their descendants."""
    leaders = {t.identity.pid for t in marks if t.identity is not None and identity_of(t.identity.pid) == t.identity}
    found = {pid for pid, stat in seen.items() if _matches(pid, stat, marks, leaders)}
    if orphans and _commands.adopting:
        found |= _unclaimed_orphans(seen)
    with _commands.lock:
        # Between its fork and its exec another command has all descriptors of this process, these commands' pipes too. While
        # the lock is held, no command is between the two.
        found -= {pid for pid, mark in _commands.running.items() if mark not in marks} | _commands.own
    while more := {pid for pid, stat in seen.items() if stat.parent in found and pid not in found}:
        found |= more
    return found


def _matches(pid: int, stat: _Stat, marks: Collection[ProcessMarks], leaders: Collection[int]) -> bool:
    if stat.group in leaders or stat.session in leaders:
        return True
    token = _token(pid)
    if token is not None and any(token == mark.fence for mark in marks):
        return True
    pipes = frozenset[str]().union(*(mark.pipes for mark in marks))
    return bool(pipes) and not pipes.isdisjoint(_descriptors(pid))


def _works_in(pid: int, marks: Collection[ProcessMarks]) -> bool:
    """Whether its working directory is that of one of these. A user's shell may be there too: this alone attributes nothing."""
    here = _link(PROC / str(pid) / "cwd").removesuffix(" (deleted)")
    directories = [str(mark.directory) for mark in marks if mark.directory is not None]
    return any(here == one or here.startswith(one + "/") for one in directories)


def _unclaimed_orphans(seen: dict[int, _Stat]) -> set[int]:
    """Adopted orphans without any mark: no token of any claim, nothing of a running command."""
    own = os.getpid()
    with _commands.lock:
        running = dict(_commands.running)
        known = {*running, *_commands.own}
        adopted = [pid for pid, stat in seen.items() if stat.parent == own and pid not in known]
    others = list(running.values())
    return {
        pid
        for pid in adopted
        if _token(pid) is None and not _matches(pid, seen[pid], others, running.keys()) and not _works_in(pid, others)
    }


def _kill(pid: int, stat: _Stat) -> bool:
    """SIGKILL it through a pidfd, once it is known to be still the same process, so that no other is hit; whether it was."""
    try:
        pinned = os.pidfd_open(pid)
    except OSError:  # gone already
        return False
    try:
        now = _stat(pid)
        if now is None or now.start != stat.start:
            return False
        signal.pidfd_send_signal(pinned, signal.SIGKILL)
        gone = select.poll()
        gone.register(pinned, select.POLLIN)
        gone.poll(_DEATH_MS)
    except OSError:  # gone meanwhile, or a set-uid program that this user may not signal
        return False
    finally:
        os.close(pinned)
    return True


def _token(pid: int) -> str | None:
    """The fencing token that it was started with, if any."""
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    name = FENCE.encode() + b"="
    found = (item[len(name) :] for item in environment.split(b"\0") if item.startswith(name))
    return next((token.decode("ascii", "replace") for token in found), None)


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a Path would normalise what is only compared
    except OSError:
        return ""


def _descriptors(pid: int) -> list[str]:
    directory = PROC / str(pid) / "fd"
    try:
        names = [entry.name for entry in directory.iterdir()]
    except OSError:
        return []
    return [_link(directory / name) for name in names]


def pipe_name(fd: int) -> str:
    """An open pipe, as the links in /proc/PID/fd name it."""
    return f"pipe:[{os.fstat(fd).st_ino}]"


def _children() -> list[int]:
    """This process's children."""
    own = PROC / "self" / "task"
    try:
        return [int(word) for task in own.iterdir() for word in (task / "children").read_text().split()]
    except OSError:  # a kernel that doesn't list them
        me = os.getpid()
        return [pid for pid in _pids() if (stat := _stat(pid)) is not None and stat.parent == me]


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
    parent: int
    group: int
    session: int
    start: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses, with any characters: the rest follows the last parenthesis.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(fields[0], int(fields[1]), int(fields[2]), int(fields[3]), start=int(fields[19]))


@cache
def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
