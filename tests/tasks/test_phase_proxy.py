"""The worker's socket for phases: commands that crowd it keep no other from being heard, and its threads are few."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from covenq.errors import StaleFence
from covenq.net import unix_socket
from covenq.net.http_client import Client
from covenq.tasks.execution import phase_proxy
from covenq.tasks.execution.phase_proxy import CONNECTIONS, PhaseProxy
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.requests import issue
from tests.support.waiting import eventually

HALF = b"POST /api/v1/claims/t1/phase HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"
WHOLE = b'POST /api/v1/claims/t1/phase HTTP/1.1\r\nContent-Length: 28\r\n\r\n{"fence":"f","phase":"half"}'


def phase_threads() -> int:
    return sum(one.name == "phase" for one in threading.enumerate())


class Reports:
    """What was reported; each waits until `go` is set."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, task: str, fence: str, phase: str, pr: int | None) -> Mapping[str, object]:
        self.heard.append((task, fence, phase))
        assert self.go.wait(60)
        if fence != "f":
            raise StaleFence("it is not held here")
        return {"ok": True, "phase": phase, "seq": 7}


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def path(tmp_path: Path, reports: Reports) -> Iterator[Path]:
    proxy = PhaseProxy(tmp_path / "phase.sock", reports)
    yield tmp_path / "phase.sock"
    reports.go.set()
    proxy.close()
    assert phase_threads() == 0, "none is left"
    assert not (tmp_path / "phase.sock").exists()


def connected(path: Path, said: bytes, open_ones: ExitStack) -> socket.socket:
    one = open_ones.enter_context(unix_socket.connect(path, 60.0))  # in its turn, where the queue is full
    one.sendall(said)
    return one


def everything(one: socket.socket) -> bytes:
    received = b""
    while chunk := one.recv(65536):
        received += chunk
    return received


def post(path: Path, fence: str = "f") -> Any:
    return Client(path).post("/api/v1/claims/t1/phase", {"fence": fence, "phase": "half"})


def test_a_phase_is_passed_on_and_its_answer_back(path: Path, reports: Reports) -> None:
    assert post(path) == {"ok": True, "phase": "half", "seq": 7}
    with pytest.raises(StaleFence, match="not held here"):
        post(path, "other")
    assert reports.heard == [("t1", "f", "half"), ("t1", "other", "half")]


def test_half_requests_give_way_to_whole_ones_and_are_bounded(
    path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phase_proxy, "REQUEST_S", 300.0)
    with ExitStack() as open_ones:
        half = [connected(path, HALF, open_ones) for _ in range(3 * CONNECTIONS)]
        whole = connected(path, WHOLE, open_ones)
        assert everything(whole).endswith(b'{"ok":true,"phase":"half","seq":7}')
        assert phase_threads() <= CONNECTIONS
        assert everything(half[0]) == b"", "the oldest was closed"
    assert reports.heard == [("t1", "f", "half")]


def test_a_request_that_came_whole_is_not_closed_for_others(
    path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phase_proxy, "SPARED_S", 0.0)
    reports.go.clear()
    with ExitStack() as open_ones:
        whole = connected(path, WHOLE, open_ones)
        eventually(lambda: reports.heard, 30, "it is being passed on")
        for _ in range(3 * CONNECTIONS):
            connected(path, HALF, open_ones)
        reports.go.set()
        assert everything(whole).endswith(b'{"ok":true,"phase":"half","seq":7}')


def test_a_request_has_a_time_to_come_in_however_slowly(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase_proxy, "REQUEST_S", 0.5)
    with ExitStack() as open_ones:
        slow = connected(path, HALF.replace(b"50", b"60000"), open_ones)

        def is_closed() -> bool:
            try:
                slow.sendall(b" ")
            except OSError:
                return True
            return False

        eventually(is_closed, 60, "it is closed, though something comes all the time")


CROWDING = """if True:
    import itertools, os, resource, socket, sys
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held = []
    for number in itertools.count(1):
        one = socket.socket(socket.AF_UNIX)
        one.connect(os.environ["COVENQ_SOCKET"])
        try:
            one.send(b"POST /api/v1/claims/x/phase HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 50\\r\\n\\r\\n{")
        except OSError:
            pass
        held.append(one)
        del held[:-1000]
        if number == 500:
            print("full", flush=True)
"""

COMMAND = f"""if True:
    import json, os, pathlib, subprocess, sys, time
    here = pathlib.Path(sys.argv[1])
    crowding = None
    if os.environ["COVENQ_NUMBER"] == "1":
        crowding = subprocess.Popen([sys.executable, "-c", {CROWDING!r}], stdout=subprocess.PIPE)
        assert crowding.stdout.readline() == b"full\\n"
        (here / "full").touch()
    said = subprocess.run([sys.executable, "-m", "covenq", "phase", "half done"], capture_output=True, text=True)
    (here / ("said" + os.environ["COVENQ_NUMBER"])).write_text(json.dumps([said.returncode, said.stderr]))
    while not (here / "go_on").exists():
        time.sleep(0.02)
    if crowding is not None:
        crowding.kill()
        crowding.wait()
"""


def test_a_command_that_crowds_the_socket_keeps_neither_itself_nor_another_from_phases(
    make_daemon: Any, tmp_path: Path
) -> None:
    daemon: Daemon = make_daemon(config='[[route]]\nname = "p"\nmatch = "event:issues"\npull = true\n')
    (tmp_path / "command.py").write_text(COMMAND)
    argv = [sys.executable, "-m", "covenq", "worker", "--work", str(tmp_path / "work"), "--concurrency", "2", "--"]
    env = {**daemon.environment(), "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("wb") as log:
        command = [*argv, sys.executable, str(tmp_path / "command.py"), str(tmp_path)]
        worker = subprocess.Popen(command, env=env, stderr=log, stdout=log, cwd=ROOT)
    try:
        tasks = [daemon.post("issues", issue(1)).json["tasks"][0]]
        eventually((tmp_path / "full").exists, 60, "the socket is crowded")
        tasks.append(daemon.post("issues", issue(2)).json["tasks"][0])
        for number in (1, 2):
            said = tmp_path / f"said{number}"
            code, words = eventually(lambda said=said: said.exists() and json.loads(said.read_text() or "0"), 60)
            assert code == 0, words
        status = Path(f"/proc/{worker.pid}/status")
        if status.exists():
            (threads,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("Threads:")]
            assert int(threads) <= CONNECTIONS + 16
        (tmp_path / "go_on").touch()
        eventually(lambda: len(daemon.records("task.completed")) == 2, 60, "both are completed")
    finally:
        worker.terminate()
        assert worker.wait(60) == 0, (tmp_path / "log").read_text()
    for task in tasks:
        [attempt] = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
        assert "half done" in [name for name, _ in attempt["phases"]]
    assert "Traceback" not in (tmp_path / "log").read_text()
