"""What records make of rows: every kind, the delivery's state, and that batches change nothing."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import asdict

from covenq.filter.grammar import parse
from covenq.model.rows import Delivery, TaskRow
from covenq.state import query
from covenq.state.building import Building
from covenq.state.fold import apply, deciding_task, fold
from journal.records import Entry, Record
from tests.support.answers import blank
from tests.support.records import (
    as_records,
    dump,
    dump_all,
    empty_built_state,
    empty_state,
    moved,
    note,
    of,
    queued,
    received,
)


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    state = empty_state()
    yield state
    state.close()


def one(conn: sqlite3.Connection, *entries: Entry) -> Delivery:
    """Fold, and return the delivery g1."""
    fold(conn, as_records(entries))
    return query.delivery(conn, "9", "g1")


T = of("g1")
LATER = "2027-01-15T10:00:00.000000Z"
FAILURE = {"category": "exit", "exit_code": 3, "signal": None, "detail": "it exited with 3", "interruptions": 0}


def claimed(attempt: int = 1, **data: Any) -> Entry:
    return moved("claimed", T, attempt=attempt, **({"worker": "w1", "lease_until": None} | data))


def test_an_attempt_keeps_its_node_and_an_older_record_has_none(conn: sqlite3.Connection) -> None:
    fold(conn, as_records([received("g1"), queued("g1"), claimed(), moved("retry", T, attempt=1, **FAILURE)]))
    assert query.task(conn, T).node is None
    fold(conn, as_records([claimed(2, node="alpha")], first=10))
    assert query.task(conn, T).node == "alpha"
    assert [(one.attempt, one.node) for one in query.attempts(conn, T)] == [(1, None), (2, "alpha")]
    fold(conn, as_records([moved("retry", T, attempt=2, **FAILURE)], first=20))
    assert query.task(conn, T).node is None, "nobody has it"
    assert query.attempts(conn, T)[1].node == "alpha"
    fold(conn, as_records([claimed(3, node=7)], first=30))
    assert query.task(conn, T).node is None


def test_a_received_delivery(conn: sqlite3.Connection) -> None:
    row = one(conn, received("g1", payload=b"{}"))
    assert asdict(row) | {"received_at": ""} == {
        "seq": 1, "hook": "9", "guid": "g1", "received_at": "", "event": "issues", "action": "opened",
        "repo": "octo/hello", "repo_id": 6, "owner": "octo", "sender": "mona", "installation": 5, "number": 12,
        "head_sha": None, "label": None, "labels": ["bug"], "title": "It breaks", "state": "received", "reason": None,
        "detail": None, "payload_sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "payload_bytes": 2, "secret": "app", "source": "http", "twin": None, "duplicates": 0, "conflicts": 0,
        "last_seq": 1, "replays": 0, "payload_dropped": None, "redacted": None, "tasks": [], "ref": None, "target": None,
        "routing": None,
    }  # fmt: skip
    assert row.received_at == "2027-01-15T08:00:01.000000Z"


def test_notes_on_a_delivery(conn: sqlite3.Connection) -> None:
    notes = [note("repeated", "g1", received=1)] * 3 + [note("conflicted", "g1"), note("replayed", "g1", replay=2)]
    row = one(conn, received("g1"), *notes, note("replayed", "g1", replay=1), note("unheard_of", "g1"))
    assert (row.duplicates, row.conflicts, row.replays, row.last_seq) == (3, 1, 2, 8)
    assert row.state == "received"


def test_an_ignored_delivery_keeps_its_reason_until_a_task_comes(conn: sqlite3.Connection) -> None:
    row = one(conn, received("g1"), note("ignored", "g1", reason="no_route", detail="no route wants issues"))
    assert (row.state, row.reason, row.detail) == ("ignored", "no_route", "no route wants issues")
    assert row.routing == "ignored:no_route"
    fold(conn, as_records([queued("g1")], first=3))
    row = query.delivery(conn, None, "g1")
    assert (row.state, row.reason, row.detail, row.tasks) == ("queued", None, None, [T])
    assert row.routing == f"task:{T}"


def test_routing_is_told_of_every_task_oldest_first_and_of_nothing_undecided(conn: sqlite3.Connection) -> None:
    again = of("g1", replay=1)
    fold(conn, as_records([received("g1"), queued("g1"), queued("g1", replay=1), received("g2")]))
    assert query.delivery(conn, None, "g1").routing == f"task:{T},{again}"
    assert query.delivery(conn, None, "g2").routing is None
    assert [tuple(row) for row in conn.execute("SELECT guid, routing FROM routing ORDER BY seq")] == [
        ("g1", f"task:{T},{again}"),
        ("g2", None),
    ]


def test_a_task_through_its_attempts(conn: sqlite3.Connection) -> None:
    retry = moved("retry", T, attempt=1, claim=3, not_before="2027-01-15T09:00:00.000000Z", **FAILURE)
    steps = [received("g1"), queued("g1", about={"key": "octo/hello#12"}), claimed()]
    steps += [moved("phase", T, attempt=1, claim=3, phase="started"), moved("renewed", T, lease_until=LATER), retry]
    records = as_records(steps)

    fold(conn, records[:2])
    task = query.task(conn, T)
    assert (task.state, task.attempts, task.key, task.created_seq) == ("queued", 0, "octo/hello#12", 2)
    assert task.policy["retry"] == {"max": 2, "backoff_s": 2.0, "cap_s": 300.0}
    assert query.attempts(conn, T) == []

    fold(conn, records[2:5])
    task = query.task(conn, T)
    assert (task.state, task.attempts, task.worker, task.lease_until) == ("running", 1, "w1", LATER)
    assert task.claim_seq == 3
    assert query.delivery(conn, "9", "g1").state == "running"

    fold(conn, records[5:])
    task = query.task(conn, T)
    assert (task.state, task.reason, task.category) == ("queued", "exit", "exit")
    assert (task.not_before, task.retries) == ("2027-01-15T09:00:00.000000Z", 1)
    assert (task.worker, task.lease_until, task.claim_seq, task.last_seq) == (None, None, None, 6)
    assert task.updated_at == records[5].at

    result = "attempts/x/2/result"
    done = moved("completed", T, attempt=2, claim=7, exit_code=0, result=result)
    fold(conn, as_records([claimed(2), done], first=7))
    task = query.task(conn, T)
    assert (task.state, task.reason, task.not_before, task.attempts) == ("completed", None, None, 2)
    first, second = query.attempts(conn, T)
    assert first.phases == [("started", records[3].at)]
    assert (first.outcome, first.category, first.exit_code, first.detail) == (
        "failed",
        "exit",
        3,
        "it exited with 3",
    )
    assert (first.fence, first.started_at, first.ended_at) == ("e" * 16 + ".3", records[2].at, records[5].at)
    assert (second.outcome, second.category, second.exit_code, second.result) == (
        "completed",
        None,
        0,
        result,
    )
    assert query.delivery(conn, "9", "g1").state == "completed"


def test_a_row_is_written_where_it_changed(conn: sqlite3.Connection) -> None:
    """A column that is set touches its indexes, even if it stays what it was."""
    made, claim = as_records([received("g1"), queued("g1")]), as_records([received("g1"), queued("g1"), claimed()])[2:]
    fold(conn, made)
    said: list[str] = []
    conn.set_trace_callback(said.append)
    fold(conn, claim)
    written = {
        table: set(re.findall(r"(\w+) = new\.", text.partition(" FROM ")[0]))
        for text in said
        for table in re.findall(r"UPDATE (\w+) SET", text)
    }
    assert written["tasks"] == {"state", "attempts", "updated_at", "worker", "last_seq", "claim_seq"}
    assert written["webhook_deliveries"] == {"state"}
    assert query.tasks_of(conn, "9", "g1")[0].state == "running"


def test_an_older_attempt_that_a_record_claims_anew_begins_anew(conn: sqlite3.Connection) -> None:
    """covenq never writes one, but whoever can write the journal can, and the fold must go on."""
    again = [moved("retry", T, **FAILURE), claimed(2), moved("retry", T, **FAILURE), claimed(1, worker="w9")]
    for record in as_records([received("g1"), queued("g1"), claimed(1), *again]):
        fold(conn, [record])
    assert [(a.attempt, a.worker, a.ended_at is None) for a in query.attempts(conn, T)] == [
        (1, "w9", True),
        (2, "w1", False),
    ]


def test_interruptions_are_counted_apart_from_retries(conn: sqlite3.Connection) -> None:
    cut = FAILURE | {"category": "interrupted", "exit_code": None}
    one(conn, received("g1"), queued("g1"), claimed(), moved("retry", T, **(cut | {"interruptions": 1})))
    task = query.task(conn, T)
    assert (task.state, task.retries, task.interruptions) == ("queued", 0, 1)
    fold(conn, as_records([claimed(2), moved("failed", T, **(cut | {"interruptions": 2}))], first=5))
    task = query.task(conn, T)
    assert (task.state, task.category, task.interruptions) == ("failed", "interrupted", 2)
    fold(conn, as_records([moved("requeued", T, by="mona", reason="fixed it")], first=7))
    task = query.task(conn, T)
    assert (task.state, task.reason, task.category) == ("queued", "fixed it", None)
    assert (task.interruptions, task.retries, task.attempts) == (0, 0, 2)


@pytest.mark.parametrize(
    ("kind", "data", "reason", "detail"),
    [
        ("cancelled", {"by": "mona", "reason": "not now"}, "not now", None),
        ("superseded", {"by_task": "t1"}, None, "by task t1"),
        ("failed", {"category": "policy", "detail": "no"}, "policy", "no"),
    ],
)
@pytest.mark.parametrize("running", [False, True])
def test_ends_that_come_from_elsewhere(
    conn: sqlite3.Connection, kind: str, data: dict[str, Any], reason: str | None, detail: str | None, running: bool
) -> None:
    row = one(conn, received("g1"), queued("g1"), *([claimed()] if running else []), moved(kind, T, **data))
    task = query.task(conn, T)
    assert (task.state, task.reason, task.detail) == (kind, reason, detail)
    assert (row.state, row.reason, row.detail) == (kind, reason, detail)
    assert [attempt.outcome for attempt in query.attempts(conn, T)] == ([kind] if running else [])
    assert all(attempt.ended_at for attempt in query.attempts(conn, T))


def test_an_attempt_that_ended_stays_as_it_ended(conn: sqlite3.Connection) -> None:
    steps = [received("g1"), queued("g1"), claimed(), moved("failed", T, **FAILURE), moved("requeued", T)]
    one(conn, *steps, moved("cancelled", T, by="mona"))
    (attempt,) = query.attempts(conn, T)
    assert (attempt.outcome, attempt.exit_code) == ("failed", 3)


def state_of(*tasks: tuple[str, int, str]) -> str | None:
    rows = [
        blank(TaskRow, route=route, replay=replay, state=state, created_seq=seq)
        for seq, (route, replay, state) in enumerate(tasks)
    ]
    deciding = deciding_task(rows)
    return None if deciding is None else str(deciding.state)


def test_a_deliverys_state_is_that_of_the_newest_replay_of_each_route() -> None:
    assert state_of() is None
    assert state_of(("a", 0, "completed"), ("b", 0, "failed")) == "failed"
    assert state_of(("a", 0, "completed"), ("b", 0, "failed"), ("b", 1, "completed")) == "completed"
    assert state_of(("a", 0, "running"), ("a", 1, "completed")) == "completed"
    assert state_of(("a", 2, "queued"), ("a", 10, "superseded")) == "superseded"
    order = ["running", "queued", "failed", "cancelled", "superseded", "completed"]
    for place, state in enumerate(order):
        assert state_of(*((f"r{i}", 0, other) for i, other in enumerate(reversed(order[place:])))) == state


def test_tasks_that_a_batch_does_not_speak_of_count_too(conn: sqlite3.Connection) -> None:
    log = of("g1", route="log")
    one(conn, received("g1"), queued("g1"), queued("g1", route="log"), claimed(), moved("failed", T, **FAILURE))
    done = [moved("claimed", log, attempt=1), moved("completed", log, attempt=1, exit_code=0)]
    fold(conn, as_records(done, first=6))
    row = query.delivery(conn, "9", "g1")
    assert (row.state, row.reason) == ("failed", "exit")
    fold(conn, as_records([note("replayed", "g1", replay=1), queued("g1", replay=1)], first=8))
    assert query.delivery(conn, "9", "g1").state == "queued"
    retried = of("g1", replay=1)
    fold(conn, as_records([moved("claimed", retried, attempt=1), moved("completed", retried)], first=10))
    row = query.delivery(conn, "9", "g1")
    assert (row.state, row.reason, row.tasks) == ("completed", None, [T, log, retried])


def test_another_guid_on_the_same_body_is_a_twin_of_the_first(conn: sqlite3.Connection) -> None:
    body = b'{"same":1}'
    entries = [received("g1", payload=body), received("g1", "8", payload=body), received("g2", payload=body)]
    fold(conn, as_records(entries))
    fold(
        conn,
        as_records(
            [received("g3", payload=body), received("g4", payload=b"{}"), received("g1", "7", payload=body)], first=4
        ),
    )
    twins = {(row["hook"], row["guid"]): row["twin"] for row in conn.execute("SELECT * FROM webhook_deliveries")}
    none = dict.fromkeys([("9", "g1"), ("8", "g1"), ("7", "g1"), ("9", "g4")])
    assert twins == none | {("9", "g2"): "g1", ("9", "g3"): "g1"}


def test_two_hooks_that_share_a_guid_are_two_deliveries(conn: sqlite3.Connection) -> None:
    fold(conn, as_records([received("g1"), received("g1", "8"), queued("g1", "8"), note("repeated", "g1")]))
    mine, other = query.delivery(conn, "9", "g1"), query.delivery(conn, "8", "g1")
    assert (mine.state, mine.duplicates, mine.tasks) == ("received", 1, [])
    assert (other.state, other.duplicates, other.tasks) == ("queued", 0, [of("g1", "8")])


def test_a_task_knows_its_deliverys_seq_or_has_no_delivery(conn: sqlite3.Connection) -> None:
    one(conn, received("g1"), queued("g1"), queued("gone", delivery_seq=1))
    assert query.task(conn, T).delivery_seq == 1
    assert query.task(conn, of("gone")).delivery_seq is None
    assert query.delivery(conn, None, "g1").tasks == [T]
    for guid, task in (("g1", T), ("gone", of("gone"))):
        assert [item.id for item in query.tasks(conn, parse(f"guid:{guid} -sender:hubot")).items] == [task]


def test_hostile_values_become_text_or_nothing(conn: sqlite3.Connection) -> None:
    about = {"repo": "a\0b", "owner": ["x"], "sender": "\ud800", "number": 1 << 80, "title": "'; DROP TABLE tasks; --"}
    row = one(
        conn, received("g1", about=about | {"labels": ["ok", 5, "n\0l"], "label": {}}, installation=True, event=5)
    )
    assert (row.repo, row.owner, row.sender, row.number) == ("a\ufffdb", None, "?", None)
    assert (row.labels, row.label, row.installation, row.event) == (
        ["ok", None, "n\ufffdl"],
        None,
        None,
        None,
    )
    assert row.title == "'; DROP TABLE tasks; --"


def test_no_number_that_records_state_or_lead_to_is_too_large_for_a_column(conn: sqlite3.Connection) -> None:
    most = 2**63 - 1
    one(conn, received("g1"), queued("g1"), claimed(most), claimed(None), claimed(2**64))  # type: ignore[arg-type]
    assert query.task(conn, T).attempts == most


def test_records_without_a_beginning_and_foreign_subjects_change_nothing(conn: sqlite3.Connection) -> None:
    before = dump(conn)
    entries = [note("repeated", "g1"), claimed(), Entry("ops.journal", "journal.synced", {})]
    fold(conn, as_records(entries))
    # Where such records stand is noted all the same: what they are about may have been lost, and come again.
    assert {**dump(conn), "notes": []} == {**before, "notes": []}
    fold(conn, [])


def test_an_erased_about_leaves_the_columns_empty(conn: sqlite3.Connection) -> None:
    entries = [received("g1"), queued("g1")]
    fold(conn, as_records([Entry(e.subject, e.kind, e.data, None, e.payload, e.expect) for e in entries]))
    row = query.delivery(conn, "9", "g1")
    assert (row.repo, row.title, row.labels, row.event) == (None, None, [], "issues")
    assert query.task(conn, T).repo is None


def test_what_was_erased_is_not_in_the_rows_whether_it_was_there_before_or_never(conn: sqlite3.Connection) -> None:
    entries = [received("g1"), queued("g1", about={"key": "octo/hello#12"}), received("g2"), moved("completed", T)]
    dropped = Entry("ops.retention", "journal.dropped", {"drops": [[1, 4]], "about": False})
    redacted = note("redacted", "g1", received=1, drops=[[1, 2]], about=True)
    records = as_records([*entries, dropped, redacted])
    fold(conn, records)
    row, task = query.delivery(conn, "9", "g1"), query.task(conn, T)
    assert (row.payload_dropped, row.redacted, row.last_seq) == (5, 6, 6)
    assert {getattr(row, name) for name in ("repo", "owner", "sender", "number", "head_sha", "title", "label")} == {
        None
    }
    assert row.labels == []
    assert {getattr(task, name) for name in ("repo", "number", "head_sha", "key")} == {None}
    assert (row.hook, row.guid, row.event, row.state) == ("9", "g1", "issues", "completed")
    assert row.payload_bytes and row.payload_sha256
    other = query.delivery(conn, "9", "g2")
    assert (other.payload_dropped, other.redacted, other.repo) == (5, None, "octo/hello")

    again = empty_state()
    try:
        erased = [structs.replace(one, about=None, payload=None, dropped=6) if one.seq < 3 else one for one in records]
        fold(again, erased)
        assert dump(again) == dump(conn), "folded from the log as it is afterwards"
    finally:
        again.close()


# ---- any records, in any batches

_guids = st.sampled_from(["g1", "g2", "g3"])
_hooks = st.sampled_from(["9", "8"])
_routes = st.sampled_from(["fix", "log"])
_replays = st.integers(0, 2)
_tasks = st.builds(of, _guids, _hooks, _routes, _replays)
_body = st.sampled_from([b"{}", b'{"a":1}', None])
_failure = st.fixed_dictionaries(
    {
        "attempt": st.integers(1, 3),
        "category": st.sampled_from(["exit", "interrupted", "timeout"]),
        "interruptions": st.integers(0, 3),
        "not_before": st.none() | st.just("2027-01-15T09:00:00.000000Z"),
    }
)
_entries = st.one_of(
    st.builds(lambda guid, hook, body: received(guid, hook, payload=body), _guids, _hooks, _body),
    st.builds(queued, _guids, _hooks, _routes, _replays),
    st.builds(
        lambda kind, guid, hook, n: note(kind, guid, hook, reason="r", replay=n),
        st.sampled_from(["ignored", "repeated", "conflicted", "replayed", "odd"]),
        _guids,
        _hooks,
        _replays,
    ),
    st.builds(lambda task, n: moved("claimed", task, attempt=n, worker="w"), _tasks, st.integers(1, 3)),
    st.builds(lambda task, name: moved("phase", task, phase=name), _tasks, st.sampled_from(["a", "b"])),
    st.builds(
        lambda kind, task, data: moved(kind, task, **data),
        st.sampled_from(["retry", "completed", "failed", "requeued", "cancelled", "superseded", "renewed", "odd"]),
        _tasks,
        _failure,
    ),
    st.builds(
        lambda guid, hook, pairs, about: note(
            "redacted", guid, hook, drops=[sorted(pair) for pair in pairs], about=about
        ),
        _guids,
        _hooks,
        st.lists(st.tuples(st.integers(1, 45), st.integers(1, 45)), max_size=3),
        st.booleans(),
    ),
    st.builds(
        lambda pair: Entry("ops.retention", "journal.dropped", {"drops": [sorted(pair)], "about": False}),
        st.tuples(st.integers(1, 45), st.integers(1, 45)),
    ),
)


def _valid(entries: list[Entry]) -> list[Entry]:
    """A subject begins once, as compare-and-append has it."""
    seen: set[str] = set()
    kept = []
    for entry in entries:
        if entry.expect == 0 and entry.subject in seen:
            continue
        if entry.expect == 0:
            seen.add(entry.subject)
        kept.append(entry)
    return kept


@given(st.lists(_entries, max_size=40), st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_batches_of_any_size_make_the_rows_that_single_records_make(entries: list[Entry], sizes: list[int]) -> None:
    records = as_records(_valid(entries))
    singly, batched, built = empty_state(), empty_state(), empty_built_state()
    try:
        for record in records:
            apply(singly, record)
        rest: list[Record] = records
        while rest:
            size = sizes[len(rest) % len(sizes)]
            fold(batched, rest[:size])
            # Each time as after a restart: what has been seen is in the tables.
            Building(built, len(records)).fold(rest[:size])
            rest = rest[size:]
        assert dump(singly) == dump(batched)
        building = Building(built, len(records))
        while building.unfinished:
            building.finish_one()
        assert dump_all(built) == dump_all(batched)
        for state in (singly, batched):
            assert state.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            _check_tallies(state)
        _check_delivery_states(singly)
    finally:
        singly.close()
        batched.close()
        built.close()


def _check_tallies(conn: sqlite3.Connection) -> None:
    """They are what counting would give, without a row for what there is none of."""
    counted = conn.execute(
        "SELECT 'deliveries', state, '', count(*) FROM webhook_deliveries GROUP BY state "
        "UNION SELECT 'tasks', state, '', count(*) FROM tasks GROUP BY state "
        "UNION SELECT 'attempts', outcome, coalesce(category, ''), count(*) FROM task_attempts "
        "WHERE outcome IS NOT NULL GROUP BY outcome, category"
    ).fetchall()
    assert sorted(map(tuple, conn.execute("SELECT * FROM tallies"))) == sorted(map(tuple, counted))
    counted = conn.execute(
        "SELECT pull, tenant, coalesce(route, ''), coalesce(repo_id, 0), not_before IS NOT NULL, count(*) FROM tasks "
        "WHERE state = 'queued' GROUP BY 1, 2, 3, 4, 5"
    ).fetchall()
    assert sorted(map(tuple, conn.execute("SELECT * FROM queue_sizes"))) == sorted(map(tuple, counted))


def _check_delivery_states(conn: sqlite3.Connection) -> None:
    """The rule of the design, told by SQL: the first by precedence among the newest replays of each route."""
    order = "running queued failed cancelled superseded completed".split()
    for row in conn.execute("SELECT * FROM webhook_deliveries"):
        states = [
            state
            for (state,) in conn.execute(
                "SELECT state FROM tasks t WHERE delivery_seq = ? AND replay = "
                "(SELECT max(replay) FROM tasks n WHERE n.delivery_seq = t.delivery_seq AND n.route = t.route)",
                (row["seq"],),
            )
        ]
        if states:
            assert row["state"] == min(states, key=order.index)
        else:
            assert row["state"] in ("received", "ignored")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (LATER, LATER),
        ("2027-01-15T10:00:00Z", LATER),
        ("2027-01-15T12:00:00.0+02:00", LATER),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00.000000Z"),
        ("garbage", None),
        ("", None),
        ("2027-01-15", None),
        ("2027-01-15T10:00:00", None),
        ("2027-W02-5T10:00:00.000000Z", None),
        ("2027-01-15T24:00:00.000000Z", None),
        ("2027-02-30T10:00:00.000000Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("2027-01-15T10:00:00.000000Z\n", None),
        ("٢٠٢٧-01-15T10:00:00.000000Z", None),
        (1_800_000_000, None),
        ([LATER], None),
    ],
)
def test_a_time_of_a_record_is_one_that_can_be_compared_or_none(
    conn: sqlite3.Connection, given: object, kept: str | None
) -> None:
    entries = [received("g1"), queued("g1"), moved("delayed", T, not_before=given, since=given)]
    fold(conn, as_records(entries))
    row = conn.execute("SELECT not_before, since FROM tasks").fetchone()
    assert tuple(row) == (kept, kept)


def test_a_lease_until_no_time_is_over_and_never_the_pools(conn: sqlite3.Connection) -> None:
    fold(conn, as_records([received("g1"), queued("g1"), claimed(lease_until="garbage")]))
    assert query.task(conn, T).lease_until == "2027-01-15T08:00:03.000000Z", "when it was claimed"
    fold(conn, as_records([moved("renewed", T)], first=4))
    assert query.task(conn, T).lease_until == "2027-01-15T08:00:04.000000Z"
