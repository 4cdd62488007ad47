"""Replay and requeue on the real journal and state."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from covenq.config.limits import Caps
from covenq.config.load import Config, build
from covenq.errors import Ambiguous, NotDurable, NotFound, UsageError
from covenq.model import DeliveryId, Kind, task_id
from covenq.model.rows import Delivery
from covenq.operate import operations
from covenq.operate.act import actions
from covenq.operate.act import plan as planning
from covenq.operate.act.plan import Plan, apply
from covenq.operate.answers import PlanAnswer, Skipped
from covenq.operate.operations import S
from covenq.operate.parameters import Replay, Reroute, Selection
from covenq.routing.decide import route
from covenq.state import query
from covenq.state.store import StateStore
from journal.errors import JournalError, JournalFull, JournalPoisoned, JournalUnanswered
from journal.file.engine import FileJournal
from journal.records import Appended, Entry
from tests.support.journals.chosen import open_chosen
from tests.support.requests import issue

FIX = {"name": "fix", "match": "event:issues", "run": ["true"], "key": "{repo}#{number}"}
LOOK = {"name": "look", "match": "event:issues", "run": ["true"]}


def config(*routes: dict[str, Any]) -> Config:
    return build({"route": list(routes)}, None, {})


class Desk:
    """A journal, its state, and today's routes."""

    def __init__(self, data: Path) -> None:
        self.journal = open_chosen(data)
        self.store = StateStore(data / "state.db", self.journal)
        self.config = config(FIX)

    def close(self) -> None:
        self.store.close()
        self.journal.close()

    @property
    def conn(self) -> Any:
        self.store.catch_up()
        return self.store.reader()

    def deliver(self, guid: str, hook: str = "9", event: str = "issues") -> str:
        """Receive one, routed by today's routes; its id."""
        delivery = DeliveryId(hook, guid)
        data = {"hook": hook, "guid": guid, "event": event, "action": "opened", "source": "http"}
        about = {"repo": "octo/hello", "number": 7}
        received = Entry(delivery.subject, Kind.RECEIVED, data, about, b'{"n": 1}', expect=0)
        decision = route(self.config, delivery, {**data, **about}, issue)
        assert isinstance(self.journal.append([received, *decision.entries]), Appended)
        return str(delivery)

    def end(self, task: str, kind: Kind) -> None:
        last = self.journal.last(f"task.{task}")
        assert last is not None
        data = {"attempt": 1, "claim": 1, "category": "exit", "exit_code": 1, "result": None, "interruptions": 0}
        assert isinstance(self.journal.append([Entry(f"task.{task}", kind, data, expect=last.seq)]), Appended)

    def delivery(self, id: str) -> Delivery:
        hook, _, guid = id.partition("/")
        return query.delivery(self.conn, hook, guid)

    def state(self, id: str) -> str:
        state: str = self.delivery(id).state
        return state

    @property
    def caps(self) -> Caps:
        return self.config.caps

    @contextmanager
    def writing(self) -> Iterator[tuple[FileJournal, Any]]:
        """As `covenq.operate.operations.Context`."""
        yield self.journal, self.conn

    def replay(self, **which: Any) -> dict[str, Any]:
        return self._act(operations.REPLAY, Replay(**which))

    def reroute(self, **which: Any) -> dict[str, Any]:
        return self._act(operations.REROUTE, Reroute(**which))

    def cancel(self, **which: Any) -> dict[str, Any]:
        return self._act(operations.CANCEL, Selection(**which))

    def requeue(self, **which: Any) -> dict[str, Any]:
        return self._act(operations.REQUEUE, Selection(**which))

    def _act(self, operation: operations.Operation[S, PlanAnswer], wanted: S) -> dict[str, Any]:
        answer: dict[str, Any] = to_builtins(operation.function(self, wanted))  # type: ignore[arg-type]  # all it asks for
        return answer

    def plan_requeue(self, ids: list[str]) -> Plan:
        return actions.plan_requeue(self.journal, self.conn, self.config, Selection(ids=ids), None)

    def replayed(self) -> list[dict[str, Any]]:
        return [record.data for record in self.journal.read(0) if record.kind == Kind.REPLAYED]


@pytest.fixture
def desk(journal_engine: None, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def first(guid: str, replay: int = 0, route: str = "fix") -> str:
    return task_id(DeliveryId("9", guid), route, replay)


def test_replay_makes_new_tasks_by_todays_routes(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.FAILED)
    desk.config = config({**FIX, "timeout": "1m"}, LOOK)
    answer = desk.replay(ids=["g1"], by="me", reason="the runner was down")
    made = [first("g1", 1), first("g1", 1, "look")]
    assert answer["eligible"] == [id]
    assert answer["skipped"] == []
    assert [(one["id"], one["tasks"]) for one in answer["done"]] == [(id, made)]
    assert desk.replayed() == [{"replay": 1, "tasks": made, "by": "me", "reason": "the runner was down"}]
    task = query.task(desk.conn, made[0])
    assert (task.state, task.replay, task.policy["timeout_s"]) == ("queued", 1, 60.0)
    assert task.config == desk.config.sha256
    assert (task.key, task.delivery_seq) == ("octo/hello#7", desk.delivery(id).seq)
    assert desk.state(id) == "queued"
    for one in made:
        desk.end(one, Kind.FAILED)
    assert desk.replay(ids=[id])["done"][0]["tasks"][0] == first("g1", 2)


def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.FAILED)
    head = desk.journal.head().seq
    plan = desk.replay(ids=[id], dry_run=True)
    assert (plan["eligible"], plan["skipped"], plan["done"]) == ([id], [], [])
    assert desk.requeue(ids=[first("g1")], dry_run=True)["eligible"] == [first("g1")]
    assert not [record for record in desk.journal.read(head) if record.kind != "journal.synced"]


def test_what_completed_is_replayed_only_by_force(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.COMPLETED)
    (skipped,) = desk.replay(ids=[id])["skipped"]
    assert (skipped["id"], "--force" in skipped["reason"]) == (id, True)
    assert desk.replay(ids=[id], force=True)["done"]


def test_of_what_failed_in_part_only_what_failed_is_replayed(desk: Desk) -> None:
    desk.config = config(FIX, LOOK)
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.FAILED)
    desk.end(first("g1", route="look"), Kind.COMPLETED)
    spared = [{"id": id, "reason": "its route look has completed; --force replays that too"}]
    plan = desk.replay(ids=[id], dry_run=True)
    assert (plan["eligible"], plan["skipped"], plan["done"]) == ([id], spared, [])
    assert desk.replay(filter="", dry_run=True)["skipped"] == spared
    answer = desk.replay(ids=[id])
    assert (answer["done"][0]["tasks"], answer["skipped"]) == ([first("g1", 1)], spared)
    assert desk.replayed()[0]["tasks"] == [first("g1", 1)]
    desk.end(first("g1", 1), Kind.FAILED)
    forced = desk.replay(ids=[id], force=True)
    assert forced["done"][0]["tasks"] == [first("g1", 2), first("g1", 2, "look")]
    assert forced["skipped"] == []


def test_what_completed_is_not_run_again_because_sending_it_elsewhere_failed(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.COMPLETED)
    (sent,) = desk.replay(ids=[id], to="https://elsewhere.example.org/hook")["done"]
    desk.end(sent["tasks"][0], Kind.FAILED)
    (skipped,) = desk.replay(ids=[id])["skipped"]
    assert "--force" in skipped["reason"]
    assert desk.replay(ids=[id], force=True)["done"][0]["tasks"] == [first("g1", 2)]


def test_what_failed_and_nobody_wants_today_makes_no_task_of_what_completed(desk: Desk) -> None:
    desk.config = config(FIX, LOOK)
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.FAILED)
    desk.end(first("g1", route="look"), Kind.COMPLETED)
    desk.config = config(LOOK)
    reason = "what wants it today has completed (look); --force replays it all the same"
    answer = desk.replay(ids=[id])
    assert (answer["eligible"], answer["skipped"], answer["done"]) == ([], [{"id": id, "reason": reason}], [])
    assert desk.replay(ids=[id], force=True)["done"][0]["tasks"] == [first("g1", 1, "look")]


@pytest.mark.parametrize("force", [False, True])
def test_what_waits_or_runs_is_not_replayed(desk: Desk, force: bool) -> None:
    waits, runs = desk.deliver("g1"), desk.deliver("g2")
    desk.end(first("g2"), Kind.CLAIMED)
    answer = desk.replay(ids=[waits, runs], force=force)
    assert (answer["eligible"], answer["done"]) == ([], [])
    assert [(one["id"], one["reason"].split(":")[0]) for one in answer["skipped"]] == [
        (waits, "it is queued"),
        (runs, "it is running"),
    ]


def test_what_no_route_wants_is_not_replayed_and_stays_ignored(desk: Desk) -> None:
    id, ping = desk.deliver("g1", event="push"), desk.deliver("g2", event="ping")
    answer = desk.replay(ids=[id, ping], force=True)
    assert [one["reason"] for one in answer["skipped"]] == [
        "no route wants it today (no_match)",
        "no route wants it today (ping)",
    ]
    assert desk.state(id) == "ignored"
    desk.config = config({**FIX, "match": "event:push"})
    assert desk.replay(ids=[id])["done"]
    assert desk.state(id) == "queued"


def test_a_filter_takes_all_that_match_oldest_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "PAGE", 7)
    monkeypatch.setattr(planning, "BATCH", 4)
    ids = [desk.deliver(f"g{n}") for n in range(20)]
    for n in range(0, 20, 2):
        desk.end(first(f"g{n}"), Kind.FAILED)
    answer = desk.replay(filter="state:failed")
    assert answer["eligible"] == ids[::2]
    assert [one["id"] for one in answer["done"]] == ids[::2]
    seqs = [one["seq"] for one in answer["done"]]
    assert seqs == sorted(seqs)
    assert {desk.state(id) for id in ids} == {"queued"}
    assert desk.replay(filter="state:failed")["eligible"] == []
    everything = desk.replay(filter="", dry_run=True)
    assert len(everything["skipped"]) == 20


def test_a_filter_may_look_into_payloads(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.FAILED)
    assert desk.replay(filter="payload.n:1", dry_run=True)["eligible"] == [id]
    assert desk.requeue(filter="payload.n:2", dry_run=True)["eligible"] == []


def test_ids_and_what_is_wrong_with_them(desk: Desk) -> None:
    desk.deliver("g1")
    desk.deliver("g1", hook="10")
    for wrong, error in ((["nope"], NotFound), (["g1"], Ambiguous), (["../x"], UsageError)):
        with pytest.raises(error):
            desk.replay(ids=wrong)
    with pytest.raises(NotFound):
        desk.requeue(ids=["../x"])
    for nothing in ({}, {"ids": ["9/g1"], "filter": ""}):
        with pytest.raises(UsageError):
            desk.replay(**nothing)
    desk.end(first("g1"), Kind.FAILED)
    assert len(desk.replay(ids=["9/g1", "9/g1"])["done"]) == 1


@pytest.mark.parametrize("kind", [Kind.FAILED, Kind.CANCELLED, Kind.SUPERSEDED])
def test_requeue(desk: Desk, kind: Kind) -> None:
    desk.deliver("g1")
    task = first("g1")
    desk.end(task, kind)
    desk.config = config()
    answer = desk.requeue(ids=[task], by="me", reason="again\n\ud800" + "x" * 1000)
    assert [(one["id"], one["tasks"]) for one in answer["done"]] == [(task, [task])]
    record = desk.journal.last(f"task.{task}")
    assert record is not None
    assert record.kind == Kind.REQUEUED
    assert record.data == {"by": "me", "reason": "again  " + "x" * 493}
    assert query.task(desk.conn, task).state == "queued"


@pytest.mark.parametrize("kind", [None, Kind.CLAIMED, Kind.COMPLETED])
def test_what_is_not_over_or_went_well_is_not_requeued(desk: Desk, kind: Kind | None) -> None:
    desk.deliver("g1")
    if kind is not None:
        desk.end(first("g1"), kind)
    answer = desk.requeue(filter="")
    assert (answer["eligible"], answer["done"], len(answer["skipped"])) == ([], [], 1)


def test_two_replays_at_once_make_one(desk: Desk) -> None:
    ids = [desk.deliver(f"g{n}") for n in range(6)]
    for n in range(6):
        desk.end(first(f"g{n}"), Kind.FAILED)
    desk.store.catch_up()
    answers: list[PlanAnswer] = []
    start = threading.Barrier(4)

    def act() -> None:
        # Plans are made from the same rows: what decides is the journal.
        plan = actions.plan_replay(desk.journal, desk.store.reader(), desk.config, Replay(ids=ids), None)
        start.wait()
        answers.append(apply(plan, desk.journal))

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one.id for answer in answers for one in answer.done) == ids
    assert [len(answer.done) + len(answer.skipped) for answer in answers] == [6] * 4
    assert len(desk.replayed()) == 6


def test_what_moved_since_the_plan_is_skipped_and_the_rest_done(desk: Desk) -> None:
    tasks = []
    for n in range(3):
        desk.deliver(f"g{n}")
        tasks.append(first(f"g{n}"))
        desk.end(tasks[-1], Kind.FAILED)
    plan = desk.plan_requeue(tasks)
    desk.journal.append([Entry(f"task.{tasks[1]}", Kind.REQUEUED, {"by": None, "reason": None})])
    answer = apply(plan, desk.journal)
    assert [one.id for one in answer.done] == [tasks[0], tasks[2]]
    assert [one.id for one in answer.skipped] == [tasks[1]]


def test_a_redelivery_meanwhile_stops_no_replay(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.FAILED)
    plan = actions.plan_replay(desk.journal, desk.conn, desk.config, Replay(ids=[id]), None)
    desk.journal.append([Entry("delivery.9.g1", Kind.REPEATED, {"received": 1})])
    assert apply(plan, desk.journal).done
    assert desk.state(id) == "queued"


class Filling:
    """The journal of a disk that has room for so many more appends; what it raises then."""

    def __init__(self, journal: FileJournal, room: int, kind: type[JournalError] = JournalFull) -> None:
        self.journal = journal
        self.room = room
        self.kind = kind
        self.last, self.get = journal.last, journal.get

    def append(self, entries: Sequence[Entry]) -> Any:
        if not self.room:
            raise self.kind("no space left on the disk")
        self.room -= 1
        return self.journal.append(entries)


def test_a_full_disk_says_what_was_done_and_what_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BATCH", 2)
    tasks = []
    for n in range(5):
        desk.deliver(f"g{n}")
        tasks.append(first(f"g{n}"))
        desk.end(tasks[-1], Kind.FAILED)
    plan = desk.plan_requeue(tasks)
    answer = apply(plan, Filling(desk.journal, 1))  # type: ignore[arg-type]
    assert [one.id for one in answer.done] == tasks[:2]
    assert answer.skipped == [Skipped(id, "no space left on the disk") for id in tasks[2:]]
    plan = desk.plan_requeue(tasks[2:])
    with pytest.raises(NotDurable):
        apply(plan, Filling(desk.journal, 0))  # type: ignore[arg-type]


def test_no_answer_in_the_middle_keeps_what_was_done(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BATCH", 2)
    tasks = []
    for n in range(5):
        desk.deliver(f"g{n}")
        tasks.append(first(f"g{n}"))
        desk.end(tasks[-1], Kind.FAILED)
    answer = apply(desk.plan_requeue(tasks), Filling(desk.journal, 1, JournalUnanswered))  # type: ignore[arg-type]
    assert [one.id for one in answer.done] == tasks[:2]
    assert [one.id for one in answer.skipped] == tasks[2:]
    plan = desk.plan_requeue(tasks[2:])
    with pytest.raises(JournalUnanswered):  # and not "nothing was done": that isn't known
        apply(plan, Filling(desk.journal, 0, JournalUnanswered))  # type: ignore[arg-type]
    with pytest.raises(JournalPoisoned):  # a second call would not do the rest
        apply(plan, Filling(desk.journal, 1, JournalPoisoned))  # type: ignore[arg-type]


def test_replay_by_one_route_alone_asks_only_that_routes_tasks(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.COMPLETED)
    desk.config = config(FIX, LOOK, {**LOOK, "name": "pushes", "match": "event:push"})
    answer = desk.replay(ids=[id], route="look")
    assert answer["done"][0]["tasks"] == [first("g1", 1, "look")]
    (waits,) = desk.replay(ids=[id], route="look")["skipped"]
    assert waits["reason"].startswith("it is queued")
    (completed,) = desk.replay(ids=[id], route="fix")["skipped"]
    assert "--force" in completed["reason"]
    assert desk.replay(ids=[id], route="fix", force=True)["done"][0]["tasks"] == [first("g1", 2)]
    assert desk.replay(ids=[id], route="pushes")["skipped"] == [
        {"id": id, "reason": "route 'pushes' doesn't want it today"}
    ]
    with pytest.raises(UsageError) as unknown:
        desk.replay(ids=[id], route="lok")
    assert unknown.value.hint == "Did you mean look?"


def test_reroute_makes_the_tasks_of_the_first_routing_of_what_was_ignored(desk: Desk) -> None:
    id = desk.deliver("g1", event="push")
    assert desk.state(id) == "ignored"
    assert desk.reroute(ids=[id])["skipped"] == [{"id": id, "reason": "no route wants it today (no_match)"}]
    desk.config = config({**FIX, "match": "event:push"})
    assert desk.reroute(ids=[id], dry_run=True)["eligible"] == [id]
    assert desk.state(id) == "ignored"
    answer = desk.reroute(filter="event:push", by="me", reason="a new rule")
    assert [one["tasks"] for one in answer["done"]] == [[first("g1")]]
    assert desk.delivery(id).replays == 0
    assert (desk.state(id), desk.delivery(id).tasks) == ("queued", [first("g1")])
    (note,) = [record.data for record in desk.journal.read(0) if record.kind == Kind.REROUTED]
    assert note == {"tasks": [first("g1")], "by": "me", "reason": "a new rule"}
    (again,) = desk.reroute(ids=[id])["skipped"]
    assert "covenq replay" in again["reason"]


def test_what_is_still_received_can_be_dismissed_and_is_then_routed_by_its_id_alone(desk: Desk) -> None:
    for guid in ("g1", "g2"):
        data = {
            "hook": "9",
            "guid": guid,
            "event": "issues",
            "action": "opened",
            "source": "import",
            "held": "restored",
        }
        entry = Entry(f"delivery.9.{guid}", Kind.RECEIVED, data, {"repo": "octo/hello"}, b"{}", expect=0)
        assert isinstance(desk.journal.append([entry]), Appended)
    routed, ignored = desk.deliver("g3"), desk.deliver("g4", event="push")
    answer = desk.reroute(ids=["9/g1", "9/g2", routed, ignored], ignore=True, dry_run=True)
    assert answer["eligible"] == ["9/g1", "9/g2"] and desk.delivery("9/g1").reason == "held"
    answer = desk.reroute(filter="event:issues,push", ignore=True, by="me", reason="done by hand")
    assert {one["id"] for one in answer["done"]} == {"9/g1", "9/g2"}
    skipped = {one["id"]: one["reason"] for one in answer["skipped"]}
    assert skipped[ignored] == "it is ignored" and "covenq cancel" in skipped[routed]
    assert (desk.delivery("9/g1").state, desk.delivery("9/g1").reason) == ("ignored", "dismissed")
    assert "An operator dismissed it" in (desk.delivery("9/g1").detail or "")
    (note, _) = [one for one in desk.journal.read(0) if one.data.get("dismissed")]
    assert (note.kind, note.data["by"], note.data["reason"]) == ("delivery.rerouted", "me", "done by hand")
    by_filter = desk.reroute(filter="state:ignored reason:dismissed")
    assert by_filter["done"] == [] and {one["id"] for one in by_filter["skipped"]} == {"9/g1", "9/g2"}
    assert desk.state("9/g1") == "ignored"
    assert desk.reroute(ids=["9/g1"])["done"][0]["tasks"] == [first("g1")]
    assert desk.state("9/g1") == "queued"


def test_reroute_decides_what_a_broken_rule_left_received(desk: Desk) -> None:
    for guid in ("g1", "g2"):
        data = {"hook": "9", "guid": guid, "event": "issues", "action": "opened", "source": "http"}
        entry = Entry(f"delivery.9.{guid}", Kind.RECEIVED, data, {"repo": "octo/hello"}, b"{}", expect=0)
        assert isinstance(desk.journal.append([entry]), Appended)
    desk.journal.append([Entry("delivery.9.g1", Kind.REPEATED, {"received": 1})])
    assert desk.reroute(ids=["g1"])["done"][0]["tasks"] == [first("g1")]
    desk.config = config()
    assert desk.reroute(ids=["g2"], reason="not wanted")["done"][0]["tasks"] == []
    assert (desk.delivery("9/g2").state, desk.delivery("9/g2").reason) == ("ignored", "no_routes")
    ping = desk.deliver("g3", event="ping")
    assert "ping" in desk.reroute(ids=[ping])["skipped"][0]["reason"]


def test_two_reroutes_at_once_make_one(desk: Desk) -> None:
    id = desk.deliver("g1", event="push")
    desk.config = config({**FIX, "match": "event:push"})
    plans = [actions.plan_reroute(desk.journal, desk.conn, desk.config, Reroute(ids=[id]), None) for _ in range(2)]
    answers = [apply(plan, desk.journal) for plan in plans]
    assert [len(answer.done) for answer in answers] == [1, 0]
    assert desk.delivery(id).tasks == [first("g1")]


def test_cancel_ends_what_waits_and_what_runs_and_nothing_else(desk: Desk) -> None:
    ids = [first(f"g{n}") for n in range(4) if desk.deliver(f"g{n}")]
    desk.end(ids[1], Kind.CLAIMED)
    desk.end(ids[2], Kind.COMPLETED)
    desk.end(ids[3], Kind.FAILED)
    assert desk.cancel(ids=ids, dry_run=True)["eligible"] == ids[:2]
    answer = desk.cancel(filter="", by="me", reason="stop it")
    assert sorted(one["id"] for one in answer["done"]) == sorted(ids[:2])
    assert {one["id"]: one["reason"] for one in answer["skipped"]} == {
        ids[2]: "it is completed already",
        ids[3]: "it is failed already",
    }
    assert [query.task(desk.conn, id).state for id in ids] == ["cancelled", "cancelled", "completed", "failed"]
    assert desk.requeue(ids=ids[:1])["done"]


def test_a_task_that_gets_on_meanwhile_is_cancelled_and_one_that_ends_is_not(desk: Desk) -> None:
    ids = [first(f"g{n}") for n in range(3) if desk.deliver(f"g{n}")]
    plan = actions.plan_cancel(desk.journal, desk.conn, desk.config, Selection(ids=ids), None)
    for kind in (Kind.CLAIMED, Kind.PHASE):
        desk.end(ids[0], kind)
    for kind in (Kind.CLAIMED, Kind.COMPLETED):
        desk.end(ids[1], kind)
    answer = apply(plan, desk.journal)
    assert sorted(one.id for one in answer.done) == sorted([ids[0], ids[2]])
    assert [one.id for one in answer.skipped] == [ids[1]]


def test_replay_to_an_address_forwards_whatever_became_of_it(desk: Desk) -> None:
    id = desk.deliver("g1")
    desk.end(first("g1"), Kind.COMPLETED)
    ignored = desk.deliver("g2", event="star")
    answer = desk.replay(ids=[id, ignored], to="https://example.org/hook")
    assert [one["tasks"] for one in answer["done"]] == [[first(g, 1, "replay-to")] for g in ("g1", "g2")]
    task = query.task(desk.conn, first("g1", 1, "replay-to"))
    assert (task.kind, task.policy["forward"], task.state) == ("forward", "https://example.org/hook", "queued")
    assert "it is queued" in desk.replay(ids=[id], to="https://example.org/other")["skipped"][0]["reason"]
    desk.end(first("g1", 1, "replay-to"), Kind.COMPLETED)
    assert desk.replay(ids=[id], to="https://example.org/other")["done"]
    for wrong in ("ftp://example.org", "http://user:password@example.org", "nowhere", "http://x/\n"):
        with pytest.raises(UsageError) as caught:
            desk.replay(ids=[id], to=wrong)
        assert "replay-to" not in str(caught.value) and "forward" not in str(caught.value)
        assert caught.value.hint == "Write it as https://example.org/webhook."
    with pytest.raises(UsageError):
        desk.replay(ids=[id], to="https://example.org", route="fix")
