"""A command that is told: argv without a shell, the notice on its standard input, a bounded environment, time and output.

It has what a route's command has of the daemon's environment, and no directory of its own: nothing is written for it, so that it
can be told of a full disk. It leads a process group, all of which is killed when its time is over, when the daemon stops, and
when it has ended by itself.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from covenq.tasks.execution import process_setup
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.process_tree import ProcessMarks, forget, starting

OUTPUT_MAX = 4096
"""Bytes that are kept of its output, from the end."""
GRACE_S = 1.0
"""Seconds between SIGTERM and SIGKILL after its time; at a stop they are the stop's."""
DIRECTORY = "/"
"""Where it starts: a program is named by its whole path, or found on PATH."""
_CHUNK = 65536
_LAST_CHUNKS = 16
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How it ended. `error` None: it exited with 0. `output` is the end of what it wrote, to either."""

    error: str | None
    output: bytes = b""


def run(
    argv: Sequence[str], env: Mapping[str, str], content: bytes, timeout_s: float, stop: StopEvent | None = None
) -> CommandEnd:
    """Run it with `content`, less than a pipe holds, as its input. Never raises for what a command or a system does."""
    lowered = process_setup.inherited_limit() if process_setup.can_lower_limit() else contextlib.nullcontext()
    try:
        with starting() as running, lowered:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=DIRECTORY,
                env=dict(env),
                bufsize=0,
                start_new_session=True,
                umask=0o077,
            )
            running[process.pid] = ProcessMarks("")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return CommandEnd(f"it could not be started: {reason}")
    output = bytearray()
    try:
        forced = _watched(process, content, output, timeout_s, stop)
    finally:
        _signal(process, signal.SIGKILL)
        code = process.wait()
        forget(process.pid)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if forced is not None:
        return CommandEnd(forced, bytes(output))
    if code:
        return CommandEnd(f"it exited with {code}" if code > 0 else f"it was ended by signal {-code}", bytes(output))
    return CommandEnd(None, bytes(output))


def _watched(
    process: subprocess.Popen[bytes], content: bytes, output: bytearray, timeout_s: float, stop: StopEvent | None
) -> str | None:
    """Until its leader has ended; why it was made to, where it was. The leader isn't reaped: its group keeps its number."""
    assert process.stdin is not None
    assert process.stdout is not None
    os.set_blocking(process.stdin.fileno(), False)
    os.set_blocking(process.stdout.fileno(), False)
    with contextlib.suppress(OSError):  # one that reads nothing, or has ended: its exit status says whether it is well
        process.stdin.write(content)
    with contextlib.suppress(OSError):
        process.stdin.close()
    deadline, kill_at, forced = time.monotonic() + timeout_s, None, None
    with contextlib.ExitStack() as undo:
        selector = undo.enter_context(selectors.PollSelector())
        selector.register(process.stdout, selectors.EVENT_READ)
        tick = _POLL_S
        if hasattr(os, "pidfd_open"):
            pidfd = os.pidfd_open(process.pid)
            undo.callback(os.close, pidfd)
            selector.register(pidfd, selectors.EVENT_READ)
            tick = 3600.0
        if stop is not None:
            selector.register(stop.fd, selectors.EVENT_READ)
        while not _exited(process):
            now = time.monotonic()
            stopped = stop is not None and stop.is_set()
            if forced is None and (stopped or now >= deadline):
                forced = "the daemon was stopped" if stopped else f"it ran longer than {timeout_s:g} s"
                kill_at = now + (stop.grace_s if stopped and stop is not None else GRACE_S)
                if stop is not None:
                    selector.unregister(stop.fd)  # it stays readable, and would wake every select
                    stop = None
                _signal(process, signal.SIGTERM)
                _signal(process, signal.SIGCONT)
            elif kill_at is not None and now >= kill_at:
                _signal(process, signal.SIGKILL)
                kill_at = None
            until = deadline if forced is None else kill_at
            left = tick if until is None else min(max(until - now, 0.0), tick)
            for key, _ in selector.select(left):
                if key.fileobj is process.stdout and _read(process, output) is None:
                    selector.unregister(process.stdout)
        for _ in range(_LAST_CHUNKS):  # a process that escaped may keep the pipe open, and full
            if not _read(process, output):
                break
    return forced


def _exited(process: subprocess.Popen[bytes]) -> bool:
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read(process: subprocess.Popen[bytes], output: bytearray) -> int | None:
    """How many bytes of output came now; None at its end."""
    assert process.stdout is not None
    try:
        piece = os.read(process.stdout.fileno(), _CHUNK)
    except BlockingIOError:
        return 0
    output += piece
    del output[:-OUTPUT_MAX]
    return len(piece) or None


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
