"""The program of `covenq worker`: found from where the worker was started, and no task is spent on one that is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.requests import issue
from tests.support.waiting import eventually

PULL = '[[route]]\nname = "p"\nmatch = "event:issues"\npull = true\n'

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(daemon, *words) → a `covenq worker` in `tmp_path/here`, which logs to `tmp_path/log`; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []
    here = tmp_path / "here"
    here.mkdir()

    def run(daemon: Daemon, *words: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "covenq", "worker", "--work", str(tmp_path / "work"), *words]
        env = {**daemon.environment(), "PYTHONPATH": str(ROOT)}
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen(argv, env=env, stderr=log, stdout=log, cwd=here))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def script(path: Path, text: str = "exit 0", interpreter: str = "/bin/sh") -> Path:
    path.write_text(f"#!{interpreter}\n{text}\n")
    path.chmod(0o755)
    return path


def state(daemon: Daemon, task: str) -> str:
    return str(daemon.api(f"/api/v1/tasks/{task}").json["state"])


def claims(daemon: Daemon) -> int:
    return len(list(records(daemon.data, "task.claimed")))


def post(daemon: Daemon, *numbers: int) -> list[str]:
    return [daemon.post("issues", issue(number)).json["tasks"][0] for number in numbers]


def test_a_program_in_the_directory_where_the_worker_was_started_is_found(
    make_daemon: Any, start: Start, tmp_path: Path
) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    tasks = post(daemon, 1, 2, 3)
    script(tmp_path / "here" / "wk.sh", 'test "$1" = --brief && test -s "$2"')
    start(daemon, "--", "./wk.sh", "--brief", "{brief}")
    eventually(lambda: [state(daemon, task) for task in tasks] == ["completed"] * 3, what="all are completed")


@pytest.mark.parametrize(
    ("program", "words", "hint"),
    [
        ("./nonexistent", "there is no program {here}/nonexistent", "whole path"),
        ("nonexistent-program", "'nonexistent-program' is no command that this user finds", "whole path"),
        ("CMD", "'CMD' is no command that this user finds", "stands for a command of yours"),
        ("wk.sh", "'wk.sh' is no command that this user finds", "Write ./wk.sh"),
        ("./plain", "{here}/plain can't be executed", "chmod +x {here}/plain"),
        ("./directory", "{here}/directory is no program", "whole path"),
        ("./can't be executed by this user", "there is no program {here}/can't be executed", "whole path"),
    ],
)
def test_a_program_that_cant_be_started_is_refused_before_a_task_is_claimed(
    make_daemon: Any, start: Start, tmp_path: Path, program: str, words: str, hint: str
) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    post(daemon, 1)
    here = tmp_path / "here"
    script(here / "wk.sh")
    (here / "plain").touch()
    (here / "directory").mkdir()
    assert start(daemon, "--", program, "{brief}").wait(60) == 2
    said = (tmp_path / "log").read_text()
    assert words.format(here=here) in said and hint.format(here=here) in said
    assert claims(daemon) == 0


def test_a_program_that_is_removed_costs_no_task_and_is_waited_for(
    make_daemon: Any, start: Start, tmp_path: Path
) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    program, log = script(tmp_path / "here" / "wk.sh"), tmp_path / "log"
    worker = start(daemon, "--", "./wk.sh")
    (first,) = post(daemon, 1)
    eventually(lambda: state(daemon, first) == "completed", what="it works")
    program.unlink()
    tasks = post(daemon, 2, 3, 4)
    eventually(lambda: f"there is no program {program}" in log.read_text(), 60, "the log says what is missing")
    assert {state(daemon, task) for task in tasks} <= {"queued", "running"}
    assert claims(daemon) <= 2  # that for which it waited may have brought one, which is given back
    script(program)
    eventually(lambda: [state(daemon, task) for task in tasks] == ["completed"] * 3, 60, "they are done after all")
    assert worker.poll() is None
    assert not list(records(daemon.data, "task.failed"))


def test_a_program_whose_interpreter_is_missing_gives_its_tasks_back(
    make_daemon: Any, start: Start, tmp_path: Path
) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    tasks = post(daemon, 1, 2)
    program, log = script(tmp_path / "here" / "wk.sh", interpreter="/nonexistent/sh"), tmp_path / "log"
    start(daemon, "--", str(program))
    words = f"{program} could not be started: No such file or directory"
    eventually(lambda: log.read_text().count(words) >= 2, 60, "the log says so")
    rows = [daemon.api(f"/api/v1/tasks/{task}").json for task in tasks]
    assert {(row["retries"], row["interruptions"]) for row in rows} == {(0, 0)}
    assert not list(records(daemon.data, "task.failed"))
    given_back = {one["data"]["category"] for one in records(daemon.data, "task.retry")}
    assert given_back == {"interrupted"}
    script(program)
    eventually(lambda: [state(daemon, task) for task in tasks] == ["completed"] * 2, 60, "they are done after all")


def test_each_task_that_failed_has_one_line_in_the_log(make_daemon: Any, start: Start, tmp_path: Path) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    tasks, log = post(daemon, 1, 2, 3), tmp_path / "log"
    code = """if True:
        import json, sys
        number = json.load(sys.stdin)["issue"]["number"]
        print("s3cret of the output", file=sys.stderr)
        if number == 2:
            open(sys.argv[1], "wb").truncate(3 << 30)
        sys.exit(number == 1)
    """
    start(daemon, "--", sys.executable, "-S", "-c", code, "{result}")
    eventually(lambda: [state(daemon, task) for task in tasks] == ["failed", "failed", "completed"], what="all end")
    lines = eventually(lambda: len(found := log.read_text().splitlines()) >= 3 and found, what="the log has them")
    assert [sum(task in line for line in lines) for task in tasks] == [1, 1, 0]
    assert any(line.endswith(f"task {tasks[0]} attempt 1: exit: it exited with 1") for line in lines)
    assert any(f"task {tasks[1]} attempt 1: result_invalid: its result has 3221225472 bytes" in line for line in lines)
    assert "s3cret" not in log.read_text()
