"""What the tests share: the real daemon as a process, a plain HTTP client, and the journal read as plain JSON.

Nothing here imports the product, so that a test's oracle is not the code under test: requests are signed with the
standard library, and the journal is read as the JSON Lines it is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
FAULTY = Path(__file__).resolve().parent / "faulty_daemon.py"
SECRET = "a test's webhook secret"
HOOK = "446581321"
FINAL_KINDS = ("task.completed", "task.failed", "task.cancelled", "task.superseded")

T = TypeVar("T")


def eventually(fn: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """Call `fn` until it returns something true, and return that.

    An AssertionError or OSError from `fn` counts as "not yet". Past `timeout` seconds the last of them is raised
    again, or AssertionError.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        failure: Exception | None = None
        value: T | None = None
        try:
            value = fn()
            if value:
                return value
        except (AssertionError, OSError, http.client.HTTPException) as error:
            failure = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or fn} (last: {value!r})") from failure
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def sign(body: bytes, secret: str | bytes = SECRET) -> str:
    """The value of X-Hub-Signature-256, from the standard library alone."""
    key = secret.encode() if isinstance(secret, str) else secret
    return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()


def encode(payload: Any) -> bytes:
    """Bytes are bodies as they are; anything else becomes compact JSON."""
    return payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()


def new_guid() -> str:
    return str(uuid.uuid4())


def signed(
    event: str,
    payload: Any,
    guid: str | None = None,
    hook: str = HOOK,
    *,
    secret: str | bytes = SECRET,
    content_type: str = "application/json",
    **more: str,
) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of one signed delivery, as GitHub sends it. `more` adds headers: X_Name="value"."""
    body = encode(payload)
    headers = {
        "User-Agent": "GitHub-Hookshot/0000000",
        "Content-Type": content_type,
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid or new_guid(),
        "X-GitHub-Hook-ID": hook,
        "X-GitHub-Hook-Installation-Target-Type": "integration",
        "X-GitHub-Hook-Installation-Target-ID": "79929171",
        "X-Hub-Signature-256": sign(body, secret),
    }
    headers.update({name.replace("_", "-"): value for name, value in more.items()})
    return body, headers


def issue(number: int = 7, *, action: str = "opened", repo: str = "octo/hello", **more: Any) -> dict[str, Any]:
    """A small but truly shaped `issues` payload."""
    owner, _, name = repo.partition("/")
    payload: dict[str, Any] = {
        "action": action,
        "issue": {
            "number": number,
            "title": f"Issue {number}",
            "state": "open",
            "user": {"login": "octocat", "id": 1},
            "labels": [{"name": "bug"}],
            "body": "It does not work.",
        },
        "repository": {"id": 1296269, "name": name, "full_name": repo, "owner": {"login": owner, "id": 1}},
        "sender": {"login": "octocat", "id": 1, "type": "User"},
        "installation": {"id": 2311},
    }
    payload.update(more)
    return payload


@dataclass
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on an open connection."""
    connection.request(method, path, body=body, headers=dict(headers or {}))
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def free_port() -> int:
    """A port free now, below the range the kernel gives to clients, so that no connection takes it meanwhile.

    Two parallel tests may still choose the same one: `Daemon.start` takes another when it finds it busy.
    """
    for _ in range(1000):
        port = 10240 + int.from_bytes(os.urandom(2), "big") % 20000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def clean_env(**more: str) -> dict[str, str]:
    """This process's environment without anything of covenq's, and with the checkout importable."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVENQ_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", "")]))
    env["NO_COLOR"] = "1"
    env["COLUMNS"] = "200"
    env.update(more)
    return env


def segments(data: Path) -> list[Path]:
    return sorted((data / "journal").glob("*.jsonl"))


def journal_lines(data: Path) -> Iterator[bytes]:
    """Every whole line of the journal, without its newline. A tail still being written is left out."""
    for path in segments(data):
        content = path.read_bytes()
        yield from content.split(b"\n")[:-1]


def records(data: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The journal's records as plain JSON objects, headers left out; of one kind only, if given."""
    found = []
    for line in journal_lines(data):
        record = json.loads(line)
        if "kind" in record and "subject" in record and kind in (None, record["kind"]):
            found.append(record)
    return found


def payload_of(line: bytes) -> bytes | None:
    """The received bytes that a journal line holds, cut from the raw line as the format says."""
    record = json.loads(line)
    if "payload" in record:
        start = len(line) - 1 - int(record["payload_bytes"])
        assert line[:start].endswith(b',"payload":')
        return line[start:-1]
    if "body" in record:
        return str(record["body"]).encode()
    if "body64" in record:
        return base64.b64decode(record["body64"])
    return None


@dataclass
class Daemon:
    """`covenq serve` as a process of its own, over one data directory. Starts, stops, dies and starts again."""

    data: Path
    config: Path | None = None
    secret: str | None = SECRET
    env: dict[str, str] = field(default_factory=dict)
    faults: Path | None = None
    wrapper: Sequence[str] = ()
    args: Sequence[str] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the daemon said on stderr (and stdout), over all its lives. Beside the data directory."""
        return self.data.with_name(self.data.name + ".log")

    @property
    def socket(self) -> Path:
        return self.data / "covenq.sock"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def environment(self) -> dict[str, str]:
        """What `serve` and the commands of `cli` run with."""
        env = clean_env(COVENQ_DATA=str(self.data))
        if self.secret is not None:
            env["COVENQ_WEBHOOK_SECRET"] = self.secret
        if self.config is not None:
            env["COVENQ_CONFIG"] = str(self.config)
        if self.faults is not None:
            env["COVENQ_TEST_FAULTS"] = str(self.faults)
        env.update(self.env)
        return env

    def command(self) -> list[str]:
        program = [str(FAULTY)] if self.faults is not None else ["-m", "covenq"]
        bind = f"127.0.0.1:{self.port}"
        return [*self.wrapper, sys.executable, *program, "serve", "--bind", bind, *self.args]

    def start(self, *, wait: bool = True, timeout: float = 60.0) -> Daemon:
        """Start it, and wait until it says it is ready (unless `wait` is false)."""
        assert not self.running, "already running"
        for tries_left in (4, 3, 2, 1, 0):
            if not self.port:
                self.port = free_port()
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command(),
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if not wait:
                return self
            try:
                eventually(self.ready_or_gone, timeout, "the daemon is ready")
            except AssertionError:
                self.kill()
                raise AssertionError(f"the daemon did not become ready:\n{self.log_tail()}") from None
            if self.process.poll() is None:
                return self
            if self.process.returncode != 4 or not tries_left or "COVENQ_BIND" not in self.log_tail():
                raise AssertionError(f"the daemon exited {self.process.returncode} at start:\n{self.log_tail()}")
            self.port = 0
        raise AssertionError("no port to be had")

    def ready_or_gone(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or self.get("/readyz").status == 200

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_tail(self, size: int = 4000) -> str:
        return self.log.read_text("utf-8", "replace")[-size:] if self.log.exists() else ""

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the daemon alone, at once; what it ran is left as a real kill would leave it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def wait_exit(self, timeout: float) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def restart(self) -> Daemon:
        """Stop with SIGTERM (exit code 0), and start again."""
        assert self.stop() == 0, self.log_tail()
        return self.start()

    # HTTP

    def connect(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        """A connection of one's own, kept open between requests; close it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        connection = self.connect(timeout)
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def get(self, path: str, timeout: float = 30.0) -> Answer:
        return self.request("GET", path, timeout=timeout)

    def post(self, event: str, payload: Any, guid: str | None = None, hook: str = HOOK, **options: Any) -> Answer:
        """One signed delivery to /webhook; `options` are those of `signed`."""
        options.setdefault("secret", self.secret or SECRET)
        body, headers = signed(event, payload, guid, hook, **options)
        return self.request("POST", "/webhook", body, headers)

    def raw(self, request: bytes, timeout: float = 10.0) -> bytes:
        """Send bytes as they are and return all that comes back until the server closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while True:
                try:
                    chunk = connection.recv(65536)
                except (TimeoutError, ConnectionResetError):
                    return received
                if not chunk:
                    return received
                received += chunk

    def api(self, path: str, method: str = "GET", payload: Any = None, timeout: float = 30.0) -> Answer:
        """A request on the Unix socket."""
        connection = UnixConnection(self.socket, timeout)
        try:
            body = None if payload is None else encode(payload)
            return ask(connection, method, path, body, {"Content-Type": "application/json"} if body else None)
        finally:
            connection.close()

    # Commands and files

    def cli(
        self,
        *args: str,
        exit_code: int | None = 0,
        env: Mapping[str, str] | None = None,
        input: bytes | None = None,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a covenq command on this data directory; `exit_code` is what it must exit with (None: anything)."""
        done = subprocess.run(
            [sys.executable, "-m", "covenq", *args],
            env={**self.environment(), **(env or {})},
            input=input if input is not None else b"",
            capture_output=True,
            timeout=timeout,
        )
        if exit_code is not None and done.returncode != exit_code:
            said = done.stdout.decode("utf-8", "replace")[-2000:] + done.stderr.decode("utf-8", "replace")[-4000:]
            raise AssertionError(f"`covenq {' '.join(args)}` exited {done.returncode}, not {exit_code}:\n{said}")
        return done

    def cli_json(self, *args: str, exit_code: int = 0) -> Any:
        return json.loads(self.cli(*args, "--json", exit_code=exit_code).stdout)

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        return records(self.data, kind)

    def finished(self) -> dict[str, list[str]]:
        """Task subject → the kinds of the final records it has."""
        ends: dict[str, list[str]] = {}
        for record in self.records():
            if record["kind"] == "task.queued":
                ends.setdefault(record["subject"], [])
            elif record["kind"] in FINAL_KINDS:
                ends.setdefault(record["subject"], []).append(record["kind"])
        return ends

    def wait_all_done(self, timeout: float = 60.0) -> dict[str, list[str]]:
        """Wait until every task in the journal has an end, and return `finished()`."""

        def done() -> dict[str, list[str]]:
            ends = self.finished()
            waiting = [subject for subject, kinds in ends.items() if not kinds]
            assert not waiting, f"{len(waiting)} of {len(ends)} tasks have no end yet, {waiting[0]} for one"
            return ends or {"": ["none"]}

        ends = eventually(done, timeout, "all tasks end")
        ends.pop("", None)
        return ends


def wait_for_daily_run(daemon: Daemon) -> float:
    """Until the daemon's own retention has run for today, and so will not meddle with what a test counts. When it ran."""

    return eventually(lambda: float(json.loads((daemon.data / "upkeep.json").read_bytes())["retained_at"]), 30)
