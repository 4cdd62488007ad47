"""Runs one command: its directory, its environment, its process group, its output, its end.

A command is argv, never a shell. It leads its own session and process group, and the group ends with it. Its output
goes through pipes that are pumped into files up to a limit; a limit by RLIMIT_FSIZE would hold for every file that the
command writes, a build's results as well, and kill it there, where only its chatter should be cut. The pipes have a
second virtue: a command whose daemon was killed gets SIGPIPE when it speaks.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO

from covenq.leftovers import FENCE, kill_leftovers
from covenq.model import TOKEN, Category
from covenq.scheduler import Outcome

KEPT = ("PATH", "HOME", "LANG", "TZ")
"""All that a command gets of the daemon's environment without its route saying so."""

OUTPUT_LIMIT = 16 * 1024 * 1024
"""Bytes kept of stdout, and of stderr."""

_TEXT_LIMIT = 4096  # of a variable: what PATH_MAX allows
_CHUNK = 65536
_LAST_CHUNKS = 64  # more than a pipe holds
_LOOK_S = 3600.0  # poll(2) takes at most 24 days; a timeout may be longer
_POLL_S = 0.02  # where the kernel has no pidfd, the end of a process is looked for this often
_PLACEHOLDER = re.compile(r"\{(brief|result|payload|task|attempt)\}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one attempt, DATA/attempts/<task>/<n>, and what stands in it."""

    directory: Path

    @classmethod
    def of(cls, data: Path, task: str, attempt: int) -> Place:
        """Only ids that are a single plain word make a path (model.TOKEN); anything else raises ValueError."""
        if not TOKEN.match(task) or attempt < 1:
            raise ValueError(f"{task[:80]!r} attempt {attempt} names no directory")
        return cls(data / "attempts" / task / str(attempt))

    @property
    def payload(self) -> Path:
        return self.directory / "payload"

    @property
    def brief(self) -> Path:
        return self.directory / "brief.json"

    @property
    def stdout(self) -> Path:
        return self.directory / "stdout"

    @property
    def stderr(self) -> Path:
        return self.directory / "stderr"

    @property
    def result(self) -> Path:
        return self.directory / "result"

    @property
    def process(self) -> Path:
        """The command's process, for a later daemon that has to end it."""
        return self.directory / "process.json"

    def prepare(self, payload: bytes, brief: bytes) -> None:
        """Make it, private to this user: the payload and the brief in it, the outputs empty. Raises OSError.

        A directory of that name is left from a history that a restore undid: it is moved aside, not written into.
        """
        attempts, task = self.directory.parents[1], self.directory.parent
        attempts.mkdir(mode=0o700, exist_ok=True)
        task.mkdir(mode=0o700, exist_ok=True)
        try:
            self.directory.mkdir(mode=0o700)
        except FileExistsError:
            self.directory.rename(task / f"{self.directory.name}.{time.time_ns()}")
            self.directory.mkdir(mode=0o700)
        try:
            files = {self.payload: payload, self.brief: brief, self.stdout: b"", self.stderr: b""}
            for path, content in files.items():
                with _open(path, os.O_CREAT | os.O_EXCL) as file:
                    _write(file, memoryview(content))
        except OSError:
            shutil.rmtree(self.directory, ignore_errors=True)  # so that it can be tried again when there is space
            raise

    def collect(self) -> bool:
        """Whether the command left a result: a plain file of its own. Makes it private, and durable with its name.

        The record that points to it comes after this, so a power cut can't leave the one without the other. Raises
        OSError when it can't be made durable.
        """
        try:
            fd = os.open(self.result, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # none, a link, a socket
            return False
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return False
            with contextlib.suppress(PermissionError):  # written by a set-uid program: it is not ours to close
                os.fchmod(fd, 0o600)
            os.fsync(fd)
        finally:
            os.close(fd)
        for directory in (self.directory, *self.directory.parents[:3]):  # up to the data directory's own names
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        return True


def _open(path: Path, flags: int = 0) -> FileIO:
    """For writing, 0600, never through a link that stands in its place."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600), "wb")


def _write(file: FileIO, content: memoryview) -> None:
    while content:
        content = content[file.write(content) :]


def command_line(run: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """A route's argv with {brief}, {result}, {payload}, {task} and {attempt} put in; other braces stay as they are."""
    return [_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in run]


def environment(base: Mapping[str, str], allowed: Iterable[str], own: Mapping[str, str | int | None]) -> dict[str, str]:
    """A command's environment: KEPT and the `allowed` names out of `base`, then `own` as COVENQ_<name>.

    What came out of a request is hostile: control characters are taken out and it is cut at 4,096 characters. None
    becomes the empty string, which every script can test.
    """
    kept = {name: base[name] for name in (*KEPT, *allowed) if name in base}
    kept.setdefault("PATH", os.defpath)
    for name, value in own.items():
        kept[f"COVENQ_{name}"] = "" if value is None else _UNPRINTABLE.sub("", str(value))[:_TEXT_LIMIT]
    return kept


class Stop:
    """Tells any number of running commands, at once, that they are to end. Set once, for good."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self.grace_s = 5.0

    @property
    def fd(self) -> int:
        """Readable, for everybody who looks, once it is set."""
        return self._read

    def set(self, grace_s: float) -> None:
        """`grace_s` is how long a command has between SIGTERM and SIGKILL."""
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
        """Only when nobody looks any more."""
        self.set(0.0)
        with self._lock:
            if self._read >= 0:
                os.close(self._read)
                self._read = -1


class _Output:
    """One pipe of the command, pumped into one file up to a limit."""

    def __init__(self, pipe: IO[bytes], file: FileIO, limit: int) -> None:
        self.pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        self._file = file
        self._left = limit
        self._limit = limit
        self._dropped = 0
        self.error: OSError | None = None

    def pump(self) -> int | None:
        """Move what is there: how many bytes (0: nothing now), or None at the end of the pipe."""
        try:
            chunk = os.read(self.pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return 0
        if not chunk:
            return None
        kept = memoryview(chunk)[: self._left] if self.error is None else memoryview(b"")
        self._dropped += len(chunk) - len(kept)
        self._left -= len(kept)
        self._write(kept)
        return len(chunk)

    def _write(self, content: memoryview) -> None:
        try:
            _write(self._file, content)
        except OSError as error:  # a full disk costs the output, not the work
            self.error = error
            self._dropped += len(content)

    def close(self) -> None:
        if self._dropped and self.error is None:
            note = f"\n[covenq: cut after {self._limit} bytes; {self._dropped} more were dropped]\n"
            self._write(memoryview(note.encode()))
        self._file.close()
        self.pipe.close()


class Command:
    """A command that was started. Call `wait` once, or `abandon`."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], place: Place, limit: int = OUTPUT_LIMIT) -> None:
        """Start it in the attempt's directory, the payload as its stdin.

        Raises OSError or ValueError when it can't be started (see `not_started`).
        """
        self._fence = env.get(FENCE, "")
        with contextlib.ExitStack() as undo:
            stdin = undo.enter_context(place.payload.open("rb"))
            files = [_open(place.stdout), _open(place.stderr)]
            for file in files:
                undo.callback(file.close)
            self._process = subprocess.Popen(
                list(argv),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=place.directory,
                env=dict(env),
                bufsize=0,
                start_new_session=True,
                umask=0o077,
            )
            undo.pop_all()
            stdin.close()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pipes = (self._process.stdout, self._process.stderr)
        self._outputs = [_Output(pipe, file, limit) for pipe, file in zip(pipes, files, strict=True)]

    @property
    def pid(self) -> int:
        """Of the command, and of its session and process group."""
        return self._process.pid

    def abandon(self) -> None:
        """End it and all it started, at once; its outcome is nobody's any more."""
        self._end(forced=True)

    def wait(self, timeout_s: float, grace_s: float, stop: Stop) -> Outcome:
        """Until it ended, by itself, by `timeout_s`, or by `stop`: then SIGTERM to the group, SIGKILL after a grace.

        The group's other members are killed when its leader is gone. An end that came before the signal counts as
        what it was.
        """
        deadline = time.monotonic() + timeout_s
        kill_at: float | None = None
        forced: Category | None = None
        with self._watch(stop) as (selector, tick):
            while not self._exited():
                now = time.monotonic()
                if forced is None and (stop.is_set() or now >= deadline):
                    forced = Category.INTERRUPTED if stop.is_set() else Category.TIMEOUT
                    kill_at = now + (stop.grace_s if stop.is_set() else grace_s)
                    with contextlib.suppress(KeyError):
                        selector.unregister(stop.fd)  # it stays readable, and must not be heard again
                    self._signal(signal.SIGTERM)
                    self._signal(signal.SIGCONT)  # a stopped process takes SIGTERM only when it goes on
                elif kill_at is not None and now >= kill_at:
                    self._signal(signal.SIGKILL)
                    kill_at = None
                until = kill_at if forced is not None else deadline
                left = _LOOK_S if until is None else min(max(until - now, 0.0), _LOOK_S)
                for key, _ in selector.select(left if tick is None else min(tick, left or tick)):
                    if isinstance(key.data, _Output) and key.data.pump() is None:
                        selector.unregister(key.fd)
        code = self._end(forced=forced is not None)
        return self._outcome(code, forced, timeout_s)

    @contextlib.contextmanager
    def _watch(self, stop: Stop) -> Iterator[tuple[selectors.BaseSelector, float | None]]:
        """A selector over the pipes, the stop and the end of the process; and how often to look besides, if it must."""
        with contextlib.ExitStack() as undo:
            selector = undo.enter_context(selectors.PollSelector())
            for output in self._outputs:
                selector.register(output.pipe, selectors.EVENT_READ, output)
            selector.register(stop.fd, selectors.EVENT_READ)
            tick: float | None = _POLL_S
            if hasattr(os, "pidfd_open"):
                pidfd = os.pidfd_open(self.pid)
                undo.callback(os.close, pidfd)
                selector.register(pidfd, selectors.EVENT_READ)
                tick = None
            yield selector, tick

    def _exited(self) -> bool:
        """Whether the leader ended. It is not reaped yet where that can be had, so its group's number stays taken."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # nobody is left, or nobody that is ours to signal
            pass

    def _end(self, *, forced: bool) -> int:
        """Kill the group, take the last output, reap the leader; its return code.

        After a forced end the fencing token finds those who had left the group. A command that ended by itself may
        leave such a process behind on purpose.
        """
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        if forced and self._fence:
            kill_leftovers({self._fence: None})
        for output in self._outputs:
            for _ in range(_LAST_CHUNKS):  # a process that got away may keep the pipe open, and full
                if not output.pump():
                    break
            output.close()
        return code

    def _outcome(self, code: int, forced: Category | None, timeout_s: float) -> Outcome:
        exit_code = code if code >= 0 else None
        number = -code if code < 0 else None
        if forced is Category.TIMEOUT:
            return Outcome(forced, exit_code, number, f"it ran longer than {timeout_s:g} s")
        if forced is Category.INTERRUPTED:
            return Outcome(forced, exit_code, number, "the daemon was stopped")
        if number is not None:
            return Outcome(Category.SIGNAL, None, number, f"it was ended by {_signal_name(number)}")
        if code:
            return Outcome(Category.EXIT, code, None, f"it exited with {code}")
        return Outcome(None, 0)


def not_started(error: OSError | ValueError) -> Outcome:
    """The outcome of a command that could not be started: category `spawn`, with the system's reason."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Outcome(Category.SPAWN, detail=f"it could not be started: {_UNPRINTABLE.sub('', reason)}"[:_TEXT_LIMIT])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
