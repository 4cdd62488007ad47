"""What a command leaves in its own directory stops nobody else's work, and covenq finds what it needs elsewhere."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.tasks.execution.untrusted_files import read_file
from covenq.tasks.execution.workdir import AttemptDirectory
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.other_user import as_nobody
from tests.support.pool import Harness, alive, kill
from tests.support.requests import issue
from tests.support.waiting import eventually

PLANT = """
import os, shutil, sys
def plant(path, how):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    if how == "fifo":
        os.mkfifo(path)
    elif how == "link":
        os.symlink("/dev/zero", path)
    elif how == "directory":
        os.mkdir(path)
    else:
        open(path, "w").write({"nested": "[" * 200_000, "infinite": '{"pid":1e999,"start":1,"boot":"b","fence":"f"}'}[how])
"""

HANGS = (
    PLANT
    + """
import time
for name in ("process.json", "brief.json", "stdout", "stderr", "payload", "result", "stdout.rest", "stdout.rest.1"):
    plant(name, sys.argv[1])
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(600)
"""
)

HOW = ["fifo", "nested", "infinite", "directory", "link"]
"""What a command puts in the place of a file."""

ROUTES = """
[[route]]
name = "hangs"
match = "event:issues"
run = {hangs}
[[route]]
name = "other"
match = "event:push"
run = ["true"]
"""


def pid_in(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text(), what=f"{path} has a pid"))


def other_task_completes(daemon: Daemon, guid: str) -> None:
    (task,) = daemon.post("push", {"ref": "refs/heads/main", "repository": {"full_name": "o/r"}}, guid=guid).json[
        "tasks"
    ]
    ended = [f"task.{task}"]
    eventually(lambda: ended == [one["subject"] for one in records(daemon.data, "task.completed")][-1:], 20)


@pytest.fixture
def met(tmp_path: Path) -> Iterator[Path]:
    """The file where a command says its pid; that is ended with the test."""
    path = tmp_path / "pid"
    yield path
    if path.exists() and alive(int(path.read_text() or 0)):
        kill(int(path.read_text()))


@pytest.mark.parametrize("how", HOW)
def test_no_file_of_a_killed_daemons_command_stops_the_next_daemon(
    make_daemon: Any, tmp_path: Path, met: Path, how: str
) -> None:
    code = tmp_path / "hangs.py"
    code.write_text(HANGS)
    run = json.dumps([sys.executable, "-S", str(code), how, str(met)])
    daemon: Daemon = make_daemon(config=ROUTES.format(hangs=run))
    (task,) = daemon.post("issues", issue(1)).json["tasks"]
    first = pid_in(met)
    daemon.kill()
    met.unlink()
    daemon.start()
    other_task_completes(daemon, "after")
    eventually(lambda: not alive(first), what="what the killed daemon had started is ended")
    assert pid_in(met) != first, "and it runs again"
    assert [one["data"]["category"] for one in records(daemon.data, "task.retry")] == ["interrupted"]
    shown = 404 if how in ("fifo", "directory", "link") else 200
    assert daemon.api(f"/api/v1/tasks/{task}/attempts/1/stdout").status == shown


@pytest.mark.parametrize("how", HOW)
def test_no_file_of_a_killed_workers_command_stops_the_next_worker(
    make_daemon: Any, tmp_path: Path, met: Path, how: str
) -> None:
    daemon: Daemon = make_daemon(config='[[route]]\nname = "p"\nmatch = "event:issues"\npull = true\n')
    daemon.post("issues", issue(1))
    code = tmp_path / "hangs.py"
    code.write_text(HANGS)
    argv = [sys.executable, "-m", "covenq", "worker", "--work", str(tmp_path / "work"), "--lease", "2s", "--"]
    with (tmp_path / "worker.log").open("wb") as log:

        def started(*command: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([*argv, *command], env=daemon.environment(), stderr=log, stdout=log, cwd=ROOT)

        worker = started(sys.executable, "-S", str(code), how, str(met))
        first = pid_in(met)
        worker.kill()
        worker.wait()
        worker = started("true")
        try:
            eventually(lambda: not alive(first), what="what the killed worker had started is ended")
            eventually(lambda: records(daemon.data, "task.completed"), what="the next worker works")
        finally:
            worker.kill()
            worker.wait()


LONG = (
    PLANT
    + """
plant("stdout.rest", sys.argv[1])
plant("stdout.rest.1", sys.argv[1])
sys.stdout.write("x" * 100_000 + "the end.")
sys.stdout.flush()
"""
)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data").open()
    yield harness
    harness.close()


@pytest.mark.parametrize("how", ["fifo", "directory", "nested"])
def test_a_name_that_an_output_might_use_costs_a_command_nothing(harness: Harness, how: str) -> None:
    task = harness.add("g1", [sys.executable, "-S", "-c", LONG, how], timeout_s=20.0, retry={"max": 2})
    harness.pool(output_limit=4000)
    assert harness.wait(task).state == "completed"
    assert harness.kinds(task).count("claimed") == 1
    said = harness.file(task, "stdout").read_bytes()
    assert said.startswith(b"x" * 2000)
    assert said.endswith(b"xthe end.")
    assert harness.file(task, "stdout.rest").exists(), "it is the command's"


def test_only_regular_files_of_the_attempts_own_directory_are_opened(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "stdout").write_text("secret")
    directory = AttemptDirectory.for_attempt(tmp_path, "t1", 1)
    directory.prepare(b"x", {})
    directory.write_output(b"said")
    with directory.open("stdout") as file:
        assert file.read() == b"said"
    for flags in (os.O_RDONLY, os.O_WRONLY):
        for number, made in enumerate(
            (os.mkfifo, Path.mkdir, lambda path: path.symlink_to(tmp_path / "elsewhere" / "stdout"), socket_at)
        ):
            made(directory.path / f"{flags}-{number}")
            with pytest.raises(OSError, match=r"Errno|regular"):
                directory.open(f"{flags}-{number}", flags)
    directory.path.rename(tmp_path / "attempts" / "t1" / "moved")
    directory.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Errno"):
        directory.open("stdout")
    directory.path.unlink()
    (tmp_path / "attempts" / "t1").rename(tmp_path / "attempts" / "t2")
    (tmp_path / "attempts" / "t1").symlink_to("t2")
    with pytest.raises(OSError, match="Errno"):
        AttemptDirectory.for_attempt(tmp_path, "t1", 1).open("stdout")


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def test_a_file_over_its_size_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"12345")
    assert read_file(tmp_path, "small", limit=5) == b"12345"
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=f"it has {1 << 40} bytes, more than 5"):
        read_file(tmp_path, "sparse", limit=5)


LOCKS_OUT = """
data = Path(sys.argv[1])
AttemptDirectory.for_attempt(data, "t1", 1).prepare(b"x", {})
(data / "attempts").chmod(0o500)
AttemptDirectory.for_attempt(data, "t2", 1).prepare(b"x", {})
print(json.dumps(sorted(os.listdir(data / "attempts"))))
"""


def test_permissions_taken_from_all_attempts_are_given_back_for_the_next() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        assert as_nobody(LOCKS_OUT, directory) == ["t1", "t2"]
