"""The workers of the systems whose tasks are killed: `python -m tests.bench.compare.workers ROLE …`, until killed.

The work of a task is the same in each: it takes WORK_S, and then appends the task's name to a file, which is its effect.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

WORK_S = 0.02
LEASE_S = 5.0


class Effects:
    """Where tasks leave that they were done: a line each, appended in one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def leave(self, name: str) -> None:
        os.write(self._file, f"{name}\n".encode())


def covenq(socket: Path, effects: Effects, name: str) -> None:
    """A pull worker: a task at a time."""
    from covenq.tasks.remote.client import ClaimsClient

    claims = ClaimsClient(socket)
    while True:
        grant = claims.claim(name, LEASE_S, wait_s=5.0)
        if grant is not None:
            time.sleep(WORK_S)
            effects.leave(str(grant.task["guid"]))
            claims.report(grant, "complete", exit_code=0)


def huey_app(path: Path, effects: Effects | None) -> tuple[Any, Any]:
    """huey's application, as its documents have it for durability, and its task."""
    from huey import SqliteHuey

    logging.getLogger("huey").setLevel(logging.ERROR)
    app = SqliteHuey(filename=str(path), fsync=True, store_none=True)

    @app.task()
    def work(name: str) -> None:
        assert effects is not None
        time.sleep(WORK_S)
        effects.leave(name)

    return app, work


def huey(path: Path, effects: Effects, workers: int) -> None:
    app, _ = huey_app(path, effects)
    app.create_consumer(workers=workers, worker_type="thread", initial_delay=0.01, periodic=False).run()


def procrastinate_app(dsn: str, effects: Effects | None, workers: int) -> tuple[Any, Any]:
    """procrastinate's application and its task."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=2, max_size=workers + 2))

    @app.task(name="work")
    async def work(name: str) -> None:
        assert effects is not None
        await asyncio.sleep(WORK_S)
        effects.leave(name)

    return app, work


def procrastinate(dsn: str, effects: Effects, workers: int) -> None:
    """A worker with its defaults, and its documents' cure for what killed ones left: every 5 s, not every 10 minutes."""
    app, _ = procrastinate_app(dsn, effects, workers)

    async def retry_stalled_jobs() -> None:
        while True:
            for job in await app.job_manager.get_stalled_jobs():
                await app.job_manager.retry_job(job)
            await asyncio.sleep(5.0)

    async def main() -> None:
        async with app.open_async():
            retrying = asyncio.create_task(retry_stalled_jobs())
            await app.run_worker_async(concurrency=workers, install_signal_handlers=False)
            retrying.cancel()

    asyncio.run(main())


def main() -> None:
    role, where, effects, more = sys.argv[1:]
    left = Effects(Path(effects))
    if role == "covenq":
        covenq(Path(where), left, more)
    elif role == "huey":
        huey(Path(where), left, int(more))
    else:
        procrastinate(where, left, int(more))


if __name__ == "__main__":
    from tests.bench.compare import workers  # huey knows a task by its module, and this one is called __main__ now

    workers.main()
