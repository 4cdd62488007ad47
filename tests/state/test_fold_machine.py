"""Any sequence of valid records: however it is folded, the state is the same, and every prefix of it is a state too."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from covenq.model import State, scope_record
from covenq.model.rows import TaskRow
from covenq.state.building import Building
from covenq.state.fold import deciding_task, fold
from journal.records import Entry, Record
from tests.support.records import (
    as_records,
    dump,
    dump_all,
    empty_built_state,
    empty_state,
    moved,
    note,
    queued,
    received,
)

ROUTES = ("fix", "forward", "far")


class Folding(RuleBasedStateMachine):
    """Appends what the product may append, tells beside it what each task's state must be, and folds in portions."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.live: sqlite3.Connection = empty_state()
        self.built = empty_built_state()
        self.building = Building(self.built, 100)
        self.folded = 0
        self.tasks: dict[str, dict[str, Any]] = {}
        self.deliveries: list[str] = []
        self.told: list[dict[str, str]] = [{}]
        """After each record, the state of every task."""

    def append(self, *entries: Entry) -> None:
        for entry in entries:
            self.records += as_records([entry], first=len(self.records) + 1)
            self.told.append({id: task["state"] for id, task in self.tasks.items()})

    def move(self, task: str, kind: str, state: str, **data: Any) -> None:
        self.tasks[task]["state"] = state
        self.append(moved(kind, task, **data))

    def any(self, *states: str) -> bool:
        return any(task["state"] in states for task in self.tasks.values())

    def one(self, data: st.DataObject, *states: str) -> str | None:
        able = [id for id, task in self.tasks.items() if task["state"] in states]
        return data.draw(st.sampled_from(able)) if able else None

    @initialize()
    def begin(self) -> None:
        self.append(Entry("ops.journal", "journal.synced", {}))

    @rule(
        routes=st.sets(st.sampled_from(ROUTES)),
        key=st.sampled_from([None, "k"]),
        supersede=st.sampled_from(["never", "queued", "running"]),
        priority=st.sampled_from([0, 9, -5, 10**6]),
        delayed=st.booleans(),
        whole=st.booleans(),
    )
    def deliver(
        self, routes: set[str], key: str | None, supersede: str, priority: int, delayed: bool, whole: bool
    ) -> None:
        name = f"g{len(self.deliveries)}"
        self.deliveries.append(name)
        more = {"not_before": "2027-01-15T08:30:00.000000Z"} if delayed else {}
        policy = {"run": ["true"], "supersede": supersede, "order": "newest"}
        about = {"key": key, "source_at": "2027-01-15T08:00:00.000000Z"}
        entries = [
            queued(name, route=route, kind="pull" if route == "far" else "run", priority=priority, policy=policy,
                   about=about, **more)
            for route in sorted(routes)
        ]  # fmt: skip
        if whole:
            self.append(received(name))
        for entry in entries:
            self.tasks[entry.subject.partition(".")[2]] = {"state": "queued", "attempt": 0, "claim": None}
            self.append(entry)
        if not whole:  # a salvage may have lost the delivery's record, or found it later
            self.append(received(name))

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), kind=st.sampled_from(["repeated", "conflicted", "ignored", "replayed", "unheard_of"]))
    def remark(self, data: st.DataObject, kind: str) -> None:
        self.append(note(kind, data.draw(st.sampled_from(self.deliveries)), reason="x", replay=1))

    @precondition(lambda self: self.any("queued"))
    @rule(data=st.data(), leased=st.booleans())
    def claim(self, data: st.DataObject, leased: bool) -> None:
        task = self.one(data, "queued")
        if task is not None:
            self.tasks[task]["attempt"] += 1
            self.tasks[task]["claim"] = len(self.records) + 1
            until = "2027-01-15T09:00:00.000000Z" if leased else None
            self.move(task, "claimed", "running", attempt=self.tasks[task]["attempt"], worker="w", lease_until=until)

    @precondition(lambda self: self.any("running"))
    @rule(data=st.data(), kind=st.sampled_from(["phase", "renewed", "completed", "failed", "retry"]))
    def work(self, data: st.DataObject, kind: str) -> None:
        task = self.one(data, "running")
        if task is None:
            return
        held = {"attempt": self.tasks[task]["attempt"], "claim": self.tasks[task]["claim"]}
        state = {"completed": "completed", "failed": "failed", "retry": "queued"}.get(kind, "running")
        more: dict[str, Any] = {
            "phase": {"phase": "started"},
            "renewed": {"lease_until": "2027-01-15T10:00:00.000000Z"},
            "completed": {"exit_code": 0, "result": None},
        }.get(
            kind, {"category": "exit", "exit_code": 1, "interruptions": 1, "not_before": "2027-01-15T08:10:00.000000Z"}
        )
        self.move(task, kind, state, **held, **more)

    @precondition(lambda self: self.any("queued", "running"))
    @rule(data=st.data(), kind=st.sampled_from(["cancelled", "superseded", "delayed"]))
    def decide(self, data: st.DataObject, kind: str) -> None:
        states = ("queued",) if kind == "delayed" else ("queued", "running")
        task = self.one(data, *states)
        if task is not None:
            state = "queued" if kind == "delayed" else kind
            self.move(task, kind, state, by_task="t0", reason="newer", by="me", since="x", not_before=None)

    @precondition(lambda self: self.any("failed", "cancelled", "superseded"))
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        task = self.one(data, "failed", "cancelled", "superseded")
        if task is not None:
            self.move(task, "requeued", "queued", by="me", reason=None)

    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(["ops.paused", "ops.resumed"]))
        self.append(Entry("ops.pauses", kind, {"what": "route", "name": "fix", "by": "me", "reason": None}))

    @rule(kind=st.sampled_from([scope_record.BOUND, scope_record.UNBOUND]), name=st.sampled_from(["octo/a", "octo/b"]))
    def bind(self, kind: str, name: str) -> None:
        data = {"secret": "app", "repo_id": len(self.records)}
        about = {"repo": name} if kind == scope_record.BOUND else None
        self.append(Entry(scope_record.subject_of("app", name), kind, data, about))

    @rule(most=st.integers(1, 20))
    def get_on(self, most: int) -> None:
        fold(self.live, self.records[self.folded : self.folded + most])
        self.building.fold(self.records[self.folded : self.folded + most])
        self.folded = min(self.folded + most, len(self.records))

    def teardown(self) -> None:
        fold(self.live, self.records[self.folded :])
        self.building.fold(self.records[self.folded :])
        while self.building.unfinished:
            self.building.finish_one()
        assert dump_all(self.built) == dump_all(self.live)
        whole, each = empty_state(), empty_state()
        for end, record in enumerate(self.records, 1):
            fold(each, [record])
            self.valid(each, end)
        fold(whole, self.records)
        assert dump(self.live) == dump(whole) == dump(each)
        for conn in (self.live, self.built, whole, each):
            conn.close()

    def valid(self, conn: sqlite3.Connection, end: int) -> None:
        """The tasks are as told, what runs has its claim, and a delivery's state is that of its tasks."""
        tasks = [TaskRow(**dict(row)) for row in conn.execute("SELECT * FROM tasks")]
        assert {task.id: task.state for task in tasks} == self.told[end]
        for task in tasks:
            assert (task.state == State.RUNNING) == (task.claim_seq is not None)
            assert 0 <= task.priority <= 9
            open_attempts = conn.execute(
                "SELECT count(*) FROM task_attempts WHERE task = ? AND ended_at IS NULL", (task.id,)
            ).fetchone()[0]
            assert open_attempts == (task.state == State.RUNNING)
            assert task.not_before is None or task.state == State.QUEUED
        for row in conn.execute("SELECT seq, state FROM webhook_deliveries").fetchall():
            deciding = deciding_task([task for task in tasks if task.delivery_seq == row["seq"]])
            assert row["state"] == (deciding.state if deciding else row["state"])
            assert deciding is not None or row["state"] in (State.RECEIVED, State.IGNORED)
        total = conn.execute("SELECT total(n) FROM starts WHERE scope LIKE 'route %'").fetchone()[0]
        assert total == sum(task.attempts for task in tasks)


TestFolding = Folding.TestCase
TestFolding.settings = settings(max_examples=120, stateful_step_count=30)


@pytest.mark.deep
def test_many_more_sequences() -> None:
    run_state_machine_as_test(Folding, settings=settings(max_examples=5000, stateful_step_count=60, derandomize=False))
