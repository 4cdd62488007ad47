"""Tasks of one key start in the order in which GitHub sent their deliveries, whichever way these came, and however late."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from covenq.config.load import build
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId, Kind, at_text, seconds_of
from covenq.operate.act import actions
from covenq.operate.act.importing import SigningSecrets, import_deliveries
from covenq.operate.act.plan import apply
from covenq.operate.imported import ImportedDelivery
from covenq.operate.parameters import Import, Replay, Reroute, Selection
from covenq.routing.decide import route
from covenq.state import send_order
from covenq.state.fold import fold
from covenq.tasks.scheduling.candidates import SCAN_WINDOW
from covenq.tasks.scheduling.claim import Claim, StaleClaim
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.scheduling.outcome import Task
from covenq.tasks.scheduling.waiting import waiting
from journal.records import Appended, Entry, Record
from tests.support.records import START, as_records, dump, empty_state, moved, of, queued, received
from tests.support.simulation import SimJournal
from tests.tasks.test_fairness import Queue

KEY = "{repo}#{number}"


class World:
    """GitHub, a journal in memory with the state folded behind it, and a dispatcher. Each delivery is of one repository."""

    def __init__(self, *routes: dict[str, Any]) -> None:
        self.now = START
        self.journal = SimJournal(lambda: self.now, lambda entries: None)
        self.conn = empty_state()
        self.folded = 0
        made = [{"match": "", "run": ["true"], "key": KEY, "name": f"r{n}", **one} for n, one in enumerate(routes)]
        self.config = build({"route": made}, None, {})
        self.dispatcher = Dispatcher(self.journal, lambda: self.folded, lambda: self.config.caps)
        self.sent: dict[str, float] = {}
        """GUID → when GitHub sent it, as far as can be known here."""
        self.running: list[Claim] = []
        self.started: list[str] = []

    def webhook(self, number: int = 1) -> str:
        guid = f"g{len(self.sent)}"
        self.sent[guid] = self.now
        data = {"hook": "9", "guid": guid, "event": "issues", "action": None, "installation": 1, "repo_id": 6}
        about = {"repo": "o/r", "number": number}
        decided = route(self.config, DeliveryId("9", guid), data | about, dict, now=lambda: self.now)
        delivery = Entry(DeliveryId("9", guid).subject, Kind.RECEIVED, data, about, b"{}", expect=0)
        assert isinstance(self.journal.append([delivery, *decided.entries]), Appended)
        return guid

    def fetch(self, *sent: float, number: int = 1) -> list[str]:
        """What GitHub sent at these times is fetched, all at once."""
        guids = [f"g{len(self.sent) + n}" for n in range(len(sent))]
        items = []
        for guid, at in zip(guids, sent, strict=True):
            self.sent[guid] = min(at, self.now)
            body = {"installation": {"id": 1}, "repository": {"id": 6, "full_name": "o/r"}, "issue": {"number": number}}
            headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": guid, "X-GitHub-Hook-ID": "9"}
            items.append(ImportedDelivery(tuple(headers.items()), orjson.dumps(body), {"delivered_at": at_text(at)}))
        secrets = SigningSecrets([], ScopeBindings(self.journal))
        answer = import_deliveries(
            self.journal, self.config, secrets, self.rows, Import(items=items, routed=True), lambda: self.now
        )
        assert len(answer.done) == len(sent)
        return guids

    def rows(self) -> Any:
        fold(self.conn, self.journal.records[self.folded :])
        self.folded = len(self.journal.records)
        return self.conn

    def supersede(self) -> None:
        self.rows()
        while self.dispatcher.record_queue_changes(self.conn, self.now):
            self.rows()

    def pick(self, limit: int = 9) -> list[Task]:
        """Start what is picked, of the state as it is folded."""
        picked = self.dispatcher.pick(self.conn, self.now, limit)
        for task in picked:
            claim = Claim.acquire(self.journal, task, "w")
            self.dispatcher.release(task, self.journal.head().seq)
            if claim is not None:
                self.running.append(claim)
                self.started.append(task.id)
        return picked

    def end(self, claim: Claim, kind: Kind = Kind.COMPLETED) -> None:
        self.running.remove(claim)
        more = {"category": "exit"} if kind == Kind.FAILED else {}
        claim.record([(kind, claim.record_data(result=None, **more))])

    def drain(self) -> list[str]:
        """Run all there is, one after another: the GUIDs in the order of their starts."""
        begun = len(self.started)
        while True:
            self.supersede()
            if not self.pick(1):
                return [self.guid_of(task) for task in self.started[begun:]]
            for claim in [*self.running]:
                self.end(claim)

    def guid_of(self, task: str) -> str:
        return str(next(one.data["guid"] for one in self.journal.records if one.subject == f"task.{task}"))

    def requeue(self, *tasks: str) -> None:
        self.rows()
        apply(
            actions.plan_requeue(self.journal, self.conn, self.config, Selection(ids=list(tasks)), None), self.journal
        )

    def replay(self, guid: str) -> None:
        self.rows()
        wanted = Replay(ids=[guid], force=True)
        apply(actions.plan_replay(self.journal, self.conn, self.config, wanted, None), self.journal)


# ---- one by one


def test_a_fetched_older_delivery_starts_before_a_newer_one_of_its_key_that_waits() -> None:
    world = World({})
    runs = world.webhook()
    world.rows()
    world.pick()
    world.now += 60
    newer, other = world.webhook(), world.webhook(number=2)
    [late] = world.fetch(START + 30)
    world.rows()
    assert [world.guid_of(task.id) for task in world.pick()] == [other]
    row = world.conn.execute("SELECT id FROM tasks WHERE guid = ?", (late,)).fetchone()
    assert (told := waiting(world.conn, row["id"], world.now)) is not None
    assert (told.word, told.position) == ("key", 1)
    world.end(world.running[0])
    assert world.drain() == [late, newer]
    assert world.started[0] == of(runs, route="r0")


def test_of_what_was_sent_at_one_time_the_first_recorded_starts_first() -> None:
    world = World({})
    guids = [world.webhook(), *world.fetch(START, START), world.webhook()]
    assert world.drain() == guids


def test_of_what_is_fetched_at_once_the_last_sent_supersedes_the_others() -> None:
    world = World({"supersede": "queued"})
    _, last, _ = world.fetch(START - 30, START - 1, START - 20)
    assert world.drain() == [last]


@pytest.mark.parametrize("ahead", [0.0, 120.0])
def test_what_comes_by_webhook_is_newer_than_what_was_fetched_whatever_githubs_clock_says(ahead: float) -> None:
    world = World({"supersede": "queued"})
    world.fetch(START + ahead)
    world.now += 1
    newest = world.webhook()
    assert world.drain() == [newest]


def test_what_comes_after_the_clock_was_set_back_is_newer_all_the_same() -> None:
    world = World({"supersede": "queued"})
    world.webhook()
    world.now -= 86_400
    newest = world.webhook()
    assert world.drain() == [newest]
    assert world.fetch(world.now - 1)  # of before: it supersedes nothing
    assert world.drain() == []


@pytest.mark.parametrize("was_wrong_by", [86_400, -86_400, 0])
def test_a_clock_that_was_once_wrong_keeps_nothing_that_is_fetched_later_from_being_the_newest(
    was_wrong_by: int,
) -> None:
    world = World({"supersede": "queued"})
    world.now += was_wrong_by
    world.webhook()
    world.now -= was_wrong_by - 60
    newer = world.webhook()
    world.now += 60
    newest, late = world.fetch(world.now - 5)[0], world.fetch(world.now - 65)[0]
    assert world.drain() == [newest]
    superseded = {one.subject: one.data for one in world.journal.records if one.kind == Kind.SUPERSEDED}
    assert superseded[f"task.{of(late, route='r0')}"]["reason"] == "late"
    assert superseded[f"task.{of(newer, route='r0')}"]["by_task"] == of(newest, route="r0")


def test_what_is_fetched_first_after_the_clock_was_set_back_is_not_late_for_that() -> None:
    world = World({"supersede": "queued"})
    world.webhook()
    world.now += 20
    other = world.webhook(number=2)
    world.now -= 3600
    [newest] = world.fetch(world.now - 1)
    assert world.drain() == [newest, other]


def test_a_requeued_task_keeps_its_place_and_a_replay_is_the_newest() -> None:
    world = World({})
    first = world.webhook()
    world.rows()
    [task] = world.pick()
    world.end(world.running[0], Kind.FAILED)
    world.now += 10
    second = world.webhook()
    world.replay(first)
    world.now += 10
    third = world.webhook()
    world.requeue(task.id)
    world.drain()
    assert world.started[1:] == [
        of(first, route="r0"), of(second, route="r0"), of(first, route="r0", replay=1), of(third, route="r0")
    ]  # fmt: skip


def test_a_rerouted_delivery_takes_the_place_of_when_it_was_sent() -> None:
    """It was ignored; where the route supersedes, and a later one of its key has come, its task is born superseded."""
    world = World({"supersede": "queued", "match": "number:2"})
    ignored = world.webhook()
    decided = route(world.config, DeliveryId("9", ignored), {"event": "issues", "number": 1}, dict)
    world.journal.append(decided.entries)
    world.config = build(
        {"route": [{"name": "r0", "match": "", "run": ["true"], "key": KEY, "supersede": "queued"}]}, None, {}
    )
    world.now += 10
    newer = world.webhook()
    world.rows()
    apply(actions.plan_reroute(world.journal, world.conn, world.config, Reroute(ids=[ignored]), None), world.journal)
    superseded = next(one for one in world.journal.records if one.kind == Kind.SUPERSEDED)
    assert superseded.subject == f"task.{of(ignored, route='r0')}"
    assert superseded.data["by_task"] == of(newer, route="r0") and superseded.data["reason"] == "late"
    assert world.drain() == [newer]


def test_beyond_the_window_a_key_keeps_its_order_over_routes() -> None:
    """Subqueues are of a route, and take turns; of one key the first sent goes first all the same."""
    queue = Queue()
    queue.pause("route", "paused")
    queue.many(SCAN_WINDOW + 20, route="paused")
    for name, sent_at in [("a3", 1006), ("b2", 1004), ("a1", 1001), ("b1", 1003), ("a2", 1002), ("b3", 1005)]:
        queue.add(name, "k", route=name[0], sent_at=sent_at)
    queue.add("paused too", "k", route="paused", sent_at=1000)
    assert queue.all() == ["a1", "a2", "b1", "b2", "b3", "a3"]
    queue.conn.close()


# ---- against the plain rule

SUPERSEDE = st.sampled_from(["never", "never", "queued", "running"])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_starts_are_in_the_order_of_sending_and_nothing_earlier_supersedes_what_is_later(data: st.DataObject) -> None:
    """Webhooks, fetches of any lateness, claims, ends, requeues, cancels, replays and a lagging fold, over routes of one key.

    Of a key, what is picked is what was sent first of all that the state shows as ready; and that is by the records alone.
    """
    world = World({"supersede": data.draw(SUPERSEDE)}, {"supersede": data.draw(SUPERSEDE)}, {})
    try:
        for _ in range(data.draw(st.integers(5, 40))):
            _step(world, data)
        world.supersede()
        while _pick(world, 9) or world.running:
            for claim in [*world.running]:
                _end(world, claim, Kind.COMPLETED)
            world.supersede()
        assert not world.conn.execute("SELECT id FROM tasks WHERE state IN ('queued', 'running')").fetchall()
        _check_superseded(world)
        whole = empty_state()
        fold(whole, world.journal.records)
        assert dump(whole) == dump(world.conn)
        whole.close()
    finally:
        world.conn.close()


def _step(world: World, data: st.DataObject) -> None:
    steps = ["webhook", "webhook", "fetch", "fold", "pick", "pick", "end", "time", "requeue", "cancel", "replay"]
    step, number = data.draw(st.sampled_from(steps)), data.draw(st.sampled_from([1, 1, 2]))
    tasks = (
        {row["id"]: row["state"] for row in world.rows().execute("SELECT id, state FROM tasks")}
        if step[0] in "rc"
        else {}
    )
    if step == "webhook":
        world.webhook(number)
    elif step == "fetch":
        back = data.draw(st.lists(st.sampled_from([-5, 0, 0.4, 1, 30, 600]), min_size=1, max_size=3))
        world.fetch(*(world.now - one for one in back), number=number)
    elif step == "fold":
        world.supersede()
    elif step == "pick":
        _pick(world, data.draw(st.integers(1, 3)))
    elif step == "end" and world.running:
        _end(
            world,
            data.draw(st.sampled_from(world.running)),
            data.draw(st.sampled_from([Kind.COMPLETED, Kind.FAILED])),
        )
    elif step == "time":
        world.now += data.draw(st.sampled_from([0.2, 1.0, 60.0]))
    elif step == "requeue" and (
        ids := [id for id, state in tasks.items() if state in ("failed", "cancelled", "superseded")]
    ):
        world.requeue(data.draw(st.sampled_from(ids)))
    elif step == "cancel" and (ids := [id for id, state in tasks.items() if state == "queued"]):
        wanted = Selection(ids=[data.draw(st.sampled_from(ids))])
        apply(actions.plan_cancel(world.journal, world.conn, world.config, wanted, None), world.journal)
    elif step == "replay" and world.sent:
        world.replay(data.draw(st.sampled_from(sorted(world.sent))))


def _end(world: World, claim: Claim, kind: Kind) -> None:
    with suppress(StaleClaim):  # it was superseded, or cancelled, while it ran
        world.end(claim, kind)


def _pick(world: World, limit: int) -> list[Task]:
    seen = {one.subject[5:]: one for one in world.journal.records[: world.folded] if one.kind == Kind.QUEUED}
    ready = world.conn.execute(
        "SELECT id, key, supersede, queued_seq, created_seq FROM tasks WHERE state = 'queued'"
    ).fetchall()
    cancelled = {row["id"] for row in world.conn.execute("SELECT id FROM tasks WHERE state = 'cancelled'")}
    busy = {row["key"] for row in world.conn.execute("SELECT key FROM tasks WHERE state = 'running'")}
    begun = len(world.started)
    picked = world.pick(limit)
    for task in picked:
        assert task.key not in busy
        busy.add(task.key)
        same = [row for row in ready if row["key"] == task.key and row["id"] not in world.started[:begun]]
        earlier = [row["id"] for row in same if _moment(world, seen[row["id"]]) < _moment(world, seen[task.id])]
        for id in earlier:  # unless something that was sent later still has outdated it
            newer = [one for name, one in seen.items() if name not in cancelled and _outdates(world, one, seen[id])]
            assert newer, f"{task.id} was started before {id}, which was sent earlier"
    return picked


def _moment(world: World, made: Record) -> tuple[float, int]:
    return seconds_of(made.at) if made.data["replay"] else world.sent[made.data["guid"]], made.seq


def _outdates(world: World, one: Record, other: Record) -> bool:
    return (
        one.data["route"] == other.data["route"]
        and one.about["key"] == other.about["key"]
        and one.data["policy"]["supersede"] != "never"
        and one.data["replay"] == other.data["replay"] == 0
        and _moment(world, one) > _moment(world, other)
    )


def _check_superseded(world: World) -> None:
    made = {one.subject[5:]: one for one in world.journal.records if one.kind == Kind.QUEUED}
    for one in world.journal.records:
        if one.kind == Kind.SUPERSEDED:
            later, earlier = made[one.data["by_task"]], made[one.subject[5:]]
            assert _moment(world, later) > _moment(world, earlier)
            assert (later.data["route"], later.about["key"]) == (earlier.data["route"], earlier.about["key"])


# ---- by the records


def test_the_moment_of_each_kind_of_record() -> None:
    def of_records(*entries: Entry, at: str = "2027-01-15T08:00:00.250000Z") -> list[int]:
        conn = empty_state()
        fold(conn, [_at(one, at) for one in as_records(entries)])
        found = [
            row[0] for row in conn.execute("SELECT sent_at FROM webhook_deliveries UNION ALL SELECT sent_at FROM tasks")
        ]
        conn.close()
        return found

    now = 1_800_000_000_250
    origin = {"delivered_at": "2027-01-15T07:59:59Z"}
    assert of_records(received("a"), queued("a")) == [now, now]
    assert of_records(received("a", origin=origin), queued("a"), queued("a", replay=1)) == [now - 1250, now - 1250, now]
    assert of_records(received("a", origin={"delivered_at": "2027-01-15T08:59:59+01:00"})) == [now - 1250]
    assert of_records(received("a", origin={"delivered_at": "2099-01-15T08:00:00Z"})) == [now]
    for odd in (
        None,
        "x",
        7,
        {"delivered_at": 7},
        {"delivered_at": "soon"},
        {"delivered_at": "2027-13-41T00:00:00Z"},
        {},
    ):
        assert of_records(received("a", origin=odd), queued("a")) == [now, now]
    assert of_records(queued("lost")) == [now]
    assert of_records(received("a"), at="2027-99-15T08:00:00.250000Z") == [0]
    assert send_order.moment("1969-12-31T23:59:59.999000Z") == -1


def _at(record: Record, at: str) -> Record:
    return structs.replace(record, at=at)


def test_a_task_that_is_tried_again_keeps_its_moment() -> None:
    conn = empty_state()
    task = of("a")
    entries = [received("a"), queued("a"), received("b"), moved("claimed", task, attempt=1)]
    fold(conn, as_records([*entries, moved("retry", task, category="interrupted", claim=4)]))
    assert conn.execute(
        "SELECT t.sent_at = d.sent_at FROM tasks t JOIN webhook_deliveries d ON d.guid = 'a'"
    ).fetchone()[0]
    conn.close()
