"""Kills systems while they do tasks, and counts the tasks that were queued and never done, or done twice.

Whatever does the work gets SIGKILL at once: covenq's daemon and its pull workers; huey's consumer; procrastinate's worker and its
PostgreSQL. Then it is started again, and in the end it is left alone until it says that nothing is left. That a task is done is
told by its effect, which is outside of all of them: so what was done, but not yet noted when the kill came, is done twice by
whoever tries again.
"""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.bench.compare import workers
from tests.bench.compare.losses import Loss, count
from tests.bench.postgres import Postgres
from tests.bench.processes import kill_tree
from tests.bench.tasks import CONFIG, queue_tasks
from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon

WORKERS = 4
DRAIN_S = 90.0
STILL_S = 3.0
"""A system that says nothing is left may still be at the last ones: so long nothing new must have been done."""


class System(Protocol):
    """Something that does tasks, in processes that can be killed."""

    def queue(self, number: int) -> list[str]:
        """Queue so many; their names, each acknowledged."""

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def left(self) -> int:
        """How many it says are neither done nor given up."""

    def discard(self) -> None: ...


def _worker(role: str, where: str, effects: Path, more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.bench.compare.workers", role, where, str(effects), more]
    with effects.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=clean_env(), stdin=subprocess.DEVNULL, stderr=log)


class Covenq:
    def __init__(self, base: Path, effects: Path) -> None:
        config = base / "covenq.toml"
        config.write_text(CONFIG)
        self.daemon = Daemon(data=base / "data", config=config)
        self.effects = effects
        self.workers: list[subprocess.Popen[bytes]] = []

    def queue(self, number: int) -> list[str]:
        self.daemon.data.mkdir()
        queue_tasks(self.daemon.data, number)
        return [f"g{one}" for one in range(number)]

    def start(self) -> None:
        self.daemon.start()
        socket = str(self.daemon.socket)
        self.workers = [_worker("covenq", socket, self.effects, f"w{n}") for n in range(WORKERS)]

    def kill(self) -> None:
        kill_tree(self.daemon.pid, *(one.pid for one in self.workers))
        for one in (self.daemon.process, *self.workers):
            assert one is not None
            one.wait()

    def left(self) -> int:
        counted = self.daemon.api("/api/v1/status").json["tasks"]
        return int(counted.get("queued", 0)) + int(counted.get("running", 0))

    def discard(self) -> None:
        self.kill()


class Huey:
    def __init__(self, base: Path, effects: Path) -> None:
        self.path, self.effects = base / "huey.db", effects

    def queue(self, number: int) -> list[str]:
        self.app, work = workers.huey_app(self.path, None)
        for one in range(number):
            work(f"g{one}")
        return [f"g{one}" for one in range(number)]

    def start(self) -> None:
        self.worker = _worker("huey", str(self.path), self.effects, str(WORKERS))

    def kill(self) -> None:
        kill_tree(self.worker.pid)
        self.worker.wait()

    def left(self) -> int:
        return int(self.app.storage.queue_size())

    def discard(self) -> None:
        self.kill()
        self.app.storage.close()


class Procrastinate:
    def __init__(self, base: Path, effects: Path) -> None:
        self.server, self.effects = Postgres(base), effects

    def queue(self, number: int) -> list[str]:
        import asyncio

        app, work = workers.procrastinate_app(self.server.dsn, None, 1)
        names = [f"g{one}" for one in range(number)]

        async def defer() -> None:
            async with app.open_async():
                await app.schema_manager.apply_schema_async()
                await work.batch_defer_async(*({"name": name} for name in names))

        asyncio.run(defer())
        return names

    def start(self) -> None:
        if self.killed:
            self.server.start()
        self.worker = _worker("procrastinate", self.server.dsn, self.effects, str(WORKERS))

    killed = False

    def kill(self) -> None:
        kill_tree(self.worker.pid, self.server.pid)
        self.worker.wait()
        self.server.process.wait()
        self.killed = True

    def left(self) -> int:
        import psycopg

        with psycopg.connect(self.server.dsn) as database:
            query = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
            row = database.execute(query).fetchone()
            assert row is not None
            return int(row[0])

    def discard(self) -> None:
        kill_tree(self.worker.pid)
        self.worker.wait()
        self.server.discard()


SYSTEMS: dict[str, tuple[tuple[str, ...], Callable[[Path, Path], System]]] = {
    "covenq": ((), Covenq),
    "huey": (("huey",), Huey),
    "procrastinate": (("procrastinate", "psycopg"), Procrastinate),
}
"""What each needs to be installed, and how it is made."""


def losses(name: str, base: Path, number: int, kills: int, seed: int) -> Loss:
    """Raises LookupError where what it needs isn't there."""
    packages, make = SYSTEMS[name]
    if missing := [one for one in packages if importlib.util.find_spec(one) is None]:
        raise LookupError(f"{', '.join(missing)} not installed")
    base.mkdir()
    effects = base / "effects"
    effects.touch(0o600)
    system = make(base, effects)
    moments = random.Random(seed)
    names = system.queue(number)
    system.start()
    try:
        for _ in range(kills):
            _wait_for_more(effects, len(_lines(effects)) + 10)
            time.sleep(moments.uniform(0.05, 0.4))
            system.kill()
            system.start()
        _drain(system, effects)
    finally:
        system.discard()
    return count(names, _lines(effects), kills)


def _lines(path: Path) -> list[str]:
    return path.read_text().split()


def _wait_for_more(effects: Path, wanted: int) -> None:
    until = time.monotonic() + DRAIN_S
    while len(_lines(effects)) < wanted:
        if time.monotonic() > until:
            raise RuntimeError(f"no more than {len(_lines(effects))} tasks were done before the next kill")
        time.sleep(0.005)


def _drain(system: System, effects: Path) -> None:
    """Until it says that nothing is left, or DRAIN_S: what is left then is lost."""
    until = time.monotonic() + DRAIN_S
    done, still_since = -1, time.monotonic()
    while time.monotonic() < until:
        now = len(_lines(effects))
        if now != done or system.left():
            done, still_since = now, time.monotonic()
        elif time.monotonic() - still_since > STILL_S:
            return
        time.sleep(0.1)
