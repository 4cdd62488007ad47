"""Processes of a command: found by what they carry, and ended.

A command is the leader of its own session and process group, and the group is ended with it. What got away from that, or
outlived a daemon that was killed, is known by any of these (`Trace`):

- the fencing token in its environment (`COVENQ_FENCE`, unique to one claim);
- its session or group, whose leader's pid *and* start time are the recorded ones: a pid alone is never believed;
- the command's output pipes among its descriptors;
- a parent of which one of these is true.

A process can shed all of it on purpose. Then it is an orphan, and a daemon that called `adopt` is its parent (Linux's
child subreaper). An orphan that carries no token at all and nothing of another running command, not even its directory,
is ended with the first command that is ended by force: whose it was, it took care to hide.

Only Linux shows these things (/proc); elsewhere nothing is found.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
FENCE = "COVENQ_FENCE"
_DEATH_MS = 2000  # the longest a killed process is waited for: one in the kernel's hands dies when that lets it go
_PASSES = 20
"""A process may fork while the list is being read; it is read again until nothing more is found."""

_PR_SET_CHILD_SUBREAPER = 36
_REAP_S = 5.0
"""Looking for children costs a file a thread: not more often than this."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One process, unmistakably: pid, start in clock ticks since boot, and which boot."""

    pid: int
    start: int
    boot: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What the processes of one attempt are known by. `pipes` are inodes, as the links in /proc/PID/fd name them."""

    fence: str
    mark: Mark | None = None
    directory: Path | None = None
    pipes: frozenset[str] = frozenset()


class _Own:
    """This process's commands, while they run. `lock` is held while one is started: a child is known before it can end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[int, Trace] = {}
        self.adopting = False
        self.reaped = 0.0


_own = _Own()


def adopt() -> bool:
    """Let orphans of this process's commands become its children, for good. Whether this system can."""
    if not sys.platform.startswith("linux"):
        return False
    _own.adopting = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    return _own.adopting


@contextmanager
def starting() -> Iterator[dict[int, Trace]]:
    """Start a command within this, and note its pid in what it gives: it is no orphan."""
    with _own.lock:
        yield _own.running


def ended(pid: int) -> None:
    """That command of this process is over and reaped."""
    with _own.lock:
        _own.running.pop(pid, None)


def reap() -> int:
    """Take the exit codes of adopted orphans that ended, which nobody else will. How many there were."""
    if not _own.adopting or time.monotonic() < _own.reaped + _REAP_S:
        return 0
    _own.reaped = time.monotonic()
    taken = 0
    with _own.lock:
        for pid in _children():
            stat = _stat(pid) if pid not in _own.running else None
            if stat is not None and stat.state == "Z":
                try:
                    taken += os.waitpid(pid, os.WNOHANG)[0] == pid
                except ChildProcessError:
                    continue
    return taken


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


def kill_leftovers(traces: Collection[Trace], *, orphans: bool = False) -> list[int]:
    """SIGKILL every process of these attempts; the pids ended. They are dead on return, but for one in the kernel's hands.

    With `orphans`, also what this process adopted and nobody can tell whose it is.
    """
    killed: list[int] = []
    for _ in range(_PASSES):
        seen = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None and stat.state not in "ZX"}
        found = [pid for pid in _family(seen, traces, orphans) if pid not in killed and _kill(pid, seen[pid])]
        if not found:
            break
        killed += found
    reap()
    return killed


def _family(seen: dict[int, _Stat], traces: Collection[Trace], orphans: bool) -> set[int]:
    """Who of `seen` carries a trace, and all their descendants."""
    leaders = {t.mark.pid for t in traces if t.mark is not None and mark_of(t.mark.pid) == t.mark}
    found = {pid for pid, stat in seen.items() if _carries(pid, stat, traces, leaders)}
    if orphans and _own.adopting:
        found |= _strangers(seen)
    with _own.lock:
        # Between its fork and its exec another command holds whatever we do, these commands' pipes too. None is there now.
        found -= {pid for pid, trace in _own.running.items() if trace not in traces}
    while more := {pid for pid, stat in seen.items() if stat.parent in found and pid not in found}:
        found |= more
    return found


def _carries(pid: int, stat: _Stat, traces: Collection[Trace], leaders: Collection[int]) -> bool:
    if stat.group in leaders or stat.session in leaders:
        return True
    token = _token(pid)
    if token is not None and any(token == trace.fence for trace in traces):
        return True
    pipes = frozenset[str]().union(*(trace.pipes for trace in traces))
    return bool(pipes) and not pipes.isdisjoint(_descriptors(pid))


def _is_in(pid: int, traces: Collection[Trace]) -> bool:
    """Whether it works in the directory of one of these. Anybody's shell may: that alone makes nobody ours."""
    here = _link(PROC / str(pid) / "cwd").removesuffix(" (deleted)")
    directories = [str(trace.directory) for trace in traces if trace.directory is not None]
    return any(here == one or here.startswith(one + "/") for one in directories)


def _strangers(seen: dict[int, _Stat]) -> set[int]:
    """Adopted orphans that carry nothing: no token of any claim, nothing of a command that runs."""
    own = os.getpid()
    with _own.lock:
        running = dict(_own.running)
        adopted = [pid for pid, stat in seen.items() if stat.parent == own and pid not in running]
    others = list(running.values())
    return {
        pid
        for pid in adopted
        if _token(pid) is None and not _carries(pid, seen[pid], others, running.keys()) and not _is_in(pid, others)
    }


def _kill(pid: int, stat: _Stat) -> bool:
    """SIGKILL it, once a descriptor pins the process and it is seen to be still the same one, so that no other is hit."""
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
    except OSError:  # gone meanwhile, or a set-uid program that is not ours to end
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
    # The second field is the program's name in parentheses, and may hold any character: the rest follows the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(fields[0], int(fields[1]), int(fields[2]), int(fields[3]), start=int(fields[19]))


@cache
def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
