"""`covenq worker` and `covenq phase` as processes, against the real daemon."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote_plus

import pytest

from covenq.errors import UsageError
from covenq.net.http_client import error_of
from covenq.tasks.execution.lease_guard import now
from covenq.tasks.execution.workdir import AttemptDirectory
from covenq.tasks.remote import leased_task
from covenq.tasks.remote import worker as worker_module
from covenq.tasks.remote.client import ClaimGrant, ClaimsClient
from covenq.tasks.remote.options import WorkerOptions
from covenq.tasks.remote.output_end import read_outputs
from covenq.tasks.remote.worker import Worker
from covenq.tasks.scheduling.outcome import OUTPUT_MAX
from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon, free_port
from tests.support.journal_json import records
from tests.support.requests import issue
from tests.support.serving import serving
from tests.support.waiting import eventually

PULL = '[[route]]\nname = "p"\nmatch = "event:issues"\npull = true\n'
RUN = '[[route]]\nname = "r"\nmatch = "event:issues"\n'

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(daemon, *words, env=…, program=…) → a `covenq worker` process; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(
        daemon: Daemon, *words: str, env: dict[str, str] | None = None, program: Sequence[str] = ("-m", "covenq")
    ) -> subprocess.Popen[bytes]:
        argv = [sys.executable, *program, "worker", "--work", str(tmp_path / "work"), *words]
        log = (tmp_path / f"worker{len(started)}.log").open("wb")
        process = subprocess.Popen(argv, env={**daemon.environment(), **(env or {})}, stderr=log, stdout=log, cwd=ROOT)
        log.close()
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def kinds(daemon: Daemon, task: str) -> list[str]:
    return [one["kind"].removeprefix("task.") for one in records(daemon.data) if one["subject"] == f"task.{task}"]


def attempt(daemon: Daemon, task: str) -> dict[str, Any]:
    return daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"][-1]


def ended(daemon: Daemon, task: str) -> dict[str, Any]:
    """The newest attempt once the state knows its end: the file of the journal may have the record before that."""

    def look() -> dict[str, Any] | None:
        items = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
        return items[-1] if items and items[-1]["ended_at"] else None

    found: dict[str, Any] = eventually(look, what="its attempt ended")
    return found


def test_a_worker_for_a_route_that_is_none_says_so_and_takes_it_when_a_reload_adds_it(
    make_daemon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        leased_task, "CLAIM_WAIT_S", 1.0
    )  # what it hears of routes comes with the answer to its next request
    other = RUN + 'run = ["true"]\n'
    daemon: Daemon = make_daemon(config=PULL + other)
    (tmp_path / "work").mkdir()
    options = WorkerOptions("w1", ("true",), ("p", "r", "nosuch"), environ={"PATH": os.environ["PATH"]})
    clients: list[ClaimsClient] = []

    def connect() -> ClaimsClient:
        clients.append(ClaimsClient(daemon.socket))
        return clients[-1]

    worker = Worker(connect, options, tmp_path / "work")
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        eventually(lambda: "no pull route named r, nosuch: no new task" in caplog.text, 30, "it says so")
        assert daemon.config is not None
        both = PULL.replace('"p"', '"nosuch"') + PULL.replace('"p"', '"r"') + PULL
        daemon.config.write_text(both)
        daemon.process and daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: "has the routes by now" in caplog.text, 60, "it says that, too")
        task = daemon.post("issues", issue(1)).json["tasks"][0]
        eventually(lambda: kinds(daemon, task)[-1] == "completed", 30, "it takes its tasks")
    finally:
        worker.stop()
        thread.join(60)
        for slot in [one for one in threading.enumerate() if one.name.startswith("slot-")]:
            slot.join(60)  # it still waits for an answer
        for client in clients:
            client.close()
    assert caplog.text.count("no pull route") == 1


@pytest.mark.parametrize("words", [[], ["--route", "p"]])
def test_what_no_worker_gets_is_told_with_an_empty_answer(
    make_daemon: Any, start: Start, tmp_path: Path, words: list[str]
) -> None:
    daemon: Daemon = make_daemon(config=RUN + 'run = ["true"]\n')
    start(daemon, *words, "--", "true")
    eventually(lambda: b"the daemon has no pull route" in (tmp_path / "worker0.log").read_bytes(), 30, "it says so")


CODE = """if True:
    import json, os, subprocess, sys
    done = subprocess.run([sys.executable, "-m", "covenq", "phase", "running tests"])
    json.dump({"stdin": sys.stdin.read(), "env": {k: v for k, v in os.environ.items() if k.startswith("COVENQ_")},
               "phase": done.returncode, "brief": json.load(open(sys.argv[1]))}, open(os.environ["COVENQ_RESULT"], "w"))
"""


FORM = "application/x-www-form-urlencoded"
READS = """if True:
    import json, os, sys
    told = {"stdin": sys.stdin.read(), "payload": open(sys.argv[1]).read(), "body": open(sys.argv[2]).read(),
            "COVENQ_PAYLOAD": open(os.environ["COVENQ_PAYLOAD"]).read(),
            "COVENQ_BODY": open(os.environ["COVENQ_BODY"]).read(), "ref": os.environ["COVENQ_REF"],
            "of": [os.environ["COVENQ_" + n] for n in "NUMBER SHA SENDER INSTALLATION REPO_ID PURPOSE FAMILIAR".split()],
            "brief": json.load(open(sys.argv[3]))}
    json.dump(told, open(os.environ["COVENQ_RESULT"], "w"))
"""


@pytest.mark.parametrize("where", ["worker", "daemon"])
def test_a_command_gets_json_whatever_the_hook_sends_and_the_received_bytes_beside_it(
    make_daemon: Any, start: Start, where: str, tmp_path: Path
) -> None:
    code = tmp_path / "code.py"
    code.write_text(READS)
    argv = [sys.executable, str(code), "{payload}", "{body}", "{brief}"]
    route = '[[route]]\nname = "p"\nmatch = "event:push"\npurpose = "build"\nfamiliar = "cody"\n'
    daemon: Daemon = make_daemon(
        config=route + ("pull = true\n" if where == "worker" else f"run = {json.dumps(argv)}\n")
    )
    payload = json.dumps({**issue(7), "ref": "refs/heads/m\u00e4in", "after": "c" * 40}, separators=(",", ":"))
    bodies = {FORM: "payload=" + quote_plus(payload), "application/json": payload}
    tasks = {
        kind: daemon.post("push", body.encode(), content_type=kind).json["tasks"][0] for kind, body in bodies.items()
    }
    if where == "worker":
        start(daemon, "--name", "w1", "--keep", "all", "--", *argv)
    for kind, task in tasks.items():
        result = json.loads((daemon.data / ended(daemon, task)["result"]).read_bytes())
        brief = result.pop("brief")
        assert result == {
            "stdin": payload, "payload": payload, "COVENQ_PAYLOAD": payload, "body": bodies[kind], "COVENQ_BODY": bodies[kind],
            "ref": "refs/heads/m\u00e4in", "of": ["7", "c" * 40, "octocat", "2311", "1296269", "build", "cody"],
        }  # fmt: skip
        assert (brief["repo_id"], brief["sender"], brief["number"]) == (1296269, "octocat", 7)
        assert (brief["purpose"], brief["familiar"]) == ("build", "cody")
        assert (brief["content_type"], brief["ref"]) == (kind, "refs/heads/m\u00e4in")
        assert brief["body"] and (where == "worker" or Path(brief["body"]).read_text() == bodies[kind])


@pytest.mark.parametrize("where", ["worker", "daemon"])
def test_a_command_gets_the_same_and_says_its_phases_wherever_it_runs(
    make_daemon: Any, start: Start, where: str, tmp_path: Path
) -> None:
    code = tmp_path / "code.py"
    code.write_text(CODE)
    argv = [sys.executable, str(code), "{brief}"]
    env = clean_env(PYTHONPATH=str(ROOT))
    config = PULL if where == "worker" else RUN + f"run = {json.dumps(argv)}\nenv = ['PYTHONPATH']\n"
    daemon: Daemon = make_daemon(config=config, env={"PYTHONPATH": env["PYTHONPATH"]})
    task = daemon.post("issues", issue(7), guid="g1").json["tasks"][0]
    if where == "worker":
        start(daemon, "--env", "PYTHONPATH", "--name", "w1", "--keep", "all", "--", *argv)
    found = ended(daemon, task)
    assert [name for name, _ in found["phases"]] == ["prepared", "started", "running tests", "collected"]
    assert (found["outcome"], found["exit_code"]) == ("completed", 0)
    assert found["usage"]["max_rss"] > 0
    result = json.loads((daemon.data / found["result"]).read_bytes())
    assert result["phase"] == 0
    assert json.loads(result["stdin"]) == issue(7)
    assert {
        key: result["env"][f"COVENQ_{key}"] for key in ("TASK", "ATTEMPT", "FENCE", "GUID", "EVENT", "ACTION", "REPO")
    } == {
        "TASK": task,
        "ATTEMPT": "1",
        "FENCE": found["fence"],
        "GUID": "g1",
        "EVENT": "issues",
        "ACTION": "opened",
        "REPO": "octo/hello",
    }
    assert set(result["env"]) == {
        f"COVENQ_{key}"
        for key in (
            "TASK ATTEMPT FENCE HOOK GUID EVENT ACTION REPO REPO_ID NUMBER SHA REF SENDER INSTALLATION PURPOSE FAMILIAR "
            "PAYLOAD BODY RESULT SOCKET"
        ).split()
    }
    assert (result["brief"]["task"], result["brief"]["number"]) == (task, 7)


def test_a_stopped_worker_gives_its_task_back_and_another_finishes_it(
    make_daemon: Any, start: Start, tmp_path: Path
) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    task = daemon.post("issues", issue(7)).json["tasks"][0]
    first = start(
        daemon, "--", sys.executable, "-S", "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"
    )
    eventually(lambda: kinds(daemon, task).count("phase") >= 2, what="it runs")
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    row = daemon.api(f"/api/v1/tasks/{task}").json
    assert (row["state"], row["retries"], row["interruptions"]) == ("queued", 0, 0)
    assert attempt(daemon, task)["category"] == "interrupted"
    start(daemon, "--", "true")
    eventually(lambda: "completed" in kinds(daemon, task), what="it is completed")
    assert not [one for one in records(daemon.data) if one["kind"] == "ops.late"]


@pytest.mark.parametrize("odd", ["file", "file/below", "missing/../file", "unlockable"])
def test_a_directory_that_it_cant_have_is_named_with_the_option(make_daemon: Any, tmp_path: Path, odd: str) -> None:
    daemon: Daemon = make_daemon(config=PULL, start=False)
    (tmp_path / "file").touch()
    (tmp_path / "unlockable" / "1" / "lock").mkdir(parents=True)
    done = daemon.cli("worker", "--work", str(tmp_path / odd), "--", "true", exit_code=4)
    assert b"can't be a worker's directory" in done.stderr and b"--work" in done.stderr


SOON = """if True:
    from covenq.cli.main import main
    from covenq.tasks.remote import worker
    worker.REPORT_AFTER_STOP_S = 0.5
    main()
"""
"""`covenq`, whose worker soon gives up to report to a daemon that is gone."""


def test_a_worker_whose_daemon_is_gone_says_that_it_gave_nothing_back(
    make_daemon: Any, start: Start, tmp_path: Path
) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    task = daemon.post("issues", issue(7)).json["tasks"][0]
    worker = start(daemon, "--", "sleep", "600", program=("-c", SOON))
    eventually(lambda: kinds(daemon, task).count("phase") >= 2, what="it runs")
    daemon.kill()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    said = (tmp_path / "worker0.log").read_text()
    assert "1 task could not be given back" in said and "what ran was given back" not in said


def test_failures_are_told_and_a_cancelled_task_is_ended(make_daemon: Any, start: Start, tmp_path: Path) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    tasks = [daemon.post("issues", issue(n)).json["tasks"][0] for n in (1, 2)]
    code = """if True:
        import json, os, sys, time
        if json.load(sys.stdin)["issue"]["number"] == 1:
            sys.exit(3)
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    """
    pid = tmp_path / "pid"
    start(daemon, "--lease", "1s", "--concurrency", "2", "--", sys.executable, "-S", "-c", code, str(pid))
    eventually(lambda: "failed" in kinds(daemon, tasks[0]), what="its failure is recorded")
    failed = eventually(lambda: (found := attempt(daemon, tasks[0]))["category"] and found, what="its failure is shown")
    assert (failed["category"], failed["exit_code"]) == ("exit", 3)
    eventually(lambda: kinds(daemon, tasks[1]).count("renewed") >= 2, what="the lease is renewed")
    running = int(eventually(lambda: pid.exists() and pid.read_text()))
    daemon.cli("cancel", tasks[1])
    eventually(lambda: not Path(f"/proc/{running}").exists(), what="the command is ended")
    assert kinds(daemon, tasks[1])[-1] == "cancelled"


def test_a_worker_over_tcp_has_its_token_to_itself(make_daemon: Any, start: Start, tmp_path: Path) -> None:
    port = free_port()
    daemon: Daemon = make_daemon(config=f'[api]\nbind = "127.0.0.1:{port}"\n' + PULL)
    token = daemon.cli("tokens", "new", "--name", "w", "--role", "worker").stdout.decode().split()[-1]
    task = daemon.post("issues", issue(7)).json["tasks"][0]
    code = f"import os, sys; sys.exit(any('{token}' in value for value in os.environ.values()))"
    env = {"COVENQ_TOKEN": token, "COVENQ_URL": f"http://127.0.0.1:{port}"}
    start(daemon, "--", sys.executable, "-S", "-c", code, env=env)
    eventually(lambda: "completed" in kinds(daemon, task), what="it is completed")
    wrong = start(daemon, "--", "true", env={**env, "COVENQ_TOKEN": "cqw_" + "x" * 40})
    assert wrong.wait(60) == 4


def test_the_manuals_worker_in_a_few_lines_does_its_work(make_daemon: Any, tmp_path: Path) -> None:
    page = (ROOT / "man" / "covenq-http.7").read_text().partition(".SH A WORKER")[2]
    code = page.partition(".nf\n")[2].partition(".fi\n")[0].replace("\\-", "-").replace("\\(aq", "'")
    assert len(code.splitlines()) < 30
    port = free_port()
    daemon: Daemon = make_daemon(config=f'[api]\nbind = "127.0.0.1:{port}"\n' + PULL)
    token = daemon.cli("tokens", "new", "--name", "w", "--role", "worker").stdout.decode().split()[-1]
    first, second = (daemon.post("issues", issue(number)).json["tasks"][0] for number in (7, 8))
    daemon.cli("cancel", second)
    env = {"COVENQ_TOKEN": token, "COVENQ_URL": f"http://127.0.0.1:{port}"}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-S", "-c", code], env=env, stdout=said, stderr=said)
    try:
        eventually(lambda: "completed" in kinds(daemon, first), what="it is completed")
        third = daemon.post("issues", issue(9)).json["tasks"][0]
        eventually(lambda: "completed" in kinds(daemon, third), what="the next one is, too")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "said").read_text() == "opened octo/hello\n" * 2
    assert kinds(daemon, first)[1:] == ["claimed", "renewed", "completed"]


class BreakingClient(ClaimsClient):
    """A client that fails once, as nobody thought of, when it asks for a payload."""

    broken = threading.Event()

    def payload(self, grant: ClaimGrant) -> tuple[bytes, str | None]:
        if not self.broken.is_set():
            self.broken.set()
            raise RuntimeError("s3cret")
        return super().payload(grant)


def test_an_attempt_that_breaks_in_the_worker_is_reported_as_internal(data: Path, tmp_path: Path) -> None:
    route = {"name": "p", "match": "event:issues", "pull": True, "retry": {"max": 1, "backoff": "10ms", "cap": "10ms"}}
    with serving(data, {"route": [route]}) as served:
        task = served.post("issues", issue(7)).json["tasks"][0]
        BreakingClient.broken.clear()
        (tmp_path / "work").mkdir()
        options = WorkerOptions("w1", ("true",), lease_s=600.0, environ={"PATH": os.environ["PATH"]})
        worker = Worker(lambda: BreakingClient(served.socket), options, tmp_path / "work")
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            eventually(
                lambda: served.ask(f"/api/v1/tasks/{task}").json["state"] == "completed", what="it is tried again"
            )
        finally:
            worker.stop()
            thread.join(60)
        first, second = sorted(
            served.ask(f"/api/v1/tasks/{task}/attempts").json["items"], key=lambda one: one["attempt"]
        )
        assert (first["category"], second["outcome"]) == ("internal", "completed")
        assert first["detail"] == "covenq worker itself failed (RuntimeError); its log has the traceback"
        assert not [one for one in records(served.data) if one["kind"] == "ops.late"]


class UnreadableClient(ClaimsClient):
    """A client of a daemon that can't read its state when it is asked for each thing the first time."""

    word = ""
    refused: ClassVar[set[str]] = set()

    def _ask(self, method: str, target: str, body: bytes | None = None, timeout: float | None = None) -> bytes:
        what = target.rpartition("/")[2]
        if what not in self.refused:
            self.refused.add(what)
            raise error_of(503, json.dumps({"ok": False, "error": self.word, "detail": "It can't be read."}).encode())
        return super()._ask(method, target, body, timeout)


@pytest.mark.parametrize("word", ["state_unreadable", "state_behind", "journal_unavailable"])
def test_a_daemon_that_cant_read_its_state_is_asked_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """As one that is down: its restart makes the state again, and what runs meanwhile is still this worker's."""
    monkeypatch.setattr(UnreadableClient, "word", word)
    monkeypatch.setattr(UnreadableClient, "refused", set())
    passed = [0.0]  # seconds that the worker thinks have passed beside those that have
    monkeypatch.setattr(worker_module, "boottime", lambda: now() + passed[0])
    with serving(data, {"route": [{"name": "p", "match": "event:issues", "pull": True}]}) as served:
        task = served.post("issues", issue(7)).json["tasks"][0]
        (tmp_path / "work").mkdir()
        told = tmp_path / "told"
        run = ("sh", "-c", f"while [ ! -e {told} ]; do sleep 0.05; done; echo said")
        options = WorkerOptions("w1", run, lease_s=60.0, environ={"PATH": os.environ["PATH"]})
        worker = Worker(lambda: UnreadableClient(served.socket), options, tmp_path / "work")
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            eventually(lambda: "phase" in UnreadableClient.refused or not thread.is_alive(), what="it is run")
            passed[0] = 30.0  # a renewal is due, and what is left of the lease is long
            eventually(
                lambda: "renew" in UnreadableClient.refused or not thread.is_alive(), what="its lease is renewed"
            )
            told.touch()
            eventually(
                lambda: served.ask(f"/api/v1/tasks/{task}").json["state"] == "completed" or not thread.is_alive(),
                what="it is done",
            )
            assert served.ask(f"/api/v1/tasks/{task}").json["attempts"] == 1
            assert served.ask(f"/api/v1/tasks/{task}").json["state"] == "completed"
        finally:
            told.touch()
            worker.stop()
            thread.join(60)
        assert UnreadableClient.refused >= {"claims", "payload", "phase", "renew", "complete"}


class OlderDaemonClient(ClaimsClient):
    """A client of a daemon that knows nothing of outputs."""

    refused: ClassVar[list[str]] = []

    def post(self, path: str, body: Mapping[str, object], timeout: float | None = None) -> dict[str, Any]:
        if unknown := sorted(body.keys() & {"stdout", "stderr"}):
            self.refused.append(path.rpartition("/")[2])
            raise UsageError(f"unknown key {unknown[0]!r}")
        return super().post(path, body, timeout)


@pytest.mark.parametrize("code", [0, 3])
def test_a_daemon_that_takes_no_outputs_gets_the_report_without(data: Path, tmp_path: Path, code: int) -> None:
    with serving(data, {"route": [{"name": "p", "match": "event:issues", "pull": True}]}) as served:
        task = served.post("issues", issue(7)).json["tasks"][0]
        (tmp_path / "work").mkdir()
        run = ("sh", "-c", f"echo said; exit {code}")
        OlderDaemonClient.refused.clear()
        worker = Worker(
            lambda: OlderDaemonClient(served.socket),
            WorkerOptions("w1", run, environ={"PATH": os.environ["PATH"]}),
            tmp_path / "work",
        )
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            ended = eventually(lambda: (row := served.ask(f"/api/v1/tasks/{task}").json)["state"] != "queued" and row)
            ended = eventually(lambda: (row := served.ask(f"/api/v1/tasks/{task}").json)["state"] != "running" and row)
        finally:
            worker.stop()
            thread.join(60)
        assert ended["state"] == ("failed" if code else "completed")
        assert OlderDaemonClient.refused == ["fail" if code else "complete"]


def test_of_an_output_its_end_is_sent_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    directory = AttemptDirectory.for_attempt(tmp_path, "t1", 1)
    assert read_outputs(directory) == {}
    directory.prepare(b"{}", {})
    directory.write_output(b"\xff" * 10)
    assert read_outputs(directory) == {"stdout": "\ufffd" * 10, "stderr": ""}
    directory.write_output(b"a" * OUTPUT_MAX + b"b")
    directory.stderr.unlink()
    os.mkfifo(directory.stderr)
    (said,) = read_outputs(directory).values()
    note, _, rest = said.partition("\n")
    assert note == "[covenq: 101 bytes before this were not sent]"
    assert rest == "a" * (OUTPUT_MAX - 101) + "b" and len(said) <= OUTPUT_MAX


PAUSED = """if True:
    import os, sys, time
    from pathlib import Path
    from covenq.errors import StaleFence
    from covenq.tasks.remote.client import ClaimsClient
    socket, directory, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    line, gate, first = ClaimsClient(socket), directory / "gate", True
    log = open(directory / f"{name}.log", "a", buffering=1)
    while True:
        granted = line.claim(name, 1, wait_s=0 if first else 2)
        if granted is None:
            continue
        if first:
            (directory / f"{name}.held").touch()
            while not gate.exists():
                time.sleep(0.02)
            first = False
        for word, more in (("phase", {"phase": "woken"}), ("renew", {"lease_s": 60}), ("complete", {})):
            try:
                line.report(granted, word, **more)
                said = "ok"
            except StaleFence:
                said = "stale"
            print(granted.id, granted.fence, word, said, file=log)
"""


def test_ten_workers_paused_past_their_leases_complete_nothing_twice(make_daemon: Any, tmp_path: Path) -> None:
    daemon: Daemon = make_daemon(config=PULL)
    tasks = [daemon.post("issues", issue(n)).json["tasks"][0] for n in range(1, 16)]
    names = [f"w{n}" for n in range(10)]
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-c", PAUSED, str(daemon.socket), str(tmp_path), name], env=clean_env(), cwd=ROOT
        )
        for name in names
    }
    try:
        for name in names:
            eventually((tmp_path / f"{name}.held").exists, timeout=60, what=f"{name} holds a task")
            workers[name].send_signal(signal.SIGSTOP)

        def lost() -> set[int]:  # by claim: a worker that starts late may get a task that another has lost
            found = [one for one in records(daemon.data, "task.retry") if one["data"]["category"] == "lease_lost"]
            return {one["data"]["claim"] for one in found}

        eventually(lambda: len(lost()) == 10, what="ten leases have run out")
        (tmp_path / "gate").touch()
        for name in names[:5]:
            workers[name].send_signal(signal.SIGCONT)
        done = lambda: {one["subject"].removeprefix("task.") for one in records(daemon.data, "task.completed")}  # noqa: E731
        eventually(lambda: done() == set(tasks), what="half of the workers have done everything")
        for name in names[5:]:
            workers[name].send_signal(signal.SIGCONT)
        eventually(
            lambda: all((tmp_path / f"{name}.log").read_text().count("\n") >= 3 for name in names),
            what="the others have said their late words",
        )
    finally:
        for process in workers.values():
            process.kill()
            process.wait()
    said = [line.split() for name in names for line in (tmp_path / f"{name}.log").read_text().splitlines()]
    late = [
        (one["data"]["task"], one["data"]["fence"], one["data"]["what"]) for one in records(daemon.data, "ops.late")
    ]
    assert sorted(late) == sorted((task, fence, word) for task, fence, word, answer in said if answer == "stale")
    assert len(late) >= 30
    for task in tasks:
        assert kinds(daemon, task).count("completed") == 1, kinds(daemon, task)
        assert kinds(daemon, task)[-1] == "completed"
        assert sum(one[0] == task and one[2:] == ["complete", "ok"] for one in said) == 1
    fences = [one["data"]["claim"] for one in records(daemon.data, "task.completed")]
    assert len(set(fences)) == len(tasks)


RESULTS = {
    "sparse": ("open(sys.argv[1], 'wb').truncate(3 << 30)", "its result has 3221225472 bytes, more than 1048576"),
    "grows": (
        "open(sys.argv[1], 'w').write('\\x01' * 900_000)",
        "its result has 5400002 bytes as JSON, more than 1048576",
    ),
    "numbers": ("open(sys.argv[1], 'w').write('[' + '1e9,' * 200_000 + '1]')", "its result has 2600003 bytes as JSON"),
    "deep": ("open(sys.argv[1], 'w').write('[' * 900_000 + ']' * 900_000)", "its result has 1800000 bytes"),
}


@pytest.mark.parametrize("result", RESULTS)
def test_a_result_that_is_too_large_is_not_read_and_the_daemon_hears_of_it(
    make_daemon: Any, start: Start, result: str
) -> None:
    code, words = RESULTS[result]
    daemon: Daemon = make_daemon(config=PULL)
    task = daemon.post("issues", issue(7)).json["tasks"][0]
    worker = start(daemon, "--lease", "5s", "--", sys.executable, "-S", "-c", "import sys; " + code, "{result}")
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (1 << 30, 1 << 30))
    eventually(lambda: "failed" in kinds(daemon, task), what="it is a failure, and no lease that ran out")
    found = eventually(lambda: (one := attempt(daemon, task))["category"] and one)
    assert (found["category"], found["exit_code"]) == ("result_invalid", 0)
    (said,) = [one["data"]["detail"] for one in records(daemon.data, "task.failed")]
    assert words in said
    assert worker.poll() is None


REMOVES = """
import os, sys
from pathlib import Path
from covenq.tasks.remote.work_directory import remove_directory
if os.geteuid() == 0:  # root may remove anything
    os.setuid(65534)
task = Path(sys.argv[1]) / "task"
(task / "1" / "locked").mkdir(parents=True)
(task / "1" / "locked" / "file").write_text("x")
(task / "1" / "locked").chmod(0o500)
remove_directory(task)
print(task.exists())
"""


def test_a_directory_that_a_command_locked_is_removed_all_the_same() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", REMOVES, directory],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == ("False\n", "")
