"""A data directory in this process with pools of workers over it: real journal, state and processes."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covenq.model import DeliveryId, Kind, task_id
from covenq.model.rows import Attempt, Task
from covenq.state import query
from covenq.state.store import StateStore
from covenq.tasks.execution.pool import Pool, PoolSettings
from journal.file.files import OsFiles
from journal.records import Appended, Entry, Record
from tests.support.fold_thread import FoldThread
from tests.support.journals.chosen import open_chosen
from tests.support.waiting import eventually


class TightFiles(OsFiles):
    """The real files of a disk that can be told to be full."""

    full = False

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().pwrite(fd, data, offset)


@dataclass
class Harness:
    """A data directory with its journal and its state, and pools over it."""

    data: Path
    files: TightFiles = field(default_factory=TightFiles)
    pools: list[Pool] = field(default_factory=list)

    def open(self) -> Harness:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.journal = open_chosen(self.data, files=self.files)
        self.store = StateStore(self.data / "state.db", self.journal)
        self.store.catch_up()
        self.fold_thread = FoldThread(self.store, self.journal)
        self.fold_thread.start()
        return self

    def close(self) -> None:
        for pool in self.pools:
            pool.stop(5.0)
        self.pools.clear()
        self.fold_thread.stop()
        self.store.close()
        self.journal.close()

    def pool(self, concurrency: int = 2, *, room: Callable[[], bool] = lambda: True, **settings: Any) -> Pool:
        """`settings` are those of `PoolSettings`."""
        pool = Pool(
            self.journal,
            self.store,
            self.fold_thread,
            self.data,
            settings=PoolSettings(concurrency, **settings),
            room=room,
        )
        self.pools.append(pool)
        pool.start()
        return pool

    def add(
        self,
        name: str,
        run: list[str],
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: dict[str, float] | None = None,
        env: list[str] | None = None,
        payload: bytes = b'{"a": 1}',
        repo: str | None = "octo/hello",
        action: str | None = "opened",
        installation: int | None = None,
        repo_id: int | None = None,
        **policy: Any,
    ) -> str:
        """A delivery and its one task, appended as the intake does, with more of a policy if given. The task's id."""
        delivery = DeliveryId("9", name)
        task = task_id(delivery, "r", 0)
        about = {"repo": repo, "number": 7, "head_sha": None}
        frozen = {
            "run": run,
            "timeout_s": timeout_s,
            "retry": retry or {"max": 0},
            "supersede": "never",
            "env": env or [],
            **policy,
        }
        answer = self.journal.append(
            [
                Entry(
                    delivery.subject,
                    Kind.RECEIVED,
                    {"hook": "9", "guid": name, "event": "issues", "action": action, "source": "http"},
                    about,
                    payload,
                    expect=0,
                ),
                Entry(
                    f"task.{task}",
                    Kind.QUEUED,
                    {
                        "hook": "9",
                        "guid": name,
                        "delivery_seq": None,
                        "route": "r",
                        "kind": "forward" if "forward" in policy else "run",
                        "replay": 0,
                        "priority": 0,
                        "policy": frozen,
                        "event": "issues",
                        "action": action,
                        "installation": installation,
                        "repo_id": repo_id,
                    },
                    {**about, "key": key},
                    expect=0,
                ),
            ]
        )
        assert isinstance(answer, Appended)
        return task

    def records(self, task: str) -> list[Record]:
        return [record for record in self.journal.read(0) if record.subject == f"task.{task}"]

    def kinds(self, task: str) -> list[str]:
        return [
            f"phase {record.data['phase']}" if record.kind == Kind.PHASE else record.kind.removeprefix("task.")
            for record in self.records(task)
        ]

    def row(self, task: str) -> Task:
        assert self.fold_thread.wait_for(self.journal.head().seq, 30)
        return query.task(self.store.reader(), task)

    def attempts(self, task: str) -> list[Attempt]:
        assert self.fold_thread.wait_for(self.journal.head().seq, 30)
        return query.attempts(self.store.reader(), task)

    def wait(self, task: str, *states: str) -> Task:
        def reached() -> Task | None:
            row = self.row(task)
            return row if row.state in (states or ("completed", "failed")) else None

        return eventually(reached, what=f"{task} is {states or 'final'}")

    def file(self, task: str, name: str, attempt: int = 1) -> Path:
        return self.data / "attempts" / task / str(attempt) / name


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pid: int) -> None:
    """End it, unless it has ended by itself meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
