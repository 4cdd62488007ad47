"""The lease of a `covenq worker`: what runs under it ends before it does, whatever becomes of the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from covenq.errors import NotFound
from covenq.tasks.execution.held_lease import times_before
from covenq.tasks.execution.lease_guard import now
from covenq.tasks.remote import worker as worker_module
from covenq.tasks.remote.client import ClaimGrant, ClaimsClient
from covenq.tasks.remote.leased_task import CLAIM_WAIT_S, LeasedTask, claim_wait
from covenq.tasks.remote.options import WorkerOptions
from covenq.tasks.remote.worker import Worker
from tests.support.checkout import ROOT
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.pool import alive
from tests.support.requests import issue
from tests.support.serving import serving
from tests.support.waiting import eventually

ROUTE = '[[route]]\nname = "p"\nmatch = "event:issues"\npull = true\n'

HOLDS_A_LOCK = """
import fcntl, os, signal, sys, time
scratch = sys.argv[1]
lock = open(scratch + "/lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open(scratch + "/doubled", "w").close()
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # and its child, in no group of this command's, has the lock as well
if os.fork() == 0:
    os.setsid()
with open(scratch + "/begun", "a") as file:
    file.write(f"{os.getpid()}\\n")
while not os.path.exists(scratch + "/go"):
    time.sleep(0.01)
"""


def start_worker(daemon: Daemon, base: Path, name: str, lease: str) -> subprocess.Popen[bytes]:
    words = ["--work", str(base / name), "--name", name, "--lease", lease]
    argv = [sys.executable, "-m", "covenq", "worker", *words, "--", sys.executable, "-S", str(base / "command.py")]
    with (base / f"{name}.log").open("wb") as log:
        return subprocess.Popen([*argv, str(base)], env=daemon.environment(), stderr=log, stdout=log, cwd=ROOT)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_task_runs_at_one_worker_at_a_time(make_daemon: Any, tmp_path: Path, number: signal.Signals) -> None:
    """Its worker is stopped, or killed: the command outlives it, but not its lease."""
    daemon: Daemon = make_daemon(config=ROUTE)
    (tmp_path / "command.py").write_text(HOLDS_A_LOCK)
    task = daemon.post("issues", issue(7)).json["tasks"][0]

    def begun(count: int) -> list[int]:
        def read() -> list[int] | None:
            words = (tmp_path / "begun").read_text().split() if (tmp_path / "begun").exists() else []
            return [int(word) for word in words] if len(words) >= count else None

        return eventually(read, 60, f"{count} processes have begun")

    first = start_worker(daemon, tmp_path, "first", "8s")
    workers = [first]
    try:
        pids = begun(2)
        first.send_signal(number)
        workers.append(start_worker(daemon, tmp_path, "second", "60s"))
        begun(4)  # once the lease is over
        assert not any(alive(pid) for pid in pids)
        assert not (tmp_path / "doubled").exists()
        if number == signal.SIGSTOP:
            first.send_signal(signal.SIGCONT)
            dropped = f"task {task} attempt 1 was lost: its outcome is dropped"
            eventually(lambda: dropped in (tmp_path / "first.log").read_text(), 60, "it drops what it ran")
        (tmp_path / "go").touch()
        eventually(lambda: daemon.api(f"/api/v1/tasks/{task}").json["state"] == "completed", 60, "all is done")
        kinds = [one["kind"] for one in records(daemon.data) if one["subject"] == f"task.{task}"]
        assert (kinds.count("task.claimed"), kinds.count("task.completed")) == (2, 1)
        assert [one["data"]["category"] for one in records(daemon.data, "task.retry")] == ["lease_lost"]
    finally:
        (tmp_path / "go").touch()
        for one in workers:
            one.kill()
            one.wait()


class BehindClient(ClaimsClient):
    """A client of a node that has not heard of the claim yet, until it renews the lease."""

    asked: ClassVar[list[str]] = []

    def payload(self, grant: ClaimGrant) -> tuple[bytes, str | None]:
        self.asked.append("payload")
        if "renew" not in self.asked:
            raise NotFound("no delivery g1")
        return super().payload(grant)

    def report(self, grant: ClaimGrant, action: str, **more: object) -> dict[str, Any]:
        self.asked.append(action)
        return super().report(grant, action, **more)


def test_that_a_payload_is_unknown_counts_once_the_lease_is_renewed(data: Path, tmp_path: Path) -> None:
    BehindClient.asked.clear()
    (tmp_path / "work").mkdir()
    with serving(data, {"route": [{"name": "p", "match": "event:issues", "pull": True}]}) as served:
        task = served.post("issues", issue(7)).json["tasks"][0]
        options = WorkerOptions("w1", ("true",), lease_s=600.0, environ={"PATH": os.environ["PATH"]})
        worker = Worker(lambda: BehindClient(served.socket), options, tmp_path / "work")
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            eventually(lambda: served.ask(f"/api/v1/tasks/{task}").json["state"] == "completed", 60, "it is done")
        finally:
            worker.stop()
            thread.join(60)
        assert served.ask(f"/api/v1/tasks/{task}").json["attempts"] == 1
    assert BehindClient.asked[:3] == ["payload", "renew", "payload"]


def granted() -> ClaimGrant:
    return ClaimGrant({"id": "t1"}, 1, "e.1", "2026-12-01T00:00:00Z", "/payload")


def test_a_lease_counts_from_when_it_was_asked_for_and_is_not_extended_too_late() -> None:
    at = 100.0
    one = LeasedTask(granted(), 60.0, 5.0, 90.0, lambda: at)
    assert one.lease.times == times_before(150.0, 60.0, 5.0)
    assert (one.renewal_due_at, one.expired) == (110.0, False)
    at = 111.0
    one.extend(110.0)
    assert (one.lease.times, one.renewal_due_at) == (times_before(170.0, 60.0, 5.0), 130.0)
    at = 164.0  # its command is sent SIGTERM
    one.extend(163.0)
    assert one.lost.is_set() and one.lost.grace_s == 5.0 and one.lease.over
    assert not one.expired
    at = 170.0
    assert one.expired
    one.lost.close()


@pytest.mark.parametrize("lease_s", [1.0, 8.0, 60.0, 3600.0])
def test_a_claim_that_waited_leaves_its_command_time_to_be_renewed(lease_s: float) -> None:
    waited = claim_wait(lease_s)
    assert waited <= CLAIM_WAIT_S
    one = LeasedTask(granted(), lease_s, 5.0, 0.0, lambda: waited)
    assert one.renewal_due_at < one.lease.times.term_at
    assert waited < one.renewal_due_at or lease_s > 60
    one.lost.close()


def test_a_command_whose_lease_is_over_is_not_started_and_that_is_no_failure(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a worker that was stopped after its claim."""
    late = [1000.0]
    monkeypatch.setattr(worker_module, "boottime", lambda: now() - (late.pop() if late else 0.0))
    (tmp_path / "work").mkdir()
    with serving(data, {"route": [{"name": "p", "match": "event:issues", "pull": True}]}) as served:
        task = served.post("issues", issue(7)).json["tasks"][0]
        run = ("sh", "-c", f"echo >> {tmp_path}/ran")
        options = WorkerOptions("w1", run, lease_s=3.0, environ={"PATH": os.environ["PATH"]})
        worker = Worker(lambda: ClaimsClient(served.socket), options, tmp_path / "work")
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            eventually(lambda: served.ask(f"/api/v1/tasks/{task}").json["state"] == "completed", 60, "it is run again")
        finally:
            worker.stop()
            thread.join(60)
        first, *_, last = sorted(
            served.ask(f"/api/v1/tasks/{task}/attempts").json["items"], key=lambda one: one["attempt"]
        )
        assert (first["category"], last["outcome"]) == ("lease_lost", "completed")
        assert (tmp_path / "ran").read_text() == "\n"
