"""A PostgreSQL of the benchmarks' own, with its defaults: started, stopped and killed.

Its defaults are the durable ones: fsync, full_page_writes and synchronous_commit are on. It listens on a socket of its directory
alone, and runs as the user `postgres` where the benchmark is root's, since it refuses to run as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.bench.processes import kill_tree


def programs() -> Path:
    """The directory of its programs. Raises LookupError where they aren't."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    if not installed:
        raise LookupError("PostgreSQL's initdb is not on the PATH")
    return installed[0]


class Postgres:
    """A server of its own below `base`, `env` beside its environment. Raises LookupError where it can't be made or started."""

    def __init__(self, base: Path, env: Mapping[str, str] | None = None) -> None:
        self.programs = programs()
        self.env = {**os.environ, **(env or {})}
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir=base))
        self.as_other: dict[str, str] = {}
        if os.getuid() == 0:
            if "postgres" not in (one.pw_name for one in pwd.getpwall()):
                raise LookupError("PostgreSQL can't run as root, and there is no user postgres")
            self.as_other = {"user": "postgres", "group": "postgres"}
            for one in (self.directory, base, base.parent):
                one.chmod(one.stat().st_mode | 0o711)
            shutil.chown(self.directory, "postgres", "postgres")
        self.data = self.directory / "data"
        self.run("initdb", "-D", str(self.data), "-A", "trust", "-U", "bench", "-N", "-E", "UTF8", "--locale=C")
        self.start()

    @property
    def dsn(self) -> str:
        return f"host={self.directory} user=bench dbname=postgres"

    def version(self) -> str:
        done = subprocess.run(
            [str(self.programs / "postgres"), "--version"], capture_output=True, text=True, check=False
        )
        return done.stdout.split()[2] if len(done.stdout.split()) > 2 else "unknown"

    def run(self, program: str, *words: str) -> str:
        """What one of its programs prints. Raises LookupError where it fails."""
        done = subprocess.run(
            [str(self.programs / program), *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self.directory,
            check=False,
            **self.as_other,  # type: ignore[call-overload]
        )
        if done.returncode:
            raise LookupError(f"{program} failed: {(done.stderr or done.stdout).strip()[-200:]}")
        return str(done.stdout)

    def start(self) -> None:
        """Start it as a child of this process, and wait until it takes connections."""
        command = [
            str(self.programs / "postgres"),
            "-D",
            str(self.data),
            "-k",
            str(self.directory),
            "-c",
            "listen_addresses=",
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.env,
                **self.as_other,
            )  # type: ignore[call-overload]
        until = time.monotonic() + 120
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > until:
                said = (self.directory / "log").read_text("utf-8", "replace").strip()
                raise LookupError(f"PostgreSQL doesn't start: {said[-300:]}")
            time.sleep(0.01)

    def _ready(self) -> bool:
        """Whether it takes connections, as its pid file says. That of a killed one is there until the next wrote its own."""
        try:
            said = (self.data / "postmaster.pid").read_text().split()
        except OSError:
            return False
        return said[:1] == [str(self.pid)] and said[-1] == "ready"

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        kill_tree(self.pid)
        self.process.wait()

    def stop(self) -> None:
        """As a service manager does, with whatever is connected cut off."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def discard(self) -> None:
        """End it; its files are of no more use."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)
        shutil.rmtree(self.directory, ignore_errors=True)
