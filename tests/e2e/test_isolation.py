"""What a command can reach of its daemon: a socket for phases, and neither its environment nor its memory.

And what it can't where it runs as another user, by the recipe of covenq.toml(5).
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon, free_port
from tests.support.journal_json import records
from tests.support.requests import SECRET, UnixConnection, ask, encode, issue
from tests.support.waiting import eventually, written_json

Make = Callable[..., Daemon]

OTHER = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run something as another user")
on_linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux's /proc shows an environment")


@pytest.fixture
def forked() -> bool:
    return False  # what others may see of the process


def python_of_everybody() -> tuple[str, dict[str, str]]:
    """A Python of this version, and variables, by which another user can run covenq; skips where there is none."""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    env = clean_env(PYTHONPATH=f"{ROOT}{os.pathsep}{packages}", HOME="/nonexistent", PYTHONDONTWRITEBYTECODE="1")
    env.pop("XDG_STATE_HOME", None)
    for python in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
        if python is None:
            continue
        try:
            done = subprocess.run(
                [python, "-m", "covenq", "--version"], user=OTHER, env=env, cwd="/", capture_output=True
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python, env
    pytest.skip("no Python with covenq can be run by another user")


@pytest.fixture
def others_directory() -> Iterator[Path]:
    """A directory of the other user."""
    directory = Path(tempfile.mkdtemp(prefix="cq-"))
    user = pwd.getpwnam(OTHER)
    os.chown(directory, user.pw_uid, user.pw_gid)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def ended(process: subprocess.Popen[bytes]) -> int:
    """End it with SIGTERM; its exit code."""
    process.terminate()
    try:
        return process.wait(30)
    finally:
        process.kill()
        process.wait()


PEEK = 'cat "/proc/$PPID/environ" "/proc/$PPID/mem" > environ; ls "/proc/$PPID/fd" > fd; true'
"""A shell's script that looks at its parent, the daemon."""


@on_linux
@as_root
@pytest.mark.parametrize("what", ["serve", "worker"])
def test_a_command_of_the_same_user_cannot_read_the_environment_of_what_started_it(
    others_directory: Path, what: str
) -> None:
    python, env = python_of_everybody()
    env |= {"COVENQ_WEBHOOK_SECRET": SECRET, "COVENQ_DATA": str(others_directory / "data")}
    run = f"run = ['/bin/sh', '-c', '''{PEEK}''']" if what == "serve" else "pull = true"
    config = others_directory / "covenq.toml"
    config.write_text(f"[[route]]\nname = 'all'\nmatch = 'event:issues'\n{run}\n")
    daemon = Daemon(others_directory / "data", config)
    daemon.port = free_port()
    common: dict[str, Any] = {"env": env, "user": OTHER, "group": pwd.getpwnam(OTHER).pw_gid, "cwd": others_directory}
    bind = f"127.0.0.1:{daemon.port}"
    argv = [python, "-m", "covenq", "serve", "--bind", bind, "--config", str(config)]
    with daemon.log.open("ab") as log:
        daemon.process = subprocess.Popen(argv, **common, stderr=log)
    worker: subprocess.Popen[bytes] | None = None
    try:
        eventually(daemon.ready_or_gone, 60, "it is ready")
        if what == "worker":
            work = ["--work", str(others_directory / "work"), "--keep", "all"]
            argv = [python, "-m", "covenq", "worker", *work, "--", "/bin/sh", "-c", PEEK]
            worker = subprocess.Popen(argv, **common)
        daemon.post("issues", issue())
        assert list(daemon.wait_all_done().values()) == [["task.completed"]]
        [environ] = others_directory.rglob("environ")
        assert environ.read_bytes() == b""
        assert environ.with_name("fd").read_bytes() == b""
        assert "Permission denied" in environ.with_name("stderr").read_text()
        assert daemon.api("/metrics").body.count(b"process_open_fds") >= 1, "it can still look at itself"
        assert daemon.api("/api/v1/status").status == 200
    finally:
        codes = [ended(process) for process in (worker, daemon.process) if process is not None]
    assert not any(codes), daemon.log_tail()


REPORT = """if True:
    import json, os, subprocess, sys
    done = subprocess.run([sys.executable, "-m", "covenq", "phase", "half done"], capture_output=True, text=True)
    open(os.environ["COVENQ_RESULT"], "w").write(json.dumps([os.environ["COVENQ_SOCKET"], done.returncode, done.stderr]))
    while not os.path.exists(sys.argv[1]):
        import time
        time.sleep(0.02)
"""


def ended_attempt(daemon: Daemon, task: str) -> Any:
    """A task's one attempt, once it has ended for the daemon: a record can be read a moment before it is durable."""

    def ended() -> Any:
        [attempt] = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
        return attempt if attempt["outcome"] is not None else None

    return eventually(ended)


def test_the_socket_of_commands_takes_phases_and_nothing_else(make_daemon: Make, tmp_path: Path) -> None:
    script, go_on = tmp_path / "report.py", tmp_path / "go_on"
    script.write_text(REPORT)
    argv = [sys.executable, str(script), str(go_on)]
    route = f"[[route]]\nname = 'all'\nmatch = 'event:issues'\nrun = {json.dumps(argv)}\nenv = ['PYTHONPATH']\n"
    daemon = make_daemon(route, env={"PYTHONPATH": str(ROOT)})
    task = daemon.post("issues", issue()).json["tasks"][0]
    result = daemon.data / "attempts" / task / "1" / "result"
    path, code, said = written_json(result)
    assert (code, said) == (0, "")
    assert path != str(daemon.socket)
    assert Path(path).stat().st_mode & 0o777 == 0o600

    def on_it(method: str, target: str, payload: Any = None) -> Any:
        connection = UnixConnection(Path(path), 30)
        try:
            body = None if payload is None else encode(payload)
            return ask(connection, method, target, body, {"Content-Type": "application/json"} if body else None)
        finally:
            connection.close()

    for method, target, payload in (
        ("POST", "/api/v1/replay", {"filter": "event:issues", "force": True}),
        ("POST", "/api/v1/requeue", {"ids": [task]}),
        ("POST", "/api/v1/cancel", {"ids": [task]}),
        ("POST", "/api/v1/claims", {"worker": "w"}),
        ("POST", f"/api/v1/claims/{task}/complete", {"fence": "1.1"}),
        ("POST", f"/api/v1/claims/{task}/fail", {"fence": "1.1"}),
        ("POST", "/webhook", {}),
        ("GET", "/api/v1/deliveries", None),
        ("GET", "/api/v1/status", None),
        ("GET", f"/api/v1/claims/{task}/phase", None),
        ("PUT", f"/api/v1/claims/{task}/phase", {}),
    ):
        answer = on_it(method, target, payload)
        assert (answer.status, answer.json["error"]) == (403, "phases_only"), (method, target, answer)
        assert "phases" in answer.json["detail"] and "covenq.sock" in answer.json["hint"]
    assert on_it("POST", f"/api/v1/claims/{task}/phase", {"fence": "1.1", "phase": "x"}).json["error"] == "stale_fence"
    assert on_it("POST", f"/api/v1/claims/{task}/phase", {"fence": "1.1"}).status == 400
    assert b"/api/v1/" not in daemon.cli("refused", "--jsonl").stdout, "what commands try is no refusal of a sender"
    go_on.touch()
    daemon.wait_all_done()
    attempt = ended_attempt(daemon, task)
    assert [name for name, _ in attempt["phases"]] == ["prepared", "started", "half done", "collected"]
    assert daemon.stop() == 0
    assert not Path(path).exists()


HOG = """if True:
    import resource, socket, sys, time
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held, told = [], False
    while True:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(30)
        try:
            one.connect(sys.argv[1])
            one.send(b"POST /api/v1/claims/x/phase HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 50\\r\\n\\r\\n{")
        except OSError:
            if not told and len(held) > 1000:
                told = print("full", flush=True) or True
            time.sleep(0.001)
            continue
        held.append(one)
        del held[:-3000]
"""


def test_a_command_that_holds_half_requests_keeps_no_other_from_its_phases(make_daemon: Make, tmp_path: Path) -> None:
    script, go_on = tmp_path / "report.py", tmp_path / "go_on"
    script.write_text(REPORT)
    argv = [sys.executable, str(script), str(go_on)]
    route = f"[[route]]\nname = 'all'\nmatch = 'event:issues'\nrun = {json.dumps(argv)}\nenv = ['PYTHONPATH']\n"
    daemon = make_daemon(route, env={"PYTHONPATH": str(ROOT)})
    hog = subprocess.Popen([sys.executable, "-c", HOG, str(daemon.data / "phase.sock")], stdout=subprocess.PIPE)
    try:
        assert hog.stdout is not None and hog.stdout.readline() == b"full\n"
        task = daemon.post("issues", issue()).json["tasks"][0]
        result = daemon.data / "attempts" / task / "1" / "result"
        _, code, said = written_json(result)
        assert code == 0, said
    finally:
        hog.kill()
        hog.communicate()
        go_on.touch()
    daemon.wait_all_done()
    attempt = ended_attempt(daemon, task)
    assert "half done" in [name for name, _ in attempt["phases"]]
    assert 1 <= daemon.log_tail(100_000).count("connection limit") < 10, "it is told, and not at every eviction"


STEAL = """
for path in "$1"/secret "$1"/covenq.sock "$1"/journal "$1"/state.db "$2"; do
    ls "$path" > /dev/null 2>&1 && cat "$path" && echo "REACHED $path"
done
cat "/proc/$3/environ" 2> /dev/null && echo "REACHED the daemon"
id -un
"""


@on_linux
@as_root
def test_the_recipe_for_commands_as_another_user(make_daemon: Make, others_directory: Path) -> None:
    """As in covenq.toml(5): a route whose tasks are pulled, a token of the role `worker`, and `covenq worker` as that user."""
    python, env = python_of_everybody()
    port = free_port()
    config = f"[api]\nbind = '127.0.0.1:{port}'\n[[route]]\nname = 'build'\nmatch = 'event:issues'\npull = true\n"
    daemon = make_daemon(config)
    token = others_directory / "token"
    token.write_bytes(daemon.cli("tokens", "new", "--name", "build", "--role", "worker").stdout)
    user = pwd.getpwnam(OTHER)
    os.chown(token, user.pw_uid, user.pw_gid)
    token.chmod(0o600)
    assert daemon.config is not None
    command = ["/bin/sh", "-c", STEAL, "sh", str(daemon.data), str(daemon.config), str(daemon.pid)]
    options = ["--url", f"http://127.0.0.1:{port}", "--token-file", str(token), "--route", "build"]
    page = (ROOT / "man" / "covenq.toml.5").read_text().replace("\\-", "-")
    assert f"sudo -u {OTHER} covenq worker" in page and "tokens new --name build --role worker" in page
    assert all(option in page for option in [*options[::2], "--work", "pull = true", "[api]"]), (
        "the recipe is the manual's"
    )
    kept = ["--work", str(others_directory / "work"), "--keep", "all"]
    argv = [python, "-m", "covenq", "worker", *options, *kept, "--", *command]
    worker = subprocess.Popen(argv, env=env, user=OTHER, group=user.pw_gid, extra_groups=[], cwd=others_directory)
    try:
        task = daemon.post("issues", issue()).json["tasks"][0]
        assert daemon.wait_all_done() == {f"task.{task}": ["task.completed"]}
        [stdout] = (others_directory / "work").rglob("stdout")
        assert stdout.read_text() == f"{OTHER}\n"
        for path in ("/api/v1/deliveries", "/api/v1/tasks", "/api/v1/status"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            bearer = {"Authorization": f"Bearer {token.read_text().strip()}"}
            assert ask(connection, "GET", path, None, bearer).status == 403, "a worker's token is for its tasks alone"
            connection.close()
    finally:
        code = ended(worker)
    assert code == 0
    assert [one["kind"] for one in records(daemon.data) if one["kind"] == "task.completed"]
