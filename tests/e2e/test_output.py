"""Why a task failed, in the words of what failed: a command, a worker's, a receiver; wherever it ran and is asked from."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.daemon import Daemon, free_port
from tests.support.receiver import Receiver, receiving
from tests.support.requests import issue
from tests.support.waiting import eventually

KINDS = ("run", "pull", "forward")
CODE = r"""if True:
    import os, sys
    print("on stdout")
    print("x" * 100_000 + " token ghp_abcdefghijklmnopqrstuvwxyz0123456789", file=sys.stderr)
    print("open sesame", file=sys.stderr)
    print("the \x1b[31mcompiler\u200b says no", file=sys.stderr)
    sys.exit(3)
"""
LAST = "the \x1b[31mcompiler\u200b says no"
ANSWER = f"open sesame\n\n{LAST}\n".encode()

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(daemon, *words) → a process of that command, its output in a file; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(daemon: Daemon, *words: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (tmp_path / f"said{len(started)}").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "covenq", *words],
                env={**daemon.environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(Receiver()) as one:
        one.answer = lambda number: (422, {"Content-Type": "text/plain"}, ANSWER)
        yield one


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """In a file, for a task's command is shown too."""
    path = tmp_path / "code.py"
    path.write_text(CODE)
    return path


def config(receiver: Receiver, code: Path, port: int | None = None) -> str:
    argv = json.dumps([sys.executable, str(code)])
    api = "" if port is None else f'[api]\nbind = "127.0.0.1:{port}"\n'
    return (
        f'{api}[worker]\nscrub = ["ses.me"]\n[[route]]\nname = "run"\nmatch = "event:issues"\nrun = {argv}\n'
        '[[route]]\nname = "pull"\nmatch = "event:issues"\npull = true\n'
        f'[[route]]\nname = "forward"\nmatch = "event:issues"\nforward = "{receiver.url}"\n'
    )


def fail_everywhere(daemon: Daemon, start: Start, code: Path) -> dict[str, str]:
    """Route → its task, which failed."""
    start(daemon, "worker", "--name", "w1", "--work", str(code.with_name("work")), "--", sys.executable, str(code))
    ids = daemon.post("issues", issue(7)).json["tasks"]

    def rows() -> list[Any]:
        found = [daemon.api(f"/api/v1/tasks/{id}").json for id in ids]
        assert all(one["state"] == "failed" for one in found), found
        return found

    return {one["route"]: one["id"] for one in eventually(rows, what="all of them failed")}


def from_elsewhere(daemon: Daemon, port: int) -> dict[str, str]:
    """The environment in which a command asks over TCP, with a token that may read, and has no files of the daemon's."""
    token = daemon.cli("tokens", "new", "--name", "r", "--role", "read").stdout.decode().strip()
    return {"COVENQ_URL": f"http://127.0.0.1:{port}", "COVENQ_TOKEN": token, "COVENQ_DATA": "", "COVENQ_CONFIG": ""}


def test_a_failure_is_told_in_the_words_of_what_failed(
    make_daemon: Any, start: Start, receiver: Receiver, code: Path
) -> None:
    port = free_port()
    daemon: Daemon = make_daemon(config=config(receiver, code, port))
    tasks = fail_everywhere(daemon, start, code)
    elsewhere = from_elsewhere(daemon, port)
    escaped = rb"the \x1b[31mcompiler\u200b says no"
    for kind in KINDS:
        for env in ({}, elsewhere):
            for command in ("show", "why"):
                said = daemon.cli(command, tasks[kind], env=env).stdout
                assert escaped in said, (kind, command, bool(env), said.decode())
                assert b"open ***" in said and not any(one in said for one in (b"\x1b", b"ghp_a", b"sesame"))
        shown = daemon.cli_json("show", tasks[kind])["last_output"]
        assert (shown["attempt"], shown["stream"]) == (1, "stdout" if kind == "forward" else "stderr")
        assert shown["lines"][-1] == LAST and all(len(line) <= 400 for line in shown["lines"])
        told = {one["id"]: one for one in daemon.cli_json("why", tasks[kind])["stories"][0]["tasks"]}
        assert told[tasks[kind]]["last_output"] == shown
    daemon.stop()
    for kind in KINDS:
        for command in ("show", "why"):
            assert escaped in daemon.cli(command, tasks[kind]).stdout, (kind, command)


def test_logs_prints_what_an_attempt_wrote_wherever_it_ran_and_is_asked_from(
    make_daemon: Any, start: Start, receiver: Receiver, code: Path
) -> None:
    port = free_port()
    daemon: Daemon = make_daemon(config=config(receiver, code, port))
    tasks = fail_everywhere(daemon, start, code)
    elsewhere = from_elsewhere(daemon, port)
    stderr = b"x" * 100_000 + b" token ghp_***\nopen ***\n" + LAST.encode() + b"\n"
    for env in ({}, elsewhere, None):
        if env is None:
            daemon.stop()
        said = {kind: daemon.cli("logs", tasks[kind], env=env).stdout for kind in KINDS}
        assert said["run"] == b"on stdout\n" + stderr
        assert said["forward"] == b"HTTP 422\nContent-Type: text/plain\n\n" + ANSWER.replace(b"sesame", b"***")
        note, _, rest = said["pull"].partition(b"\n")[2].partition(b"\n")
        assert said["pull"].startswith(b"on stdout\n")
        assert b"bytes before this were not sent" in note
        assert stderr.endswith(rest) and 65_000 < len(rest) < 65_536
        assert daemon.cli("logs", tasks["run"], "1", "--stdout", env=env).stdout == b"on stdout\n"
        assert daemon.cli("logs", tasks["run"][:12], "--stderr", env=env).stdout == stderr
        items = daemon.cli_json("logs", tasks["run"])["items"]
        assert (items[0]["attempt"], items[0]["stream"]) == (1, "stdout")
        assert items[-1]["text"] == LAST
        unknown = daemon.cli("logs", tasks["run"], "2", env=env, exit_code=3)
        assert b"has no attempt 2" in unknown.stderr and unknown.stdout == b""
        daemon.cli("logs", "t" + "0" * 24, env=env, exit_code=3)


def test_what_is_erased_has_no_logs(make_daemon: Any, start: Start, receiver: Receiver, code: Path) -> None:
    daemon: Daemon = make_daemon(config=config(receiver, code))
    tasks = fail_everywhere(daemon, start, code)
    guid = daemon.api(f"/api/v1/tasks/{tasks['pull']}").json["guid"]
    assert list((daemon.data / "attempts" / tasks["pull"]).rglob("stderr"))
    daemon.cli("redact", guid)
    for task in tasks.values():
        gone = daemon.cli("logs", task, exit_code=3)
        assert b"erased" in gone.stderr, gone.stderr
        assert not (daemon.data / "attempts" / task).exists()
        assert b"says no" not in daemon.cli("show", task).stdout + daemon.cli("why", task).stdout


WAITING = r"""if True:
    import os, sys, time
    print("begun", flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    print("done", file=sys.stderr, flush=True)
"""


def test_logs_follow_an_attempt_to_its_end(make_daemon: Any, start: Start, tmp_path: Path) -> None:
    go = tmp_path / "go"
    argv = json.dumps([sys.executable, "-S", "-c", WAITING, str(go)])
    daemon: Daemon = make_daemon(config=f'[[route]]\nname = "run"\nmatch = "event:issues"\nrun = {argv}\n')
    daemon.cli("pause", "worker")
    task = daemon.post("issues", issue(7)).json["tasks"][0]
    assert b"no attempt yet" in daemon.cli("logs", task, exit_code=3).stderr
    follows, interrupted = start(daemon, "logs", task, "-f"), start(daemon, "logs", "-f", task)
    daemon.cli("resume", "worker")
    for said in (tmp_path / "said0", tmp_path / "said1"):
        eventually(lambda said=said: b"begun" in said.read_bytes(), what="what it wrote is shown while it runs")
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(30) == 130
    assert follows.poll() is None
    go.touch()
    assert follows.wait(30) == 0
    assert (tmp_path / "said0").read_bytes().splitlines()[-2:] == [b"begun", b"done"]


def test_logs_on_a_terminal_obey_nothing(make_daemon: Any, start: Start, receiver: Receiver, code: Path) -> None:
    daemon: Daemon = make_daemon(config=config(receiver, code))
    task = fail_everywhere(daemon, start, code)["run"]
    for more, escaped in (((), True), (("--raw",), False)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "covenq", "logs", task, "--stderr", *more],
            env=daemon.environment(),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            said += piece
        os.close(ours)
        assert process.wait(30) == 0
        assert (rb"the \x1b[31mcompiler\u200b says no" in said) == escaped
        assert (b"\x1b[31m" in said) != escaped


def test_a_reader_that_leaves_ends_it_without_a_word(
    make_daemon: Any, start: Start, receiver: Receiver, code: Path
) -> None:
    daemon: Daemon = make_daemon(config=config(receiver, code))
    task = fail_everywhere(daemon, start, code)["run"]
    reader = subprocess.Popen(
        [sys.executable, "-m", "covenq", "logs", task, "--stderr"],
        env={**daemon.environment(), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert reader.stdout is not None and reader.stderr is not None
    assert reader.stdout.read(10) == b"x" * 10
    reader.stdout.close()
    assert (reader.wait(60), reader.stderr.read()) == (1, b"")
    reader.stderr.close()


def test_logs_follow_a_task_over_its_attempts(make_daemon: Any, start: Start, tmp_path: Path) -> None:
    code = 'import os, sys; print("attempt", os.environ["COVENQ_ATTEMPT"], flush=True); sys.exit(1)'
    retry = 'retry = { max = 2, backoff = "900ms", cap = "900ms" }'
    argv = json.dumps([sys.executable, "-S", "-c", code])
    daemon: Daemon = make_daemon(
        config=f'[[route]]\nname = "run"\nmatch = "event:issues"\nrun = {argv}\n{retry}\n'
        f'[[route]]\nname = "pull"\nmatch = "event:issues"\npull = true\n{retry}\n'
    )
    daemon.cli("pause", "worker")
    ids = daemon.post("issues", issue(7)).json["tasks"]
    run, pull = sorted(ids, key=lambda id: daemon.api(f"/api/v1/tasks/{id}").json["route"], reverse=True)
    follows = [start(daemon, "logs", task, "-f") for task in (run, pull)]
    for said in (tmp_path / "said0", tmp_path / "said1"):
        eventually(lambda said=said: b"waits for an attempt" in said.read_bytes(), what="it waits")
    daemon.cli("resume", "worker")
    start(daemon, "worker", "--name", "w1", "--work", str(tmp_path / "work"), "--", sys.executable, "-S", "-c", code)
    for number, process in enumerate(follows):
        assert process.wait(60) == 0
        lines = (tmp_path / f"said{number}").read_text().splitlines()
        assert [line for line in lines if line.startswith("attempt ") and line[-1].isdigit()] == [
            f"attempt {n}" for n in (1, 2, 3)
        ]
    assert daemon.cli("logs", run, "2").stdout == b"attempt 2\n"
    assert daemon.cli("logs", pull, "2", "-f").stdout == b"attempt 2\n"
    several = daemon.cli("logs", daemon.api(f"/api/v1/tasks/{run}").json["guid"], exit_code=2)
    assert b"has several tasks" in several.stderr


def test_a_result_is_shown_or_it_is_said_that_there_is_none(make_daemon: Callable[..., Any]) -> None:
    route = '[[route]]\nname = "{}"\nmatch = "event:{}"\nrun = ["sh", "-c", "{}"]\n'
    leaves = route.format("leaves", "issues", "printf 'a\\\\nb' > $COVENQ_RESULT; echo aside")
    daemon: Daemon = make_daemon(config=leaves + route.format("none", "push", "true"))
    (task,) = daemon.post("issues", issue(1)).json["tasks"]
    (other,) = daemon.post("push", {"ref": "refs/heads/main"}).json["tasks"]
    daemon.wait_all_done()
    assert daemon.cli("logs", task, "--result").stdout == b"a\nb"
    assert [one["text"] for one in daemon.cli_json("logs", task, "--result")["items"]] == ["a", "b"]
    assert daemon.api(f"/api/v1/tasks/{task}/attempts/1/result?last=1").body == b"b"
    assert b"neither --stdout" in daemon.cli("logs", task, "--result", "--stdout", exit_code=2).stderr
    assert b"left no result" in daemon.cli("logs", other, "--result", exit_code=3).stderr
    assert daemon.stop() == 0
    assert daemon.cli("logs", task, "--result").stdout == b"a\nb"
