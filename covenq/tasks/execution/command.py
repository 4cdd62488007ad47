"""A command: a process group in its own session, with its directory, its environment, its output and its end.

A command is argv, never a shell. It leads its own session and process group, and the group ends with it. Its output
goes through pipes that are pumped into files up to a limit. A limit by RLIMIT_FSIZE would apply to every file that the
command writes, a build's results as well, and kill it there, where only its output should be cut. The pipes have a
second advantage: a command whose daemon was killed gets SIGPIPE when it writes.

A command that runs under a lease has a guard beside it, which ends it before the lease does (`lease_guard`).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from typing import IO

from covenq.config.resources import NO_LIMITS, OUTPUT_LIMIT, ResourceLimits
from covenq.model import Category
from covenq.tasks.execution import launch, process_setup
from covenq.tasks.execution.brief import printable
from covenq.tasks.execution.guard_line import GuardLine
from covenq.tasks.execution.held_lease import HeldLease
from covenq.tasks.execution.output import Output
from covenq.tasks.execution.process_tree import (
    FENCE,
    ProcessMarks,
    forget,
    identity_of,
    kill_leftovers,
    pipe_name,
    starting,
)
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.execution.shortage import given_back, is_shortage
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.scheduling.outcome import Outcome, Usage

PROGRAM_MAX = 200  # characters of a program's name that are told of
_LAST_CHUNKS = 64  # more than a pipe holds
_SELECT_MAX_S = 3600.0  # poll(2) takes at most 24 days; a timeout may be longer
_POLL_S = 0.02  # where the kernel has no pidfd, the end of a process is looked for this often


class LimitedStartError(OSError):
    """The command can't be executed within its own limits, or can't be executed at all: not this process's affair."""


class StopEvent:
    """An event with a file descriptor, which tells any number of running commands to end. Set once, for good."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self.grace_s = 5.0

    @property
    def fd(self) -> int:
        """Readable, for every thread that polls it, once the event is set."""
        return self._read

    def set(self, grace_s: float) -> None:
        """`grace_s` is the time that a command has between SIGTERM and SIGKILL."""
        with self._lock:
            if not self._event.is_set():
                self.grace_s = grace_s
                self._event.set()
                os.close(self._write)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(timeout)

    def close(self) -> None:
        """Only when no thread polls it any more."""
        self.set(0.0)
        with self._lock:
            if self._read >= 0:
                os.close(self._read)
                self._read = -1


class Command:
    """A command that was started. Call `wait` once, or `kill`."""

    usage: Usage | None = None
    """Resources that it and the children it waited for have used, once it ended."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        directory: AttemptDirectory,
        limit: int = OUTPUT_LIMIT,
        *,
        limits: ResourceLimits = NO_LIMITS,
        scrubber: Scrubber | None = None,
        lease: HeldLease | None = None,
    ) -> None:
        """Start it in the attempt's directory, the payload as its stdin. At most `limit` bytes of each output are kept.

        With `lease`, under a guard. Raises OSError or ValueError when it can't be started (see `not_started`); LimitedStartError
        with ETIME where the lease is over.
        """
        self._limits = limits
        self._lease = lease
        with contextlib.ExitStack() as always, contextlib.ExitStack() as undo:
            stdin = always.enter_context(directory.open(directory.payload.name))
            names = (directory.stdout.name, directory.stderr.name)
            files = [undo.enter_context(directory.open(name, os.O_WRONLY)) for name in names]
            self._line = None if lease is None else GuardLine()
            undo.callback(self._dismiss_guard)
            words, status, pass_fds = _with_limits(argv, env, limits, always, self._guard_words())
            try:
                guard = () if self._line is None else (self._line.passed_on,)
                pipes = self._start(words, env, directory, stdin, (*pass_fds, *guard))
            finally:
                for fd in pass_fds:
                    os.close(fd)
            undo.pop_all()
            scrub = scrubber or Scrubber()
            self._outputs = [
                Output(pipe, file, directory.root, limits.output or limit, scrub.stream())
                for pipe, file in zip(pipes, files, strict=True)
            ]
            number = b"" if status is None else status.read()
            if self._line is not None:
                self._line.started()
            if number:
                self._end(forced=True)
                raise LimitedStartError(int(number), os.strerror(int(number)), argv[0])

            if self._lease is not None and self._line is not None:
                self._lease.guard(self._line)

    def _guard_words(self) -> str:
        """What `launch` is told of the guard; nothing where there is none."""
        if self._line is None or self._lease is None:
            return ""
        return f"{self._line.passed_on} {self._lease.times.term_at!r} {self._lease.times.kill_at!r}"

    def _dismiss_guard(self) -> None:
        """The command has ended, or was not started."""
        if self._line is None or self._lease is None:
            return
        self._lease.unguard()
        self._line.dismiss()
        if self._line.began:
            self._lease.lose(0.0)
        self._line = None

    def _start(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        directory: AttemptDirectory,
        stdin: IO[bytes],
        pass_fds: tuple[int, ...],
    ) -> tuple[IO[bytes], IO[bytes]]:
        """Start the process, known to `process_tree` before it can end; its output pipes."""
        lowered = process_setup.inherited_limit() if not pass_fds else contextlib.nullcontext()
        with starting() as running, lowered:
            self._process = subprocess.Popen(
                words,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory.path,
                env=dict(env),
                bufsize=0,
                start_new_session=True,
                umask=0o077,
                pass_fds=pass_fds,
            )
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            pipes = (self._process.stdout, self._process.stderr)
            names = frozenset(pipe_name(pipe.fileno()) for pipe in pipes)
            self._mark = ProcessMarks(env.get(FENCE, ""), identity_of(self.pid), directory.path, names)
            running[self.pid] = self._mark
        return pipes

    @property
    def pid(self) -> int:
        """Of the command, and of its session and process group."""
        return self._process.pid

    def kill(self) -> None:
        """Kill it and all that it started; its outcome is dropped."""
        self._end(forced=True)

    def wait(self, timeout_s: float, grace_s: float, stop: StopEvent, lost: StopEvent | None = None) -> Outcome:
        """Wait until it has ended: by itself, or by `timeout_s`, `stop` or `lost`.

        Those three send SIGTERM to the group, and SIGKILL after the grace. `lost` means that the task is no longer this
        attempt's: the outcome will be dropped.

        The other members of the group are killed when its leader has ended. If the command ended before the signal, its own
        exit counts. A command whose guard was killed is killed too.
        """
        deadline = time.monotonic() + timeout_s
        kill_at: float | None = None
        forced: Category | None = None
        stops = [stop] if lost is None else [stop, lost]
        with self._watch(stops) as (selector, tick):
            while not self._exited():
                now = time.monotonic()
                stopped = next((one for one in stops if one.is_set()), None)
                unguarded = self._line is not None and self._line.gone
                if forced is None and (stopped is not None or unguarded or now >= deadline):
                    if stopped is not None:
                        forced, grace = Category.INTERRUPTED, stopped.grace_s
                    else:
                        forced, grace = (Category.INTERNAL, 0.0) if unguarded else (Category.TIMEOUT, grace_s)
                    kill_at = now + grace
                    for one in stops:
                        with contextlib.suppress(KeyError):
                            selector.unregister(one.fd)  # it stays readable, and would wake every select
                    if self._line is None or not self._line.began:  # else the guard has sent it
                        self._signal(signal.SIGTERM)
                        self._signal(signal.SIGCONT)  # a stopped process takes SIGTERM only when it goes on
                elif kill_at is not None and now >= kill_at:
                    self._signal(signal.SIGKILL)
                    kill_at = None
                until = kill_at if forced is not None else deadline
                left = _SELECT_MAX_S if until is None else min(max(until - now, 0.0), _SELECT_MAX_S)
                for key, _ in selector.select(left if tick is None else min(tick, left or tick)):
                    if isinstance(key.data, Output) and key.data.pump() is None:
                        selector.unregister(key.fd)
                    elif isinstance(key.data, GuardLine):
                        self._hear(key.data)
                        if key.data.gone:
                            selector.unregister(key.fd)
        code = self._end(forced=forced is not None)
        return self._outcome(code, forced, timeout_s)

    def _hear(self, line: GuardLine) -> None:
        line.read()
        if line.began and self._lease is not None:
            term_at, kill_at = self._lease.times
            self._lease.lose(kill_at - term_at)

    @contextlib.contextmanager
    def _watch(self, stops: Sequence[StopEvent]) -> Iterator[tuple[selectors.BaseSelector, float | None]]:
        """A selector over the pipes, the stops and the end of the process; and the interval for polling, where it is needed."""
        with contextlib.ExitStack() as undo:
            selector = undo.enter_context(selectors.PollSelector())
            for output in self._outputs:
                selector.register(output.pipe, selectors.EVENT_READ, output)
            for one in stops:
                selector.register(one.fd, selectors.EVENT_READ)
            if self._line is not None:
                selector.register(self._line.fd, selectors.EVENT_READ, self._line)
            tick: float | None = _POLL_S
            if hasattr(os, "pidfd_open"):
                pidfd = os.pidfd_open(self.pid)
                undo.callback(os.close, pidfd)
                selector.register(pidfd, selectors.EVENT_READ)
                tick = None
            yield selector, tick

    def _exited(self) -> bool:
        """Whether the leader ended.

        Where the system can tell without reaping it, it isn't reaped, and its group's number stays in use.
        """
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # no process is left, or none that this user may signal
            pass

    def _end(self, *, forced: bool) -> int:
        """Kill the group, reap the leader, read the rest of the output; the leader's return code.

        After a forced end, all other processes that it started are found and killed too, in whatever session they are. A command
        that ended by itself may leave a process of another session behind on purpose. The leader is reaped after the kills: until
        then no other process can get its pid, by which its group and its session are recognised.
        """
        self._signal(signal.SIGKILL)
        if forced:
            kill_leftovers([self._mark], orphans=True)
        code = self._reap()
        forget(self.pid)
        self._dismiss_guard()
        for output in self._outputs:
            for _ in range(_LAST_CHUNKS):  # a process that escaped may keep the pipe open, and full
                if not output.pump():
                    break
            output.close()
        return code

    def _reap(self) -> int:
        if self._process.returncode is not None:  # `_exited` reaped it, where the system has no other way
            return self._process.returncode
        _, status, used = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        rss = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.usage = Usage(used.ru_utime, used.ru_stime, rss)
        return self._process.returncode

    def _outcome(self, code: int, forced: Category | None, timeout_s: float) -> Outcome:
        exit_code = code if code >= 0 else None
        number = -code if code < 0 else None
        category: Category
        if forced is Category.TIMEOUT:
            category, detail = forced, f"it ran longer than {timeout_s:g} s"
        elif forced is Category.INTERNAL:
            category, detail = forced, "the process that guards its lease was killed"
        elif forced is not None:
            category, detail = forced, "the daemon was stopped"
        elif number is not None:
            category, detail = Category.SIGNAL, f"it was ended by {_signal_name(number)}"
            if number == signal.SIGXCPU and self._limits.cpu_s is not None:
                detail += f": it used up its {self._limits.cpu_s} s of processor time"
            elif number == signal.SIGXFSZ and self._limits.file_size is not None:
                detail += f": a file of it passed its {self._limits.file_size} bytes"
        elif code:
            category, detail = Category.EXIT, f"it exited with {code}"
        else:
            return Outcome(None, 0, usage=self.usage)
        return Outcome(category, exit_code, number, detail, usage=self.usage)


def _with_limits(
    argv: Sequence[str], env: Mapping[str, str], limits: ResourceLimits, cleanup: contextlib.ExitStack, guard: str = ""
) -> tuple[list[str], IO[bytes] | None, tuple[int, ...]]:
    """The argv to start, through `launch` where there are resource limits to set, or a guard, or this process has too much open.

    Then also a pipe that gives the number of the error that kept the command from starting, and the descriptor of its other
    end, to be passed on and closed.
    """
    resources = limits.resources()
    if not resources and not guard and process_setup.can_lower_limit():
        return list(argv), None, ()
    if limits.open_files is None:
        resources = [*resources, *process_setup.inherited_limits()]
    read, write = os.pipe()
    status = cleanup.enter_context(FileIO(read))
    numbers = " ".join(f"{number},{soft},{hard}" for number, soft, hard in resources)
    given = (str(write), numbers, f"={env['LC_CTYPE']}" if "LC_CTYPE" in env else "", guard)
    return [sys.executable, "-I", "-S", launch.__file__, *given, *argv], status, (write,)


def not_started(error: OSError | ValueError, program: str = "it") -> Outcome:
    """The outcome of a command that could not be started: category `spawn`, with the program and the system's reason.

    Or given back (`interrupted`), where it is this process that is short of something. `program` is as the route names it, with
    its placeholders: what they stand for is the payload's, and no record's data.
    """
    if isinstance(error, OSError) and not isinstance(error, LimitedStartError) and is_shortage(error):
        return given_back(error)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Outcome(
        Category.SPAWN, detail=printable(f"{program[:PROGRAM_MAX] or repr(program)} could not be started: {reason}")
    )


def not_watched(error: OSError) -> Outcome:
    """The outcome of a command that was ended because its process could not be watched: given back, or category `spawn`."""
    if is_shortage(error):
        return given_back(error)
    return Outcome(Category.SPAWN, detail=f"it could not be watched, and was ended: {error.strerror}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
