"""Intake over a real journal and a real state: the answer table, and what each answer leaves in the journal."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.live import Snapshot
from covenq.config.load import Config, build
from covenq.errors import CovenqError, NotFound
from covenq.github import samples
from covenq.intake.receive import Request, receive
from covenq.intake.resume import resume, route_received
from covenq.intake.scope_bindings import ScopeBindings
from covenq.model import DeliveryId, State, task_id
from covenq.model.rows import Delivery
from covenq.routing.late import born_superseded
from journal.errors import JournalClosed
from journal.file.engine import FileJournal
from journal.records import Appended, Conflict, Entry, Record, Unknown
from tests.support.intake import FORM, SECRETS, House, config_of, request
from tests.support.requests import issue


def without(made: Request, *names: str) -> Request:
    return Request([(name, value) for name, value in made.headers if name not in names], made.body)


def changed(made: Request, **headers: str) -> Request:
    new = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request([*without(made, *new).headers, *new.items()], made.body)


@pytest.fixture
def house(journal_engine: None, tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path).open()
    yield made
    made.close()


# ---- new deliveries


def test_a_new_delivery_is_one_append_of_itself_and_its_tasks(house: House) -> None:
    answer = house.post()
    tasks = [task_id(DeliveryId("9", "g-1"), name, 0) for name in ("r0", "r1")]
    received, *queued = house.records()
    assert answer.status == 202
    assert answer.headers == {}
    assert answer.body == {
        "ok": True,
        "duplicate": False,
        "delivery": "g-1",
        "seq": received.seq,
        "state": "queued",
        "tasks": tasks,
        "durability": "fsync",
    }
    assert [record.subject for record in queued] == [f"task.{one}" for one in tasks]
    assert {record.synced for record in (received, *queued)} == {received.synced}, "one batch"
    body = request().body
    assert (received.payload, received.payload_sha256) == (body, hashlib.sha256(body).hexdigest())
    headers = received.data.pop("headers")
    assert received.data == {
        "hook": "9",
        "guid": "g-1",
        "event": "issues",
        "action": "opened",
        "installation": 2311,
        "repo_id": 1296269,
        "target": "issue",
        "secret": "test",
        "source": "http",
        "twin": None,
        "tasks": tasks,
    }
    assert ["X-GitHub-Delivery", "g-1"] in headers
    assert received.about == {
        "repo": "octo/hello",
        "owner": "octo",
        "sender": "octocat",
        "number": 7,
        "head_sha": None,
        "title": "Issue 7",
        "label": None,
        "labels": ["bug"],
        "ref": None,
    }


def test_what_no_route_wants_is_ignored_with_the_reason_in_the_same_append(house: House) -> None:
    answer = house.post({"action": "created"}, event="star")
    assert (answer.status, answer.body["state"], answer.body["tasks"]) == (202, "ignored", [])
    received, ignored = house.records()
    assert (ignored.kind, ignored.subject, ignored.synced) == ("delivery.ignored", received.subject, received.synced)
    assert house.row("g-1").reason == "no_match"


def test_ping(house: House) -> None:
    for duplicate in (False, True):
        answer = house.post({"zen": "x"}, event="ping")
        assert answer.status == 200
        assert (answer.body["pong"], answer.body["duplicate"], answer.body["state"]) == (True, duplicate, "ignored")
    assert house.kinds() == ["delivery.received", "delivery.ignored", "delivery.repeated"]
    assert house.row("g-1").reason == "ping"


def test_a_form_is_stored_as_it_came_and_read_as_what_it_holds(house: House) -> None:
    raw = b"payload=" + quote_plus(json.dumps(issue(12))).encode() + b"&junk=\xff"
    answer = house.send(request(raw, content_type=FORM + "; charset=utf-8"))
    assert (answer.status, answer.body["state"]) == (202, "queued")
    received = house.records()[0]
    assert received.payload == raw
    assert received.about is not None
    assert received.about["number"] == 12
    assert house.row("g-1").payload_sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    "body",
    [
        b'{"action":"opened","issue":{"title":"\\ud800 and \\u0000","number":1e400}}',
        b'\xef\xbb\xbf{"action":"opened"}',
        b'{"action":"opened","action":"closed"}',
        b'{"n":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"seq":1,"sum":"' + b"0" * 64 + b'","prev":""}',
        b' \r\n{ "a" : "\\u2028" }\n',
        b'{"repository":{"full_name":"../../../etc/passwd\\n$(id)"},"sender":{"login":",\\"sum\\":\\""}}',
    ],
)
def test_odd_json_is_stored_faithfully_and_survives_a_restart(house: House, body: bytes) -> None:
    assert house.send(request(body)).status == 202
    house.reopen()
    [received] = [record for record in house.records() if record.kind == "delivery.received"]
    assert received.payload == body
    assert house.row("g-1").payload_bytes == len(body)
    assert house.send(request(body)).body["duplicate"] is True


def test_every_sample_is_accepted_unchanged(house: House) -> None:
    for event in samples.SAMPLES:
        body = samples.body(event, 3)
        headers = samples.headers(event, f"g-{event}", samples.HOOK, body, SECRETS[0].secret)
        answer = house.send(Request(list(headers.items()), body))
        assert answer.status == (200 if event == "ping" else 202)
        record = house.journal.get(answer.body["seq"])
        assert record is not None
        assert (record.payload, record.data["secret"], record.data["event"]) == (body, "new", event)


# ---- refusals


def test_refusals_come_in_the_order_of_the_table_and_touch_no_journal(house: House) -> None:
    house.config = build({"server": {"body_limit": 1000}}, None, {})
    before = house.journal.head()
    wrong = request({"x": "y" * 1000}, secret="wrong")
    bare = without(request(b"[]", secret="wrong"), "X-GitHub-Event", "X-GitHub-Delivery")
    signed_bare = without(request(b"[]"), "X-GitHub-Event", "X-GitHub-Delivery")
    cases = [
        (changed(wrong, Content_Type="text/plain"), 413, "body_too_large"),
        (changed(bare, Content_Type="text/plain"), 415, "content_type_unsupported"),
        (without(bare, "Content-Type"), 415, "content_type_unsupported"),
        (without(bare, "X-Hub-Signature-256"), 401, "signature_missing"),
        (bare, 401, "signature_wrong"),
        (changed(request(), X_Hub_Signature_256=""), 401, "signature_wrong"),
        (Request(request().headers, request().body + b" "), 401, "signature_wrong"),
        (signed_bare, 400, "event_missing"),
        (without(request(), "X-GitHub-Event"), 400, "event_missing"),
        (without(request(), "X-GitHub-Delivery"), 400, "delivery_missing"),
        (request(b"[]"), 400, "body_not_object"),
        (request(b"{"), 400, "body_not_json"),
        (request(b"a=b", content_type=FORM), 400, "form_without_payload"),
        (request(b'{"a":"\xff"}'), 400, "body_not_json"),
    ]
    for made, status, word in cases:
        answer = house.send(made)
        assert (answer.status, answer.refusal) == (status, word)
        assert answer.body.keys() == {"ok", "error", "detail"}
    assert house.journal.head() == before


@pytest.mark.parametrize("bad", ["../../x", "x" * 10_000, "nul\0nul", "line\nline", "", "ä", "a/b", "a.b"])
def test_hostile_ids_are_400_and_leave_nothing(house: House, bad: str) -> None:
    before = house.journal.head()
    assert house.send(changed(request(), X_GitHub_Delivery=bad)).refusal == "delivery_malformed"
    assert house.send(changed(request(), X_GitHub_Hook_ID=bad)).refusal == "hook_malformed"
    assert house.send(changed(request(), X_GitHub_Event=bad + "\n")).refusal == "event_malformed"
    assert house.journal.head() == before


def test_no_secret_lets_nobody_in(house: House) -> None:
    made = request(secret="")
    options: dict[str, Any] = {
        "journal": house.journal,
        "lookup": house.lookup,
        "bindings": ScopeBindings(house.journal),
    }
    assert receive(made, live=Snapshot(house.config, ()), **options).refusal == "signature_wrong"


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["X-GitHub-Event", "X-GitHub-Delivery", "X-GitHub-Hook-ID", "Content-Type", "X-Hub-Signature-256", "X"]),
        st.text(max_size=20),
    ),
    max_size=8,
)  # fmt: skip


def test_nothing_a_request_holds_raises(house: House) -> None:
    @given(HEADERS, st.binary(max_size=100), st.booleans())
    def post(extra: list[tuple[str, str]], body: bytes, wrapped: bool) -> None:
        made = request(b'{"action":' + body + b"}" if wrapped else body)
        head = house.journal.head()
        answer = house.send(Request([*made.headers, *extra], made.body))
        assert answer.status in (200, 202, 400, 401, 409, 415)
        if answer.status in (400, 401, 415):
            assert house.journal.head() == head

    post()


# ---- seen before


def test_seen_before_is_a_duplicate_with_the_first_ones_seq_and_todays_state(house: House) -> None:
    first = house.post()
    house.reopen()
    again = house.post()
    assert again.status == 200
    assert again.body == {**first.body, "duplicate": True}
    repeated = house.records()[-1]
    assert (repeated.kind, repeated.data) == ("delivery.repeated", {"received": first.body["seq"]})
    assert house.row("g-1").duplicates == 1


def test_another_body_under_the_same_id_is_a_conflict(house: House) -> None:
    first = house.post()
    answer = house.post(issue(8))
    assert (answer.status, answer.refusal) == (409, "delivery_conflict")
    body = request(issue(8)).body
    assert house.records()[-1].data == {
        "received": first.body["seq"],
        "payload_sha256": hashlib.sha256(body).hexdigest(),
        "payload_bytes": len(body),
    }
    assert house.row("g-1").conflicts == 1
    assert house.post().body == {**first.body, "duplicate": True}, "the first one stands"


def test_siblings_with_one_guid_are_two_deliveries(house: House) -> None:
    answers = [house.post(issue(n), hook=hook) for n, hook in ((1, "1"), (2, "2"))]
    assert [answer.status for answer in answers] == [202, 202]
    assert set(answers[0].body["tasks"]).isdisjoint(answers[1].body["tasks"])


def test_fifty_at_once_make_one_delivery(house: House) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: house.post(), range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 49 + [202]
    assert len({(answer.body["seq"], *answer.body["tasks"]) for answer in answers}) == 1
    kinds = house.kinds()
    assert kinds[:3] == ["delivery.received", "task.queued", "task.queued"]
    assert kinds[3:] == ["delivery.repeated"] * 49


# ---- what can't be made durable


@pytest.mark.files("the disk is full")
def test_a_full_disk_is_503_and_claims_nothing_and_passes(house: House) -> None:
    first = house.post(guid="before")
    house.files.full = True
    answer = house.post()
    assert (answer.status, answer.refusal, answer.headers) == (503, "journal_full", {"Retry-After": "30"})
    assert house.post(guid="before").body == {**first.body, "duplicate": True}, "what is durable stays so"
    house.files.full = False
    assert house.post().status == 202
    assert house.kinds().count("delivery.received") == 2


@pytest.mark.files("a sync of the disk fails")
def test_a_failed_sync_is_503_now_and_from_then_on(house: House) -> None:
    house.files.broken = True
    assert house.post().refusal == "journal_poisoned"
    house.files.broken = False
    answer = house.post(guid="g-2")
    assert (answer.status, answer.refusal, answer.headers) == (503, "journal_poisoned", {"Retry-After": "30"})
    assert house.records() == []


def test_a_closed_journal_is_503(house: House) -> None:
    house.journal.close()
    assert house.post().refusal == "journal_closed"


def nothing(id: DeliveryId, seq: int) -> Delivery | None:
    """A state that isn't there."""
    return None


@pytest.mark.parametrize("error", [NotFound("gone"), CovenqError("behind"), TimeoutError(), sqlite3.Error(), None])
def test_the_answer_to_a_delivery_that_came_before_rests_on_the_journal(house: House, error: Exception | None) -> None:
    def lookup(id: DeliveryId, seq: int) -> None:
        if error:
            raise error

    first = house.post()
    for _ in range(2):  # the newest record is the delivery, and then that it came again
        again = house.post(lookup=lookup)
        assert (again.status, again.body) == (200, {**first.body, "duplicate": True})
    other = house.post({"action": "closed"}, lookup=lookup)
    assert (other.status, other.refusal) == (409, "delivery_conflict")
    assert house.kinds().count("delivery.received") == 1
    assert [record.data["received"] for record in house.records()[-3:]] == [first.body["seq"]] * 3


def test_so_does_that_to_one_that_is_ignored_was_never_decided_or_was_erased(house: House) -> None:
    ignored = house.post({}, event="star", guid="g-star")
    assert house.post({}, event="star", guid="g-star", lookup=nothing).body == {**ignored.body, "duplicate": True}
    undecided = house.post(guid="g-2", config=broken(house.config))
    assert undecided.body["state"] == "received"
    assert house.post(guid="g-2", lookup=nothing).body == {**undecided.body, "duplicate": True}
    seq = house.post(guid="g-3").body["seq"]
    house.journal.append(
        [
            Entry("delivery.9.g-3", "delivery.redacted", {"received": seq, "drops": [[seq, seq]], "about": True}),
            Entry("delivery.9.g-3", "delivery.ignored", {"reason": "redacted", "detail": None}),
        ]
    )
    assert house.post(guid="g-3", lookup=nothing).body["seq"] == seq


def test_a_duplicate_whose_first_record_is_nowhere_to_be_found_is_503(house: House) -> None:
    house.journal.append(
        [Entry("delivery.9.g-1", "delivery.replayed", {"received": 7}), Entry("ops.x", "ops.note", {})]
    )
    answer = house.post(lookup=nothing)
    assert (answer.status, answer.refusal) == (503, "state_behind")


class Silent:
    """A journal over a network: it loses some answers, whether or not it appended."""

    durability = "replicated"

    def __init__(self, journal: FileJournal, answers: list[str]) -> None:
        self.journal, self.answers = journal, answers
        self.known: dict[str, Appended] = {}

    def append(self, entries: list[Entry]) -> Appended | Conflict | Unknown:
        fate = self.answers.pop(0) if self.answers else "heard"
        attempt = str(entries[0].attempt)
        result = None if fate == "lost" else self.known.get(attempt) or self.journal.append(entries)
        if isinstance(result, Appended):
            self.known[attempt] = result
        return Unknown() if fate != "heard" or result is None else result


def test_an_unknown_answer_is_asked_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.append.PAUSE_S", 0.0)
    assert house.post(journal=Silent(house.journal, ["lost", "lost"])).status == 202
    late = house.post(guid="g-2", journal=Silent(house.journal, ["unheard", "unheard"]))
    assert (late.status, late.body["duplicate"]) == (202, False), "it is known for the same attempt"
    monkeypatch.setattr("covenq.intake.receive.REQUEST_S", 0.0)
    unanswered = house.post(guid="g-3", journal=Silent(house.journal, ["lost"] * 5))
    assert unanswered.refusal == "journal_unavailable"
    assert "isn't known" in unanswered.body["detail"], "it may be durable"
    assert house.kinds().count("delivery.received") == 2


# ---- what a failed rule or a crash left undone


class Fails:
    """A filter that fails, as a mistake in the grammar's code would."""

    def matches(self, fields: Mapping[str, Any], *, now: float) -> bool:
        raise ValueError("quotes the payload")

    def split(self, field: str) -> tuple[None, Fails]:
        return None, self


def broken(config: Config) -> Config:
    failing: Any = Fails()
    *rules, last = config.routes
    return replace(config, routes=(*rules, replace(last, filter=failing)))


def received_of(house: House, guid: str = "g-1") -> Record:
    record = house.journal.get(house.row(guid).seq)
    assert record is not None
    return record


def test_a_rule_that_raises_leaves_it_received_until_it_is_routed_again(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    answer = house.post(config=broken(house.config))
    assert (answer.status, answer.body["state"], answer.body["tasks"]) == (202, "received", [])
    assert house.kinds() == ["delivery.received"]
    assert "route 'r1' failed with ValueError" in caplog.text
    assert "quotes the payload" not in caplog.text

    row = house.row("g-1")
    assert (row.state, row.reason, row.detail) == (
        "received",
        "rule_failed",
        "route 'r1' failed with ValueError",
    )
    assert route_received(house.journal, broken(house.config), row, received_of(house)).state is State.RECEIVED
    decision = route_received(house.journal, house.config, row, received_of(house))
    assert decision.state is State.QUEUED
    assert (house.row("g-1").state, house.row("g-1").reason) == ("queued", None)
    assert house.kinds() == ["delivery.received", "task.queued", "task.queued"]
    assert house.records()[1].data["delivery_seq"] == row.seq
    route_received(house.journal, house.config, row, received_of(house))
    assert house.kinds() == ["delivery.received", "task.queued", "task.queued"], "routing twice makes no second task"
    assert house.post().body["tasks"] == list(decision.tasks)


def test_a_received_delivery_that_no_route_wants_now_is_ignored_once(house: House) -> None:
    house.post(config=broken(house.config))
    row = house.row("g-1")
    house.post()  # a note of its coming again, after the row was read
    for _ in range(2):
        assert route_received(house.journal, config_of("event:push"), row, received_of(house)).state is State.IGNORED
    assert house.kinds() == ["delivery.received", "delivery.repeated", "delivery.ignored"]
    assert house.row("g-1").reason == "no_match"


def test_a_received_delivery_is_routed_by_its_payload_again(house: House) -> None:
    wanting = config_of("payload.issue.body:*work*")
    raw = b"payload=" + quote_plus(json.dumps(issue())).encode()
    house.send(request(raw, content_type=FORM), config=broken(house.config))
    assert route_received(house.journal, wanting, house.row("g-1"), received_of(house)).state is State.QUEUED


def cut_short(house: House, keep: int) -> None:
    """The delivery g-1 as a crash in the midst of its append leaves it: the first `keep` records."""

    class Prefix:
        def append(self, entries: list[Entry]) -> Unknown:
            house.journal.append(entries[:keep])
            raise JournalClosed("the process is gone")

    house.post(journal=Prefix(), lookup=lambda id, seq: None)


def test_resume_completes_what_a_crash_cut_short(house: House) -> None:
    cut_short(house, 2)
    assert house.kinds() == ["delivery.received", "task.queued"]
    house.reopen()
    assert resume(house.journal, house.config) == DeliveryId("9", "g-1")
    assert house.kinds() == ["delivery.received", "task.queued", "task.queued"]
    assert resume(house.journal, house.config) is None
    assert len(house.post().body["tasks"]) == 2


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5])
def test_a_task_that_is_late_is_superseded_whatever_a_crash_left_of_its_append(house: House, keep: int) -> None:
    """Of five records: the delivery, a task that is late and that it is superseded, and the same of the other."""
    late = {"r0": "t1", "r1": "t2"}

    class Prefix:
        def append(self, entries: list[Entry]) -> Unknown:
            received, *decided = entries
            received = received._replace(data={**received.data, "late": [list(pair) for pair in late.items()]})
            whole = [received, *born_superseded(decided, late)]
            assert len(whole) == 5
            house.journal.append(whole[:keep])
            raise JournalClosed("the process is gone")

    house.post(journal=Prefix(), lookup=lambda id, seq: None)
    house.reopen()
    done = resume(house.journal, house.config)
    assert (done is None) == (keep in (1, 5))
    if keep == 1:
        route_received(house.journal, house.config, house.row("g-1"), received_of(house))
    assert house.kinds().count("task.queued") == house.kinds().count("task.superseded") == 2
    assert house.row("g-1").state == "superseded"
    rows = house.store.reader().execute("SELECT reason, superseded_by, supersede FROM tasks ORDER BY route").fetchall()
    assert [tuple(row) for row in rows] == [("late", "t1", None), ("late", "t2", None)]
    assert resume(house.journal, house.config) is None


def test_resume_makes_no_task_that_was_not_decided(house: House) -> None:
    more = config_of("event:issues", "action:opened", "")
    assert resume(house.journal, more) is None, "nothing there"
    house.post()
    house.post({}, event="star", guid="g-2")
    assert resume(house.journal, more) is None, "the newest is ignored"
    house.post(guid="g-3")
    assert resume(house.journal, more) is None, "the newest is complete"
    assert house.kinds().count("task.queued") == 4


def test_resume_leaves_a_delivery_that_survived_alone_to_be_routed_by_todays_routes(house: House) -> None:
    cut_short(house, 1)
    assert resume(house.journal, house.config) is None
    assert house.row("g-1").state == "received"
    assert route_received(house.journal, house.config, house.row("g-1"), received_of(house)).state is State.QUEUED


def test_an_import_without_tasks_that_a_crash_cut_short_is_given_none_by_todays_routes(house: House) -> None:
    class Prefix:
        def append(self, entries: list[Entry]) -> Unknown:
            received = entries[0]
            house.journal.append(
                [received._replace(data={**received.data, "source": "import", "secret": None, "tasks": []})]
            )
            raise JournalClosed("the process is gone")

    house.post(journal=Prefix(), lookup=lambda id, seq: None)
    house.reopen()
    assert resume(house.journal, house.config) is None
    row = house.row("g-1")
    assert row.state == "received"
    for _ in range(2):
        decision = route_received(house.journal, house.config, row, received_of(house))
        assert (decision.state, decision.tasks, decision.reason) == (State.IGNORED, (), "imported")
    assert house.kinds() == ["delivery.received", "delivery.ignored"]
    assert (house.row("g-1").state, house.row("g-1").reason) == ("ignored", "imported")


def test_resume_leaves_alone_what_todays_routes_do_not_make(house: House) -> None:
    cut_short(house, 2)
    assert resume(house.journal, config_of("event:issues")) is None
    assert house.kinds() == ["delivery.received", "task.queued"]


def test_a_task_that_outlived_its_delivery_is_left_as_it_is(house: House) -> None:
    house.post(guid="g-0")
    orphan = task_id(DeliveryId("9", "g-1"), "r0", 0)
    data = {**house.records()[1].data, "guid": "g-1"}
    house.journal.append([Entry(f"task.{orphan}", "task.queued", data, {}, expect=0)])
    answer = house.post()
    assert (answer.status, answer.body["duplicate"], len(answer.body["tasks"])) == (202, False, 2)
    assert [record.subject for record in house.records()].count(f"task.{orphan}") == 1
    assert house.row("g-1").tasks == [orphan, answer.body["tasks"][1]]
