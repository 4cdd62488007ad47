"""PostgreSQL servers in a scratch directory, started and ended as a test wants it. Skips where the programs aren't there.

The server refuses to run as root: root's tests run it as `nobody` or `postgres`, in a directory of that user.
"""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

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
        self._user = unprivileged()

    @property
    def url(self) -> str:
        return f"host={self.base} port={self.port} user=covenq dbname=postgres"

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
        where = f"host={self.base} port={primary.port} user=covenq application_name={self.name}"
        self.run("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "--no-sync", "-d", where)

    def start(self) -> None:
        """Until it answers, or for a standby until it can be read."""
        settings = {"unix_socket_directories": str(self.base), "listen_addresses": "", "port": str(self.port)}
        options = " ".join(f"-c {key}={value or repr('')}" for key, value in {**settings, **self.settings}.items())
        log = self.base / f"{self.name}.log"
        self.run("pg_ctl", "start", "-w", "-t", "60", "-D", str(self.data), "-l", str(log), "-o", options)

    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it has: a killed server's children end by themselves, as soon as they notice."""
        process = os.pidfd_open(self.pid())
        try:
            signal.pidfd_send_signal(process, number)
            ended = select.poll()
            ended.register(process, select.POLLIN)
            assert ended.poll(HANG_S * 1000), f"{self.name} did not end"
        finally:
            os.close(process)

    def stop(self) -> None:
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

    @property
    def url(self) -> str:
        return self.primary.url

    def close(self) -> None:
        for server in (self.standby, self.primary):
            if server is not None:
                server.stop()
        shutil.rmtree(self.base, ignore_errors=True)
