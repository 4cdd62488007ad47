"""When the daemon itself is short of descriptors, processes or memory: tasks wait, and none is failed for it."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from covenq.daemon.descriptors import budget
from covenq.tasks.execution.shortage import GROW_S, HOLD_FIRST_S, StartLimit
from tests.support.daemon import Daemon
from tests.support.pool import Harness
from tests.support.receiver import Receiver, Said, receiving
from tests.support.requests import issue
from tests.support.waiting import eventually

Make = Callable[..., Daemon]


def limited(soft: int, hard: int | None = None) -> list[str]:
    """A wrapper that lowers the limits of open files."""
    return ["/bin/sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard or soft} && exec "$@"', "sh"]


def route(run: Sequence[str], concurrency: int, more: str = "") -> str:
    head = f"[worker]\nconcurrency = {concurrency}\n[[route]]\nname = 'all'\nmatch = 'event:issues'\n"
    return f"{head}run = {json.dumps(run)}\n{more}\n"


def open_files(command: Sequence[str]) -> str:
    """The soft limit that a command reports, as it stands in /proc."""
    return next(line.split()[3] for line in command if line.startswith("Max open files"))


def test_no_task_fails_or_uses_up_a_retry_for_lack_of_descriptors(make_daemon: Make) -> None:
    daemon = make_daemon(route(["sleep", "0.02"], 32), wrapper=limited(56))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: daemon.post("issues", issue(number)).status, range(100)))
    ends = daemon.wait_all_done(120)
    assert Counter(kind for kinds in ends.values() for kind in kinds) == {"task.completed": answers.count(202)}
    given_back = daemon.records("task.retry")
    # Where it is reached before a task is claimed, none has to be given back.
    assert given_back or "EMFILE" in daemon.log_tail(100_000), "the limit was reached"
    assert {one["data"]["category"] for one in given_back} == {"interrupted"}
    assert all("EMFILE" in one["data"]["detail"] and one["data"]["interruptions"] == 0 for one in given_back)
    assert daemon.stop() == 0


def test_a_task_that_waits_for_descriptors_says_so_and_runs_when_there_are(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(route(["touch", str(tmp_path / "ran")], 2))
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path(f"/proc/{daemon.pid}/fd").iterdir()}
    held = sorted(set(range(1000)) - used)[6]  # enough for an answer, and too few for a command
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (held, hard))
    task = daemon.post("issues", issue()).json["tasks"][0]
    eventually(lambda: daemon.records("task.retry") or "picked tasks wait" in daemon.log_tail(), 30, "it is given back")
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))

    def ran() -> bool:
        """From then on nothing is said of it; a slow machine may be asked as late as that."""
        return bool(daemon.records("task.completed"))

    waits = daemon.api("/api/v1/status").json["worker"]["waits"]
    assert ("EMFILE" in waits and "of 2 at a time" in waits) if waits else ran()
    waiting = daemon.api(f"/api/v1/tasks/{task}").json
    assert waiting["state"] in ("running", "completed") or waiting["waits"]["word"] == "daemon", waiting
    assert waiting["retries"] == 0
    words = daemon.cli("status", exit_code=None).stdout.decode()
    assert "EMFILE" in words or ran()
    findings = json.loads(daemon.cli("doctor", "--json", exit_code=None).stdout)["findings"]
    assert any(one["check"] == "worker" and "EMFILE" in one["words"] for one in findings) or ran()
    daemon.wait_all_done(60)
    assert (tmp_path / "ran").exists()


def test_slow_strangers_with_large_bodies_leave_enough_for_tasks(make_daemon: Make) -> None:
    daemon = make_daemon(route(["true"], 4), wrapper=limited(512))
    head = b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as strangers:
        for _ in range(120):
            one = strangers.enter_context(socket.socket())
            one.settimeout(20)
            one.connect(("127.0.0.1", daemon.port))
            one.sendall(head + b" " * 100_000)
        answers = [daemon.post("issues", issue(number)).status for number in range(20)]
        ends = daemon.wait_all_done(60)
    assert answers == [202] * 20
    assert Counter(kind for kinds in ends.values() for kind in kinds) == {"task.completed": 20}
    assert "covenq failed" not in daemon.log_tail()


def test_the_soft_limit_is_raised_for_the_daemon_and_is_as_it_was_for_commands(make_daemon: Make) -> None:
    for more in ("", "limits = { cpu = '60s' }"):
        daemon = make_daemon(route(["cat", "/proc/self/limits"], 2, more), wrapper=limited(256, 4096))
        assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
        task = daemon.post("issues", issue()).json["tasks"][0]
        daemon.wait_all_done(30)
        said = (daemon.data / "attempts" / task / "1" / "stdout").read_text().splitlines()
        assert open_files(said) == "256"
        assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
        assert daemon.stop() == 0


def test_a_daemon_that_has_more_open_than_the_soft_limit_still_gives_it_to_commands(make_daemon: Make) -> None:
    daemon = make_daemon(route(["cat", "/proc/self/limits"], 2), wrapper=limited(160, 4096))
    with ExitStack() as idle:
        for _ in range(150):
            idle.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        eventually(lambda: len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) > 160, 30, "they are accepted")
        task = daemon.post("issues", issue()).json["tasks"][0]
        daemon.wait_all_done(30)
    said = (daemon.data / "attempts" / task / "1" / "stdout").read_text().splitlines()
    assert open_files(said) == "160"


def test_a_connection_for_which_there_is_no_descriptor_is_accepted_when_there_is(make_daemon: Make) -> None:
    daemon = make_daemon()
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path(f"/proc/{daemon.pid}/fd").iterdir()}
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (min(set(range(1000)) - used), hard))
    with ExitStack() as held:
        # Something else may have closed a descriptor meanwhile: as many as are answered, and then one that is not.
        for _ in range(50):
            waiting = held.enter_context(socket.create_connection(("127.0.0.1", daemon.port), timeout=1.0))
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                waiting.recv(1000)
            except TimeoutError:
                break
        else:
            pytest.fail("every connection was accepted")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
        waiting.settimeout(30.0)
        assert waiting.recv(1000).startswith(b"HTTP/1.1 200")


def test_doctor_says_what_the_limit_allows(make_daemon: Make) -> None:
    daemon = make_daemon(route(["true"], 64), wrapper=limited(300))
    findings = json.loads(daemon.cli("doctor", "--json", exit_code=None).stdout)["findings"]
    [found] = [one for one in findings if one["check"] == "open files"]
    allowed = budget(300, 64, 2)
    assert found["level"] == "warning" and found["next"]
    assert f"{allowed.commands} commands at a time" in found["words"] and "a limit of 300" in found["words"]
    daemon.wait_told("enough for")


def test_a_pool_starts_fewer_after_a_shortage_and_more_again_later() -> None:
    now = [100.0]
    limit = StartLimit(8, lambda: now[0])
    assert (limit.allowed(), limit.waits(), limit.wait_s()) == (8, None, None)
    with ExitStack() as three:
        for _ in range(3):
            three.enter_context(limit.running())
        assert limit.failed(OSError(errno.EMFILE, "")) and not limit.failed(OSError(errno.EMFILE, ""))
        assert limit.allowed() == 3, "as many as run"
        assert "EMFILE" in str(limit.waits())
        now[0] += GROW_S
        assert limit.allowed() == 4
    holds = []
    for _ in range(7):
        assert not limit.failed(OSError(errno.EAGAIN, "")) and limit.allowed() == 0, "nothing runs whose end would help"
        assert "0 of 8 at a time" in str(limit.waits())
        holds.append(limit.wait_s())
        now[0] += holds[-1] or 0.0
        assert limit.allowed() >= 1
    assert holds == pytest.approx([HOLD_FIRST_S * factor for factor in (1, 2, 4, 8, 16, 30, 30)])
    while limit.allowed() < 8:
        now[0] += GROW_S
    assert (limit.waits(), limit.wait_s()) == (None, None)


def test_what_a_forward_holds_is_awaited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a request gives back its descriptors: while one runs, no start need be held."""
    limit = StartLimit(2)
    monkeypatch.setattr("covenq.tasks.execution.pool.StartLimit", lambda _: limit)
    harness = Harness(tmp_path / "data").open()
    waits: list[str | None] = []
    try:
        with receiving(Receiver()) as receiver:
            harness.pool(concurrency=2)

            def answer(_: int) -> Said:
                limit.failed(OSError(errno.EMFILE, ""))
                waits.append(limit.waits())
                return 200, {}, b""

            receiver.answer = answer
            harness.wait(harness.add("g1", [], forward=receiver.url), "completed")
    finally:
        harness.close()
    assert "1 of 2 at a time" in str(waits[0])


@pytest.mark.parametrize(
    ("where", "number"),
    [
        *(("popen", number) for number in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)),
        *((where, errno.EMFILE) for where in ("prepare", "watch", "result")),
    ],
)
def test_each_shortage_gives_a_task_back_wherever_it_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    left = [1]

    def fail(original: Callable[..., Any], wanted: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if left[0] and wanted(*args):
                left[0] -= 1
                raise OSError(number, os.strerror(number))
            return original(*args, **options)

        return call

    match where:
        case "popen":
            monkeypatch.setattr(subprocess, "Popen", fail(subprocess.Popen))
        case "prepare":
            monkeypatch.setattr(Path, "mkdir", fail(Path.mkdir, lambda path: "attempts" in path.parts))
        case "watch":
            monkeypatch.setattr(os, "pidfd_open", fail(os.pidfd_open))
        case "result":
            monkeypatch.setattr(os, "open", fail(os.open, lambda path, *_: Path(path).name == "result"))
    harness = Harness(tmp_path / "data").open()
    try:
        code = "import sys; open(sys.argv[1], 'w').write('done')"
        task = harness.add("g1", [sys.executable, "-S", "-c", code, "{result}"])
        harness.pool()
        harness.wait(task, "completed")
        attempts = harness.attempts(task)
        assert left == [0]
        assert [one.category for one in attempts[:-1]] == ["interrupted"] * (0 if where == "result" else 1)
        assert attempts[-1].result and harness.row(task).retries == 0
    finally:
        harness.close()


def test_that_no_descriptor_is_left_is_found_by_asking_for_one() -> None:
    code = """
import resource
from covenq.tasks.execution.shortage import no_descriptor_left
assert no_descriptor_left() is None
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 99))
print(no_descriptor_left())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "EMFILE" in done.stdout, done.stderr
