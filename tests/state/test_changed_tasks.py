"""Tasks by their newest change, events and sums for CovenCave: what each scope sees is what reading all rows would find."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from covenq.operate.inspect import cave
from covenq.state import schema
from covenq.state.changed_tasks import changed_tasks, newest_change
from covenq.state.fold import fold
from covenq.state.newest_events import begun_attempts, ignored_deliveries, made_pulls
from journal.records import Entry, Witness
from tests.support.records import as_records, empty_state, moved, note, of, queued, received
from tests.support.scopes import Scope

SCOPES = (
    None,
    Scope(frozenset({1})),
    Scope(frozenset({1, 3})),
    Scope(frozenset({2}), frozenset({20, 21})),
    Scope(frozenset({1, 2}), frozenset({10, 20})),
    Scope(frozenset({9})),
    Scope(frozenset()),
    Scope(frozenset({1}), frozenset()),
)


PULLS = "SELECT * FROM tasks WHERE pr_number IS NOT NULL ORDER BY last_seq DESC"


STEPS_FROM = {
    "queued": ["claimed", "claimed", "cancelled"],
    "claimed": ["retry", "completed", "failed", "cancelled"],
    "failed": ["requeued"],
    "cancelled": ["requeued"],
}


class Made:
    """A state with some hundred tasks, which go on moving."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.conn = empty_state()
        self.seq = 0
        self.tasks: list[str] = []
        self.attempts: dict[str, int] = {}
        self.states: dict[str, str] = {}
        self.guids: dict[str, str] = {}

    def fold(self, *entries: Entry) -> None:
        fold(self.conn, as_records(entries, first=self.seq + 1))
        self.seq += len(entries)
        schema.set_position(self.conn, Witness("j" * 16, self.seq, "0" * 64), "e" * 16)

    def deliver(self) -> None:
        number = len(self.guids)
        guid, installation = f"g{number}", self.chance.choice([1, 1, 1, 2, 3, None])
        repo_id = self.chance.choice([10 * (installation or 5), 10 * (installation or 5) + 1, None])
        ids = {"installation": installation, "repo_id": repo_id}
        named = {"repo": f"octo/r{repo_id}", "number": number + 1}
        self.guids[guid] = guid
        if self.chance.random() < 0.25:
            self.fold(received(guid, about=named, **ids), note("ignored", guid, reason="no_match", detail="None."))
            return
        purpose = self.chance.choice(["fix_issue", None, "clarification"])
        said = {"familiar": self.chance.choice(["cody", "nova", None]), "purpose": purpose}
        self.fold(received(guid, about=named, **ids), queued(guid, about=named, **ids, **said))
        self.tasks.append(of(guid))

    def move(self) -> None:
        """A step that a task may take from where it is."""
        task = self.chance.choice(self.tasks)
        number, state = self.attempts.get(task, 0), self.states.get(task, "queued")
        kind = self.chance.choice(STEPS_FROM.get(state, ["renewed"]))
        self.states[task] = {"retry": "queued", "requeued": "queued", "renewed": state}.get(kind, kind)
        if kind == "claimed":
            self.attempts[task] = number + 1
            self.fold(moved(kind, task, attempt=number + 1, worker="w"))
            if self.chance.random() < 0.3:
                self.fold(moved("phase", task, attempt=number + 1, phase="published", pr=number + 40))
        else:
            self.fold(moved(kind, task, attempt=number))

    def rows(self, sql: str) -> list[sqlite3.Row]:
        return self.conn.execute(sql).fetchall()


@pytest.fixture(params=[1, 2])
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    found = Made(request.param)
    for _ in range(120):
        found.deliver()
        if found.tasks:
            found.move()
    yield found
    found.conn.close()


def _sees(scope: Scope | None, row: Mapping[str, Any] | sqlite3.Row) -> bool:
    """By another reading of what a scope is."""
    if scope is None:
        return True
    if row["installation"] is None or row["installation"] not in scope.installations:
        return False
    return scope.repositories is None or row["repo_id"] in scope.repositories


def test_each_scope_has_its_tasks_newest_change_first(made: Made) -> None:
    for scope in SCOPES:
        rows = [row for row in made.rows("SELECT * FROM tasks ORDER BY last_seq DESC") if _sees(scope, row)]
        shown = [row["id"] for row in rows if row["purpose"] != "clarification"]
        assert [one.id for one in changed_tasks(made.conn, scope, None, 1000)] == shown, scope
        assert newest_change(made.conn, scope).seq == max((row["last_seq"] for row in rows), default=0), scope
        for limit in (7, 40):
            found: list[str] = []
            before = None
            while True:
                page = cave.tasks(made.conn, scope, before, limit, {}, "https://github.com")
                found += [one.id for one in page.tasks]
                if page.next is None:
                    break
                before = int(page.next)
            assert found == shown, scope


def test_each_scope_has_its_newest_events(made: Made) -> None:
    ignored = made.rows("SELECT * FROM webhook_deliveries WHERE state = 'ignored' ORDER BY seq DESC")
    attempts = made.rows(
        "SELECT a.*, t.installation, t.repo_id FROM task_attempts a JOIN tasks t ON t.id = a.task ORDER BY a.claim_seq DESC"
    )
    for scope in SCOPES:
        seqs = [row["seq"] for row in ignored if _sees(scope, row)]
        claims = [row["claim_seq"] for row in attempts if _sees(scope, row)]
        pulls = [row["id"] for row in made.rows(PULLS) if _sees(scope, row)]
        for limit in (1, 5, 30, 1000):
            assert [one.id for one in made_pulls(made.conn, scope, limit)] == pulls[:limit], scope
            assert [one.seq for one in ignored_deliveries(made.conn, scope, limit)] == seqs[:limit], scope
            assert [one.claim_seq for one in begun_attempts(made.conn, scope, limit)] == claims[:limit], scope


def _counted(made: Made) -> dict[tuple[object, ...], list[float]]:
    """The sums of all tasks, row by row."""
    found: dict[tuple[object, ...], list[float]] = {}
    groups = {}
    for row in made.rows("SELECT * FROM tasks"):
        group = (row["installation"], row["repo_id"], row["familiar"])
        groups[row["id"]] = group
        one = found.setdefault(group, [0, 0, 0, 0.0])
        one[0] += 1
        one[1] += row["state"] == "completed"
        one[2] += row["state"] == "failed"
    for row in made.rows("SELECT * FROM task_attempts WHERE ended_at IS NOT NULL"):
        began, ended = (datetime.fromisoformat(row[name]) for name in ("started_at", "ended_at"))
        found[groups[row["task"]]][3] += (ended - began).total_seconds()
    return found


def test_usage_is_what_counting_all_rows_finds(made: Made) -> None:
    for _ in range(100):
        made.move()
    wanted = _counted(made)
    names = {row["repo_id"]: row["repo"] for row in made.rows("SELECT * FROM webhook_deliveries ORDER BY seq")}
    for scope in SCOPES:
        found = cave.usage(made.conn, scope)
        assert sorted(
            (
                str((one.installation_id, one.repo, one.familiar_id)),
                one.tasks,
                one.completed,
                one.failed,
                one.runtime_secs,
            )
            for one in found
        ) == sorted(
            (str((group[0], names[group[1]] if group[1] else None, group[2])), *map(int, sums))
            for group, sums in wanted.items()
            if _sees(scope, {"installation": group[0], "repo_id": group[1]})
        )
    assert sum(one.failed for one in cave.usage(made.conn, None)) > 0


def test_an_erasure_is_a_change_for_who_saw_it(made: Made) -> None:
    before = [newest_change(made.conn, scope) for scope in SCOPES]
    row = made.rows(
        "SELECT d.* FROM webhook_deliveries d JOIN tasks t ON t.delivery_seq = d.seq WHERE d.repo_id = 20 LIMIT 1"
    )[0]
    made.fold(note("redacted", "g0", drops=[[row["seq"], row["seq"] + 1]], about=True))
    after = [newest_change(made.conn, scope) for scope in SCOPES]
    for scope, old, new in zip(SCOPES, before, after, strict=True):
        assert (new.seq, new.erased) == (old.seq, made.seq if _sees(scope, row) else old.erased), scope


def test_a_delivery_that_is_found_again_is_a_change() -> None:
    made = Made(1)
    made.fold(queued("g1"))
    mine, theirs = Scope(frozenset({5})), Scope(frozenset({8}))
    elsewhere = newest_change(made.conn, theirs)
    own, before = newest_change(made.conn, mine), newest_change(made.conn, None)
    (untitled,) = changed_tasks(made.conn, None, None, 1)
    made.fold(received("g1"))
    after = newest_change(made.conn, None)
    (titled,) = changed_tasks(made.conn, None, None, 1)
    assert (untitled.title, titled.title) == (None, "It breaks")
    assert before != after and own != newest_change(made.conn, mine)
    assert elsewhere == newest_change(made.conn, theirs)
    made.conn.close()


STEPS = 50


def _steps(conn: sqlite3.Connection, ask: Callable[[], object]) -> int:
    """How often SQLite's machine took so many steps for it."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    conn.set_progress_handler(step, STEPS)
    ask()
    conn.set_progress_handler(None, STEPS)
    return taken


def test_a_page_and_its_etag_cost_the_same_whatever_else_there_is() -> None:
    """Also where a scope's newest tasks are the oldest of all."""
    made = Made(1)
    quiet = {"installation": 7, "repo_id": 70}
    for number in range(30):
        made.fold(received(f"q{number}", **quiet), queued(f"q{number}", **quiet))
    scopes = (None, Scope(frozenset({7})), Scope(frozenset({7, 8})), Scope(frozenset({7, 8}), frozenset({70})))
    found: list[list[int]] = []
    for count in (60, 3000):
        busy = {"installation": 8, "repo_id": 80}
        several = [(f"b{count}-{number}") for number in range(count)]
        made.fold(*(entry for guid in several for entry in (received(guid, **busy), queued(guid, **busy))))
        for ask in (
            lambda scope: changed_tasks(made.conn, scope, None, 20),
            lambda scope: newest_change(made.conn, scope),
            lambda scope: ignored_deliveries(made.conn, scope, 20),
        ):
            found.append([_steps(made.conn, lambda ask=ask, scope=scope: ask(scope)) for scope in scopes])
    few, many = found[:3], found[3:]
    assert all(
        one <= 1.2 * other + 2 for a, b in zip(many, few, strict=True) for one, other in zip(a, b, strict=True)
    ), (
        few,
        many,
    )
    made.conn.close()
