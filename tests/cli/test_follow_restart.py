"""What follows finds the daemon again that was killed and started anew, as often as that happens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid
from tests.support.waiting import eventually

Make = Callable[..., Daemon]

COMMAND = """if True:
    import os, sys, time
    print("attempt", os.environ["COVENQ_ATTEMPT"], flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.02)
"""


@contextmanager
def follower(daemon: Daemon, room: Path, *words: str) -> Iterator[Callable[[], tuple[str, str]]]:
    """A command that follows, and what it has written so far to stdout and to stderr."""
    out, err = room / "out", room / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "covenq", *words],
            env=daemon.environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    try:
        yield lambda: (out.read_text(), err.read_text())
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(make_daemon: Make, room: Path) -> Iterator[tuple[Daemon, str]]:
    """A daemon whose one task has written a line and runs on, until this ends."""
    script, go_on = room / "run.py", room / "go_on"
    script.write_text(COMMAND)
    argv = json.dumps([sys.executable, str(script), str(go_on)])
    daemon = make_daemon(f"[[route]]\nname = 'all'\nmatch = 'event:issues'\nrun = {argv}\n")
    task = daemon.post("issues", issue()).json["tasks"][0]
    try:
        eventually(lambda: (daemon.data / "attempts" / task / "1" / "stdout").stat().st_size, 30, "the command runs")
        yield daemon, task
    finally:
        go_on.touch()  # what a killed daemon ran ends too


def _said(wrote: Callable[[], tuple[str, str]], which: int, words: str, times: int) -> bool:
    return wrote()[which].count(words) == times


def _delivered(daemon: Daemon) -> str:
    guid = new_guid()
    assert daemon.post("issues", issue(), guid).status == 202
    return guid


def test_tail_goes_on_after_each_kill(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon()
    guids = [_delivered(daemon)]
    daemon.kill()  # its socket stays
    with follower(daemon, tmp_path, "tail", "-f", "--jsonl") as wrote:
        for round in (1, 2):
            eventually(partial(_said, wrote, 1, "waiting for it", round), 30, "it waits")
            daemon.start()
            guids.append(_delivered(daemon))
            eventually(lambda: guids[-1] in wrote()[0], 30, "what came since is told")
            assert wrote()[1].count("The daemon is back.") == round
            daemon.kill()
    assert all(guid in wrote()[0] for guid in guids)


def test_logs_goes_on_after_each_kill(make_daemon: Make, tmp_path: Path) -> None:
    with running(make_daemon, tmp_path) as (daemon, task):
        daemon.kill()
        with follower(daemon, tmp_path, "logs", task, "-f") as wrote:
            eventually(lambda: "waiting for it" in wrote()[1], 30, "it waits")
            for attempt in (2, 3):
                daemon.start()
                eventually(partial(_said, wrote, 0, f"attempt {attempt}\n", 1), 30, "the next attempt is told")
                daemon.kill()
    assert wrote()[0] == "".join(f"attempt {n}\n" for n in (1, 2, 3))


def _ends_when_its_reader_leaves(daemon: Daemon, room: Path, *words: str) -> None:
    """Run a command that follows into a pipe, read one line, and leave."""
    with (room / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "covenq", *words],
            env=daemon.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
    try:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline()
        assert process.wait(timeout=30) == 1
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (room / "said").read_text()


def test_what_follows_ends_when_its_reader_leaves_though_nothing_more_comes(make_daemon: Make, tmp_path: Path) -> None:
    with running(make_daemon, tmp_path) as (daemon, task):
        _ends_when_its_reader_leaves(daemon, tmp_path, "tail", "-f")
        _ends_when_its_reader_leaves(daemon, tmp_path, "tail", "-f", "--jsonl")
        _ends_when_its_reader_leaves(daemon, tmp_path, "logs", task, "-f")
        daemon.kill()
        _ends_when_its_reader_leaves(daemon, tmp_path, "tail", "-f")  # which waits for a daemon
        _ends_when_its_reader_leaves(daemon, tmp_path, "logs", task, "-f")
