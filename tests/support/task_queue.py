"""The queue as the picker and the reasons for waiting see it: the real `tasks` table, moved as the fold moves it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from covenq.config.limits import Caps, tenant_of
from covenq.model import at_text
from covenq.model.rows import Waits
from covenq.state import schema
from covenq.tasks.scheduling.fairness import Picker
from covenq.tasks.scheduling.outcome import Task
from covenq.tasks.scheduling.waiting import waiting
from tests.support.records import in_memory

NOW = 1_800_000_000.0


class Queue:
    """The real `tasks` table, written to as the fold would: every change with a higher seq."""

    def __init__(self, caps: Caps = Caps()) -> None:  # noqa: B008 - frozen
        self.conn = in_memory()
        self.conn.row_factory = sqlite3.Row
        schema.create(self.conn)
        self.seq = 0
        self.caps = caps
        self.picker = Picker(lambda: self.caps)
        self.held: dict[str, Task] = {}

    def add(
        self,
        task: str,
        key: str | None = None,
        not_before: float | None = None,
        kind: str = "run",
        *,
        installation: int | None = None,
        route: str = "r",
        repo: int | None = None,
        priority: int = 0,
        sent_at: int | None = None,
        numbered: bool = True,
    ) -> None:
        """`sent_at` is when its delivery was sent: else it is the newest. `numbered`: its repository's number is known."""
        self.seq += 1
        row = {
            "created_seq": self.seq, "id": task, "hook": "9", "guid": task, "route": route, "kind": kind, "state": "queued",
            "attempts": 0, "replay": 0, "key": key, "priority": priority, "created_at": "x", "updated_at": "x",
            "policy": json.dumps({"run": ["true"]}), "last_seq": self.seq, "interruptions": 0, "retries": 0,
            "installation": installation, "repo_id": repo if numbered else None, "repo": None if repo is None else f"o/r{repo}",
            "not_before": None if not_before is None else at_text(not_before), "tenant": tenant_of(installation, "9"),
            "pull": kind == "pull", "queued_seq": self.seq,
            "sent_at": self.seq if sent_at is None else sent_at,
        }  # fmt: skip
        names = ", ".join(row)
        self.conn.execute(f"INSERT INTO tasks ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))

    def many(self, number: int, **more: Any) -> None:
        self.conn.execute("BEGIN")
        for n in range(number):
            each = {name: value(n) if callable(value) else value for name, value in more.items()}
            self.add(f"m{self.seq}", **each)
        self.conn.execute("COMMIT")

    def move(self, task: str, state: str, not_before: float | None = None) -> None:
        self.seq += 1
        due = None if not_before is None else at_text(not_before)
        self.conn.execute(
            "UPDATE tasks SET state = ?, not_before = ?, last_seq = ? WHERE id = ?", (state, due, self.seq, task)
        )

    def pick(self, limit: int = 10, now: float = NOW, **more: Any) -> list[str]:
        tasks = self.picker.next(self.conn, now, limit, in_flight=list(self.held.values()), **more)
        self.picked = {task.id: task for task in tasks}
        return list(self.picked)

    def run(self, limit: int = 10, now: float = NOW, **more: Any) -> list[str]:
        ids = self.pick(limit, now, **more)
        for task in ids:
            self.move(task, "running")
        return ids

    def all(self, at_once: int = 1, most: int = 1 << 30) -> list[str]:
        """Pick and finish until nothing is left, or `most` were; in the order of starts."""
        order: list[str] = []
        while len(order) < most and (ids := self.run(at_once)):
            order += ids
            for task in ids:
                self.move(task, "completed")
        return order

    def pause(self, what: str, name: str | None, repo: str | None = None) -> None:
        self.conn.execute(
            "INSERT INTO pauses (what, name, repo, since, reason) VALUES (?, ?, ?, 'noon', 'a reason')",
            (what, name, repo),
        )

    def began(self, scope: str, at: float, number: int = 1) -> None:
        self.conn.execute("INSERT INTO starts VALUES (?, ?, ?)", (scope, at_text(at)[:13], number))

    def waits(self, task: str, now: float = NOW) -> Waits:
        found = waiting(self.conn, task, now, self.caps)
        assert found is not None
        return found
