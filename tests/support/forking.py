"""Commands and daemons as processes of their own, forked from one that has imported covenq: real descriptors, limits, users and
signals, at a fraction of the time that Python and its imports take.

This file is both: `Forker` is what tests use, and run as a program it is the process that forks.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[2]
HANG_S = 60
"""Seconds after which a command that does not end is ended by SIGALRM."""
MOST_STDIN = 4096
"""Bytes that any pipe has room for: they are in it before the command starts."""
OUTSIDE = (
    "http.client", "rich.console", "rich.progress", "getpass", "pwd", "stringprep", "unicodedata", "sqlite3", "shlex",
    "concurrent.futures.thread", "orjson", "asyncio", "ctypes", "traceback", "pickle", "locale", "gettext", "textwrap",
    "difflib", "wsgiref.handlers", "logging.handlers", "importlib.readers", "importlib.resources", "encodings.idna",
    "encodings.latin_1", "encodings.ascii", "encodings.unicode_escape", "encodings.utf_8_sig",
)  # fmt: skip
"""Modules that commands import late, and that a user without access to the interpreter's files could not import."""


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code (negative: the signal), and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        return self.stderr.decode("utf-8", "replace")


class ForkedDaemon:
    """A daemon that was forked, with what tests use of `subprocess.Popen`; for any thread."""

    def __init__(self, forker: Forker, pid: int) -> None:
        self._forker = forker
        self.pid = pid
        self.returncode: int | None = None
        self._polling = threading.Lock()

    def poll(self) -> int | None:
        with self._polling:
            if self.returncode is None:
                self.returncode = self._forker.exit_code(self.pid)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.0005
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"the daemon {self.pid}", timeout or 0.0)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        return code

    def send_signal(self, number: int) -> None:
        with self._polling:
            if self.returncode is None:  # until it is asked for, the number is no other process's
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forker:
    """Starts the process that forks: one command at a time, or any number of daemons. Use as a context.

    Not both of one: while it waits for a command, nobody is told of a daemon's end.
    """

    def __init__(self, *, env: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONPATH": path} if env is None else env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._asking = threading.Lock()

    def __enter__(self) -> Forker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(
        self,
        *args: str,
        env: Mapping[str, str],
        cwd: Path,
        stdout: str = "file",
        file_limit: int | None = None,
        user: int | None = None,
        closed: Sequence[int] = (),
        swallowing: bool = False,
        while_running: Callable[[int], None] | None = None,
        stdin: bytes | None = None,
        umask: int | None = None,
        hang_s: float = HANG_S,
    ) -> Done:
        """Run `covenq ARGS` to its end.

        `stdout`: "file"; "gone", a pipe nobody reads any more; "full", a device that is full; "stuck", a pipe that is full
        and not read; "terminal", where stderr and stdin are one too. `file_limit`: bytes that a file may have. `user`: whom
        to become. `closed`: standard descriptors that it starts without. `swallowing`: questions of paths answer "no" to what
        can't be looked at, as they do since Python 3.14.
        `while_running` is called with the pid. `stdin`: what a pipe gives it, `MOST_STDIN` bytes at most; None: nothing there.
        """
        with tempfile.TemporaryDirectory(prefix="covenq-forked-") as scratch:
            asked = {"args": args, "env": dict(env), "cwd": str(cwd), "stdout": stdout, "scratch": scratch}
            asked |= {"file_limit": file_limit, "user": user, "closed": list(closed), "swallowing": swallowing}
            asked |= {"stdin": None if stdin is None else stdin.decode("latin-1"), "umask": umask, "hang_s": hang_s}
            pid = int(self._ask(asked)["pid"])
            try:
                if while_running is not None:
                    while_running(pid)
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                self._ask({"wait": pid})
                raise
            code = int(self._ask({"wait": pid})["code"])
            said = [(Path(scratch) / name).read_bytes() for name in ("out", "err")]
        return Done(code, *said)

    def start_daemon(self, *args: str, env: Mapping[str, str], cwd: Path, umask: int, log: Path) -> ForkedDaemon:
        """`covenq ARGS` in a session of its own, with nothing on its standard input and its output at the end of `log`."""
        asked = {"args": args, "env": dict(env), "cwd": str(cwd), "umask": umask, "log": str(log)}
        return ForkedDaemon(self, int(self._ask(asked)["pid"]))

    def exit_code(self, pid: int) -> int | None:
        """Of a daemon, negative: the signal; None while it runs. To be asked for until it has one, and then no more."""
        code: int | None = self._ask({"poll": pid})["code"]
        return code

    def _ask(self, what: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        with self._asking:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


# ---- the process that forks


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for whoever runs the tests, who then ends this
    sys.path[0] = str(ROOT)  # not this directory, whose names are those of libraries too
    for name in OUTSIDE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _import_covenq()
    importlib.import_module("tests.support.forked_follower")
    gc.collect()
    gc.freeze()  # what no child looks through stays shared between all of them
    copying: dict[int, int] = {}
    unread: dict[int, int] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            pid = asked["wait"]
            _, status = os.waitpid(pid, 0)
            if pid in copying:
                os.waitpid(copying.pop(pid), 0)
            if pid in unread:
                os.close(unread.pop(pid))
            answer = {"code": os.waitstatus_to_exitcode(status)}
        elif "poll" in asked:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
        elif "log" in asked:
            answer = {"pid": _start_daemon(asked)}
        else:
            pid = _start(asked, copying, unread)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


def _import_covenq() -> None:
    import covenq
    import journal

    for package in (covenq, journal):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.startswith(("covenq.tui.", "covenq.__main__")):
                importlib.import_module(module.name)
    from covenq.cli.app import COMMANDS, build

    for name in COMMANDS:  # Typer too imports late: what it converts options with
        build(name).make_context(name, [], resilient_parsing=True)


def _start(asked: dict[str, Any], copying: dict[int, int], unread: dict[int, int]) -> int:
    scratch = Path(asked["scratch"])
    out, err = (os.open(scratch / name, os.O_RDWR | os.O_CREAT) for name in ("out", "err"))
    kept = [out, err]
    terminal = None
    if asked["stdout"] == "gone":
        reader, out = os.pipe()
        os.close(reader)
        kept.append(out)
    elif asked["stdout"] == "full":
        out = os.open("/dev/full", os.O_WRONLY)
        kept.append(out)
    elif asked["stdout"] == "stuck":
        reader, out = os.pipe()
        kept.append(out)
        os.set_blocking(out, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(out, b"x" * 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(out, b"x")
        os.set_blocking(out, True)
    elif asked["stdout"] == "terminal":
        terminal, out = os.openpty()
        kept += [terminal, out]
    pid = os.fork()
    if pid == 0:
        _settle(asked, out, out if asked["stdout"] == "terminal" else err)
        _run()
    if asked["stdout"] == "stuck":
        unread[pid] = reader
    if terminal is not None:  # what is written to a terminal is gone when its last writer is, so it is read meanwhile
        copier = os.fork()
        if copier == 0:
            os.close(out)
            with contextlib.suppress(OSError):
                while data := os.read(terminal, 65536):
                    os.write(kept[0], data)
            os._exit(0)
        copying[pid] = copier
    for descriptor in kept:
        os.close(descriptor)
    return pid


def _start_daemon(asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        _settle({"stdin": None, "closed": (), "swallowing": False, "file_limit": None, "user": None, **asked}, log, log)
        if "serve" in asked["args"]:
            from tests.support.forked_follower import fork_follower

            fork_follower()
        _run()
    return pid


def _run() -> NoReturn:
    """In the child: the command or daemon, and the end of the interpreter without its cleaning up of modules."""
    code = 70
    try:
        from covenq.cli.main import main

        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            threading._shutdown()  # waits for the threads that the interpreter waits for
            atexit._run_exitfuncs()
            try:
                if sys.stdout is not None:
                    sys.stdout.flush()  # as the interpreter does at its end, and says so when it can't
            except OSError as error:
                print(f"Exception ignored: {error}", file=sys.stderr)
                code = 120
    except BaseException:  # noqa: BLE001 - what the interpreter would do
        import traceback

        traceback.print_exc()
        code = 1
    os._exit(code)


def _settle(asked: dict[str, Any], out: int, err: int) -> None:
    """Take up what the process is given: session, descriptors, directory, environment, limits, user, arguments."""
    from journal import append

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    signal.setitimer(signal.ITIMER_REAL, asked.get("hang_s", 0))
    for descriptor, place in ((out if os.isatty(out) else _stdin(asked["stdin"]), 0), (out, 1), (err, 2)):
        os.dup2(descriptor, place)
    os.closerange(3, 256)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors=sys.stdout.errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    for descriptor in asked["closed"]:
        os.close(descriptor)
        setattr(sys, ("stdin", "stdout", "stderr")[descriptor], None)  # as the interpreter starts then
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    if asked["umask"] is not None:
        os.umask(asked["umask"])
    if asked["swallowing"]:
        _swallow_errors()
    if asked["file_limit"] is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_limit"], asked["file_limit"]))
    if asked["user"] is not None:
        os.setgroups([])
        os.setgid(asked["user"])
        os.setuid(asked["user"])
    sys.argv = [str(ROOT / "covenq" / "__main__.py"), *asked["args"]]
    sys.path[0] = asked["cwd"]
    assert append._PROCESS  # by which one process's appends are told from another's: it is made when covenq is imported
    append._PROCESS = secrets.token_hex(8)


def _stdin(given: str | None) -> int:
    if given is None:
        return os.open(os.devnull, os.O_RDONLY)
    reader, writer = os.pipe()
    os.write(writer, given.encode("latin-1"))
    os.close(writer)
    return reader


def _swallow_errors() -> None:
    """Have questions of paths answer as they do since Python 3.14."""
    for name, answer in (
        ("exists", os.path.exists),
        ("is_dir", os.path.isdir),
        ("is_file", os.path.isfile),
        ("is_symlink", os.path.islink),
    ):
        setattr(Path, name, lambda path, answer=answer: answer(path))


if __name__ == "__main__":
    _serve()
