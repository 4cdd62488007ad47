"""A daemon process on a temporary directory, and the requests sent to it: what `covenq demo` and `covenq bench` measure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from covenq.cli.webhook_client import Reply, post
from covenq.config.secret_keys import default_file
from covenq.errors import CovenqError, DaemonUnreachable
from covenq.paths import CONFIG_NAME, SOCKET_NAME
from journal.presence import exists

if TYPE_CHECKING:
    from covenq.net.http_client import Client

HOOK = "446581321"
CLIENTS = 16
WORKERS = 4
START_TIMEOUT = 30.0
WORK_TIMEOUT = 45.0
STOP_TIMEOUT = 15.0
"""All in seconds; a healthy run needs a small fraction of each."""

COMMAND = 'sleep 0.02; echo "$COVENQ_TASK $COVENQ_ATTEMPT" >>"$0"'
"""The command of every task: it appends one line to a file at its end, so that a second run would show."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request, ready to be posted, and posted again."""

    id: tuple[str, str]
    event: str
    body: bytes
    headers: Mapping[str, str]


def demo_config(wanted: Sequence[str], ran: Path) -> str:
    """A configuration whose one route takes these events, and whose commands append to the file `ran`."""
    run = json.dumps(["sh", "-c", COMMAND, str(ran)])
    return f'[[route]]\nname = "demo"\nmatch = "event:{",".join(wanted)}"\nrun = {run}\nretry = {{ max = 2 }}\n'


class DemoDaemon:
    """A directory with a configuration, and the daemon on it, which is killed at the end of the `with`."""

    def __init__(self, directory: Path, config: str) -> None:
        """`config` is the configuration's text."""
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "daemon.log"
        self.url = ""
        self._secret = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._config = directory / CONFIG_NAME
        self._config.write_text(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the daemon and wait until it is ready. Raises CovenqError, with the last line of its log, if it doesn't start."""
        # Neither the user's settings, nor a word to the service manager that may have started this command.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("COVENQ_", "NOTIFY_SOCKET"))}
        # -P: not a directory named covenq in the working directory, but the installed package.
        command = [sys.executable, "-P", "-m", "covenq", "serve", "--bind", "127.0.0.1:0"]
        command += ["--data", str(self.data), "--config", str(self._config), "--concurrency", str(WORKERS)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CovenqError(f"the daemon did not start: {self._last_log_line()}", hint=f"Look into {self.log}.")
            time.sleep(0.02)
        self._secret = default_file(self.data).read_bytes().rstrip()

    @property
    def pid(self) -> int:
        """The daemon's process. For one that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def client(self) -> Client:
        """Requests to its own socket."""
        from covenq.net.http_client import Client

        return Client(self.data / SOCKET_NAME)

    def _ready(self) -> bool:
        from covenq.client.open import open_source
        from covenq.config.load import Config

        if not exists(self.data / SOCKET_NAME):
            return False
        with open_source(self.data, Config()) as source:
            if not source.live:
                return False
            try:
                status = source.status()
            except DaemonUnreachable:
                return False
            self.url = str(status.webhook_url)
            return bool(status.ready) and status.pid == (self._process.pid if self._process else None)

    def _last_log_line(self) -> str:
        words = self.log.read_text("utf-8", "replace").strip().splitlines()
        return words[-1] if words else "it said nothing"

    def kill(self) -> None:
        """SIGKILL, without a chance to shut down."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for the drain. Raises CovenqError if it doesn't end with 0."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise CovenqError("the daemon did not end after SIGTERM", hint=f"Look into {self.log}.") from None
        if code != 0:
            raise CovenqError(f"the daemon ended with {code}: {self._last_log_line()}", hint=f"Look into {self.log}.")

    def make(self, event: str, number: int, *, signature: str | None = "") -> Delivery:
        """A new delivery of the event's built-in sample, distinct by `number`. `signature` replaces the right one; None: none."""
        from covenq.github import samples

        body = samples.body(event, number)
        guid = str(uuid.uuid4())
        headers = dict(samples.headers(event, guid, HOOK, body, self._secret))
        if signature is None:
            del headers["X-Hub-Signature-256"]
        elif signature:
            headers["X-Hub-Signature-256"] = signature
        return Delivery((HOOK, guid), event, body, headers)

    def post(self, delivery: Delivery) -> Reply | None:
        """The answer, or None if none came."""
        try:
            return post(self.url, delivery.body, delivery.headers)
        except DaemonUnreachable:
            return None

    def post_all(
        self, deliveries: Sequence[Delivery], kill_after: int | None = None
    ) -> Iterator[tuple[Delivery, Reply | None]]:
        """Post them from CLIENTS threads, and yield each with its answer, in the order of the answers.

        After `kill_after` answers the daemon is killed, while the rest are still being sent.
        """
        answers = 0
        lock = threading.Lock()

        def one(delivery: Delivery) -> Reply | None:
            nonlocal answers
            reply = self.post(delivery)
            with lock:
                answers += reply is not None
                if answers == kill_after:
                    self.kill()
            return reply

        with ThreadPoolExecutor(CLIENTS) as pool:
            sent = {pool.submit(one, delivery): delivery for delivery in deliveries}
            for done in as_completed(sent):
                yield sent[done], done.result()

    def wait_idle(self) -> None:
        """Wait until no task is queued or running. Raises CovenqError after WORK_TIMEOUT."""
        from covenq.client.open import open_source
        from covenq.config.load import Config

        deadline = time.monotonic() + WORK_TIMEOUT
        with open_source(self.data, Config()) as source:
            while True:
                tasks = source.status().tasks
                left = sum(tasks.get(state, 0) for state in ("queued", "running"))
                if not left:
                    return
                if time.monotonic() > deadline:
                    raise CovenqError(
                        f"{left} tasks have not ended in {WORK_TIMEOUT:.0f} s", hint=f"Look into {self.log}."
                    )
                time.sleep(0.05)
