"""What `covenq serve` and `covenq worker` set of themselves: whatever they inherit, commands run and are seen to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

INHERITS = """if True:
    import os, signal, sys
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM})
    os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Executes its arguments with signals ignored and blocked."""
WRAPPER = [sys.executable, "-c", INHERITS]
SIGNALS = ["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]
"""A command that prints which signals it was started with as blocked and as ignored."""
C_LIBRARYS = 0b11 << 31
"""Signals 32 and 33, which glibc keeps from every program, and which its posix_spawn (make's) leaves ignored."""

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="Linux's /proc shows a process's signals"
)


@pytest.fixture
def forked() -> bool:
    return False  # what a process sets of itself


def route(run: list[str], more: str = "") -> str:
    return f"[worker]\nconcurrency = 2\n[[route]]\nname = 'all'\nmatch = 'event:issues'\nrun = {run}\n{more}\n"


def none_in(said: str) -> bool:
    """Whether no signal that a program can have is in either line of SIGNALS' output."""
    masks = [int(line.split()[1], 16) for line in said.splitlines()]
    return [mask & ~C_LIBRARYS for mask in masks] == [0, 0]


def output_of(daemon: Daemon, task: str, attempt: int = 1) -> str:
    return (daemon.data / "attempts" / task / str(attempt) / "stdout").read_text()


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """start_worker(daemon, *words, wrapper=…) → a `covenq worker` process in `tmp_path/work`; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(daemon: Daemon, *words: str, wrapper: list[str] | None = None) -> subprocess.Popen[bytes]:
        argv = [*(wrapper or ()), sys.executable, "-m", "covenq", "worker", "--work", str(tmp_path / "work"), *words]
        with (tmp_path / f"worker{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(argv, env=daemon.environment(), stderr=log, stdout=log, cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@needs_proc
@pytest.mark.parametrize("more", ["", "limits = { open_files = 64 }"], ids=["plain", "limits"])
def test_commands_start_with_no_signal_ignored_or_blocked_and_end_whatever_serve_inherited(
    make_daemon: Make, more: str
) -> None:
    daemon = make_daemon(route(SIGNALS, more), wrapper=WRAPPER)
    task = daemon.post("issues", issue()).json["tasks"][0]
    assert daemon.wait_all_done(30) == {f"task.{task}": ["task.completed"]}
    assert none_in(output_of(daemon, task)), output_of(daemon, task)
    assert daemon.stop() == 0, "SIGTERM is neither ignored nor blocked"


@needs_proc
def test_commands_of_a_worker_start_with_no_signal_ignored_or_blocked_too(
    make_daemon: Make, start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    daemon = make_daemon("[[route]]\nname = 'p'\nmatch = 'event:issues'\npull = true\n")
    worker = start_worker(daemon, "--keep", "all", "--", *SIGNALS, wrapper=WRAPPER)
    task = daemon.post("issues", issue()).json["tasks"][0]
    assert daemon.wait_all_done(30) == {f"task.{task}": ["task.completed"]}
    [stdout] = (tmp_path / "work").rglob("stdout")
    assert none_in(stdout.read_text()), stdout.read_text()
    worker.send_signal(signal.SIGHUP)  # which nohup ignored
    for number in range(5):  # what would stop may still do one
        daemon.post("issues", issue(8 + number))
        assert len(daemon.wait_all_done(30)) == number + 2
    assert worker.poll() is None
    worker.terminate()
    eventually(lambda: worker.poll() == 0, 30, "SIGTERM ends the worker")
