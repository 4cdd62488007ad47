"""The daemon as a process of its own: started, stopped, killed, restarted, and talked to.

Nothing here imports the product, so that a test's oracle is not the code under test.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support import chosen_engine
from tests.support.checkout import clean_env
from tests.support.commands import fork_daemon, run_command
from tests.support.forking import ForkedDaemon
from tests.support.journal_json import FINAL_KINDS, QUEUED_KINDS, records, turns
from tests.support.requests import HOOK, SECRET, Answer, UnixConnection, ask, encode, signed
from tests.support.waiting import eventually

SOCKET_MAX = 100
"""Bytes of a Unix socket's path that any system takes. Below a longer one a daemon is asked on its port alone."""
FAULTY = Path(__file__).resolve().parent / "faulty_daemon.py"


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


@dataclass
class Daemon:
    """`covenq serve` as a process of its own, over one data directory. It can be started, stopped, killed and restarted."""

    data: Path
    config: Path | None = None
    secret: str | None = SECRET
    env: dict[str, str] = field(default_factory=dict)
    faults: Path | None = None
    wrapper: Sequence[str] = ()
    args: Sequence[str] = ()
    port: int = 0
    pass_fds: Sequence[int] = ()
    forked: bool = False
    """Whether it may be forked from a process that has imported covenq, where nothing asks for an interpreter of its own."""
    process: subprocess.Popen[bytes] | ForkedDaemon | None = None
    posted: bool = True
    """Whether it listens for deliveries; else it is asked on its Unix socket."""
    before: subprocess.Popen[bytes] | ForkedDaemon | None = None
    """The one that `process` takes over from, or took over from."""

    @property
    def log(self) -> Path:
        """The daemon's stderr and stdout, over all its restarts. Beside the data directory."""
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
        """The environment of `serve` and of the commands of `cli`."""
        env = clean_env(COVENQ_DATA=str(self.data), **chosen_engine.variables(self.data))
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
        """Start it, and wait until it is ready (unless `wait` is false)."""
        assert not self.running, "already running"
        for tries_left in (4, 3, 2, 1, 0):
            if not self.port:
                self.port = free_port()
            with self.log.open("ab") as log:
                self.process = self._spawn(log)
            if not wait:
                return self
            try:
                eventually(self.ready_or_gone, timeout, "the daemon is ready", longest_pause=0.02)
            except AssertionError:
                self.kill()
                raise AssertionError(f"the daemon did not become ready:\n{self.log_tail()}") from None
            if self.process.poll() is None:
                return self
            if self.process.returncode != 4 or not tries_left or "COVENQ_BIND" not in self.log_tail():
                raise AssertionError(f"the daemon exited {self.process.returncode} at start:\n{self.log_tail()}")
            self.port = 0
        raise AssertionError("no port to be had")

    def _spawn(self, log: IO[bytes], *more: str) -> subprocess.Popen[bytes] | ForkedDaemon:
        if self.forked and not (self.wrapper or self.pass_fds or self.faults):
            forked = fork_daemon([*self.command()[3:], *more], self.environment(), self.log)
            if forked is not None:
                return forked
        return subprocess.Popen(
            [*self.command(), *more],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=self.pass_fds,
        )

    def start_successor(self) -> subprocess.Popen[bytes] | ForkedDaemon:
        """Start a process that takes over, and return the one before, which still runs; `process` is the new one."""
        before = self.process
        assert before is not None and before.poll() is None
        with self.log.open("ab") as log:
            self.process = self._spawn(log, "--take-over")
        self.before = before
        return before

    def wait_taken_over(self, timeout: float = 60.0) -> None:
        """Wait until `process` is the one that answers, and is ready."""
        eventually(lambda: self.api("/api/v1/status").json["pid"] == self.pid, timeout, self.log_tail())
        eventually(lambda: self.get("/readyz").status == 200, timeout)

    def take_over(self, timeout: float = 60.0) -> int:
        """Have a new process take over, and wait until it is ready; the exit code of the one before."""
        before = self.start_successor()
        code = before.wait(timeout)
        self.wait_taken_over(timeout)
        return code

    def ready_or_gone(self) -> bool:
        """Whether it is ready, or has ended. Its own socket says so too: on its port another test's daemon may answer."""
        assert self.process is not None
        if self.process.poll() is not None:
            return True
        if self.get("/readyz").status != 200:
            return False
        return len(os.fsencode(self.socket)) > SOCKET_MAX or self.api("/readyz").status == 200

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_tail(self, size: int = 4000) -> str:
        return self.log.read_text("utf-8", "replace")[-size:] if self.log.exists() else ""

    def wait_told(self, words: str, timeout: float = 30.0) -> None:
        """Wait until its log holds `words`: the greeting, and much of what a running daemon tells, comes behind the act."""
        eventually(lambda: words in self.log_tail(), timeout, f"its log holds {words!r}")

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
        """A new connection, kept open between requests; the caller closes it."""
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
        if not self.posted:
            return self.api(path, timeout=timeout)
        return self.request("GET", path, timeout=timeout)

    def post(self, event: str, payload: Any, guid: str | None = None, hook: str = HOOK, **options: Any) -> Answer:
        """One signed delivery to /webhook; `options` are those of `signed`."""
        options.setdefault("secret", self.secret or SECRET)
        body, headers = signed(event, payload, guid, hook, **options)
        return self.request("POST", "/webhook", body, headers)

    def raw(self, request: bytes, timeout: float = 10.0) -> bytes:
        """Send raw bytes and return everything received until the server closes or falls silent."""
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

    def api(
        self,
        path: str,
        method: str = "GET",
        payload: Any = None,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request on the Unix socket."""
        connection = UnixConnection(self.socket, timeout)
        try:
            body = None if payload is None else encode(payload)
            return ask(
                connection,
                method,
                path,
                body,
                {**(headers or {}), **({"Content-Type": "application/json"} if body else {})},
            )
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
        done = run_command(args, {**self.environment(), **(env or {})}, input or b"", timeout)
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
        return _ends_in(turns(self.data))

    def wait_all_done(self, timeout: float = 60.0) -> dict[str, list[str]]:
        """Wait until every task has ended since it was queued last, and the reads of the daemon show it; `finished()`."""

        def done() -> list[dict[str, Any]]:
            found = turns(self.data)
            waiting: set[str] = set()
            for record in found:
                if record["kind"] in QUEUED_KINDS:
                    waiting.add(record["subject"])
                else:
                    waiting.discard(record["subject"])
            assert not waiting, f"{len(waiting)} tasks have no end yet, {min(waiting)} for one"
            return found or [{"kind": "none", "seq": 0}]

        found = eventually(done, timeout, "all tasks end")
        newest = found[-1]["seq"]
        if self.running and self.socket.exists() and len(os.fsencode(self.socket)) <= SOCKET_MAX:
            eventually(lambda: self._has_recorded(newest), 30, "what is in the journal's files is synced")
        return _ends_in(found)

    def _has_recorded(self, seq: int) -> bool:
        """Whether it has synced that record: it is in a file before, where no read of the daemon's shows it yet."""
        status = self.api("/api/v1/status")
        return status.status != 200 or status.json["journal"]["head"]["seq"] >= seq


def _ends_in(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Task subject → the kinds of the final records it has."""
    ends: dict[str, list[str]] = {}
    for record in found:
        if record["kind"] == "task.queued":
            ends.setdefault(record["subject"], [])
        elif record["kind"] in FINAL_KINDS:
            ends.setdefault(record["subject"], []).append(record["kind"])
    return ends


def wait_for_daily_run(daemon: Daemon) -> float:
    """Wait until the daemon's own retention has run for today, so that it does not change what a test counts. When it ran."""
    return eventually(lambda: float(json.loads((daemon.data / "upkeep.json").read_bytes())["retained_at"]), 30)
