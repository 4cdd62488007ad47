"""PostgreSQL servers in a scratch directory, started and ended as a test wants it. Skips where the programs aren't there.

The server refuses to run as root: root's tests run it as `nobody` or `postgres`, in a directory of that user.
"""

from __future__ import annotations

import atexit
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psycopg
import pytest

from tests.support.waiting import eventually

HANG_S = 60.0


def programs() -> Path:
    """The directory of the newest server's programs. Skips the test where there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]), reverse=True
    )
    if found:
        return found[0].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    return Path(on_path).resolve().parent


def unprivileged() -> tuple[int, int] | None:
    """(uid, gid) of the user who runs the server where this process is root's."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user.pw_uid, user.pw_gid
    pytest.skip("PostgreSQL can't run as root, and there is no other user here")


class Server:
    """One server: its data directory, and its socket in a directory of its own."""

    def __init__(self, base: Path, name: str, settings: dict[str, str]) -> None:
        self.base, self.name = base, name
        self.data = base / name
        self.port = 5432 if name == "primary" else 5433
        self.settings = settings
        self.log = ""
        """The end of what it has said."""
        self._process: subprocess.Popen[bytes] | None = None
        self._user = unprivileged()

    @property
    def url(self) -> str:
        return f"postgresql://covenq@/postgres?host={self.base}&port={self.port}"

    def run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [programs() / program, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.base,
            **self._as_user(),
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def _as_user(self) -> dict[str, int]:
        return {} if self._user is None else {"user": self._user[0], "group": self._user[1]}

    def initialize(self) -> None:
        self.run("initdb", "-D", str(self.data), "-A", "trust", "-U", "covenq", "--no-sync", "-E", "UTF8", "--locale=C")

    def copy_of(self, primary: Server) -> None:
        """A standby of a running primary, under the name that its standbys are known by."""
        where = f"{primary.url}&application_name={self.name}"
        self.run("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "--no-sync", "-d", where)

    def start(self) -> None:
        """Until it says that it answers, or as a standby that it can be read. It is this process's child, which reaps it."""
        settings = {"unix_socket_directories": str(self.base), "listen_addresses": "", "port": str(self.port)}
        words = [str(programs() / "postgres"), "-D", str(self.data)]
        for key, value in {**settings, **self.settings}.items():
            words += ["-c", f"{key}={value}"]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.base,
            **self._as_user(),
        )
        ready = threading.Event()
        threading.Thread(target=self._keep_log, args=(self._process, ready), daemon=True).start()
        assert ready.wait(HANG_S), self.log
        assert self._process.poll() is None, self.log

    def _keep_log(self, process: subprocess.Popen[bytes], ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self.log = (self.log + line.decode("utf-8", "replace"))[-4000:]
                if b"ready to accept" in line:
                    ready.set()
        ready.set()

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[int]:
        """The server's first process, and those that it has started."""
        pid = self.pid()
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def pause(self) -> None:
        """Stop all of it. The first process first: it then reaps none of the others, so that none is gone meanwhile."""
        os.kill(self.pid(), signal.SIGSTOP)
        for pid in self.processes()[1:]:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue all of it; the first process last, as `pause`."""
        for pid in reversed(self.processes()):
            os.kill(pid, signal.SIGCONT)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until all of it has ended: a killed server's processes go on until they notice."""
        processes = []
        try:
            for pid in self.processes():
                with suppress(ProcessLookupError):  # one that ended just now
                    processes.append(os.pidfd_open(pid))
            signal.pidfd_send_signal(processes[0], number)
            for process in processes:
                ended = select.poll()
                ended.register(process, select.POLLIN)
                assert ended.poll(HANG_S * 1000), f"{self.name} did not end"
            assert self._process is not None
            self._process.wait(HANG_S)
            self._process = None
        finally:
            for process in processes:
                os.close(process)

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self.kill(signal.SIGQUIT)

    def sql(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description is not None else []


class Cluster:
    """A primary, and with `standby` a synchronous standby that commits wait for."""

    def __init__(self, *, standby: bool) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="covenq-pg-"))
        user = unprivileged()
        if user is not None:
            os.chown(self.base, *user)
        settings = {"max_connections": "60", "shared_buffers": "64MB", "wal_level": "replica", "max_wal_senders": "4"}
        self.primary = Server(self.base, "primary", settings)
        self.standby = Server(self.base, "standby", settings) if standby else None
        self.primary.initialize()
        self.primary.start()
        if self.standby is not None:
            self.standby.copy_of(self.primary)
            self.standby.start()
            self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            self.primary.sql("SELECT pg_reload_conf()")
            # Each of the server's processes rereads its settings for itself: commits may wait before the standby is shown as one.
            eventually(self.waits_for_the_standby, HANG_S, "commits wait for the standby")

    def waits_for_the_standby(self) -> bool:
        """Whether the primary shows the standby as one that commits wait for."""
        return self.primary.sql("SELECT sync_state FROM pg_stat_replication") == [("sync",)]

    @property
    def url(self) -> str:
        return self.primary.url

    def sql(self, query: str) -> list[tuple[object, ...]]:
        return self.primary.sql(query)

    @contextmanager
    def lock_of_the_head(self) -> Iterator[None]:
        """Nothing is appended meanwhile: the head is another's."""
        with psycopg.connect(self.url) as conn:
            conn.execute("SELECT 1 FROM covenq.head FOR UPDATE")
            yield

    def close(self) -> None:
        for server in (self.standby, self.primary):
            if server is not None:
                server.stop()
        shutil.rmtree(self.base, ignore_errors=True)


@cache
def cluster(*, standby: bool) -> Cluster:
    """The one of this process: started when the first test asks, ended with the process. Skips where no server can be run."""
    made = Cluster(standby=standby)
    atexit.register(made.close)
    return made
