"""Which payloads go: what is finished and old enough, and which segments a run that comes by itself takes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from covenq.config.load import Config, build
from covenq.config.retention import Retention
from covenq.errors import ConfigError
from covenq.operate.maintain import retention
from covenq.operate.maintain.retention import Segment
from covenq.state.fold import fold
from journal.records import Entry
from tests.support.records import START, as_records, empty_state, moved, note, of, queued, received

DAY = 86_400.0


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    state = empty_state()
    yield state
    state.close()


def look(
    conn: sqlite3.Connection, *, age: float, now: float, all: bool = True, sizes: list[tuple[int, int]] | None = None
) -> list[Segment]:
    return list(retention.droppable(conn, sizes or [(1, 1000)], Retention(age), now, all=all))


def test_only_what_is_finished_and_old_enough_goes(conn: sqlite3.Connection) -> None:
    entries = [
        received("ignored"), note("ignored", "ignored", reason="no_route"),
        received("waits"), queued("waits"),
        received("done"), queued("done"), moved("completed", of("done")),
        received("failed"), queued("failed"), moved("failed", of("failed"), category="exit"),
        received("unrouted"),
        received("replayed"), queued("replayed"), moved("completed", of("replayed")), queued("replayed", replay=1),
        received("gone"), note("redacted", "gone", drops=[[16, 16]], about=True),
        received("young"), note("ignored", "young", reason="no_route"),
    ]  # fmt: skip
    fold(conn, as_records(entries))
    # A record a second: "young" was received at START + 18, its cutoff is at START + 18.
    [found] = look(conn, age=100.0, now=START + 118)
    assert found.pairs == [[1, 1], [5, 8]], "what has no payload, or none any more, breaks no stretch"
    assert (found.deliveries, found.kept) == (3, 4)
    [all_old] = look(conn, age=0.0, now=START + 100)
    assert all_old.pairs == [[1, 1], [5, 8], [18, 18]]
    assert look(conn, age=100.0, now=START + 50) == []
    assert list(retention.droppable(conn, [(1, 1000)], Retention(), START + DAY, all=True)) == []


def test_results_go_with_the_payload_of_their_delivery_and_with_no_other(conn: sqlite3.Connection) -> None:
    """Where the journal has them: they lie between what goes and what stays."""

    def completed(guid: str) -> Entry:
        return moved("completed", of(guid))._replace(payload=b"result")

    def claimed(guid: str) -> Entry:
        return moved("claimed", of(guid), attempt=1, worker="w")

    entries = [
        received("stays"), queued("stays"), queued("stays", route="other"),
        received("a"), queued("a"), claimed("stays"), completed("stays"),
        claimed("a"), note("noted", "a"), received("b"), queued("b"), received("young"), completed("a"),
        claimed("b"), moved("completed", of("b")),
    ]  # fmt: skip
    fold(conn, as_records(entries))
    [found] = look(conn, age=100.0, now=START + 200)
    assert found.pairs == [[4, 6], [8, 10], [13, 13]], "not 7, which is of what stays"
    conn.execute("UPDATE task_attempts SET result_seq = NULL")
    [found] = look(conn, age=100.0, now=START + 200)
    assert found.pairs == [[4, 10]]


def test_a_late_change_of_a_task_keeps_its_payload(conn: sqlite3.Connection) -> None:
    fold(conn, as_records([received("g1"), queued("g1"), moved("failed", of("g1"), category="exit")]))
    assert look(conn, age=10.0, now=START + 12.5) == []
    assert look(conn, age=10.0, now=START + 13.5)


def test_segments_are_looked_at_one_by_one(conn: sqlite3.Connection) -> None:
    entries: list[Entry] = []
    for number in range(6):
        entries += [received(f"g{number}"), note("ignored", f"g{number}", reason="no_route")]
    fold(conn, as_records(entries))
    found = look(conn, age=1.0, now=START + DAY, sizes=[(1, 500), (5, 500), (9, 500)])
    assert [(one.first, one.pairs) for one in found] == [(1, [[1, 3]]), (5, [[5, 7]]), (9, [[9, 11]])]
    [entry] = retention.entries(found, "test")
    assert (entry.subject, entry.kind) == ("ops.retention", "journal.dropped")
    assert entry.data == {"drops": [[1, 3], [5, 7], [9, 11]], "about": False, "reason": "retention", "by": "test"}


def test_many_stretches_become_records_of_a_bounded_size() -> None:
    segment = Segment(1, 1, pairs=[[seq, seq] for seq in range(1, 2 * retention.PAIRS_MAX + 2)])
    made = retention.entries([segment], None)
    assert [len(entry.data["drops"]) for entry in made] == [retention.PAIRS_MAX, retention.PAIRS_MAX, 1]


@pytest.mark.parametrize(
    ("segment", "active", "taken"),
    [
        (Segment(1, 8000, deliveries=1, payload_bytes=1000, kept=9, oldest="b"), True, True),
        (Segment(1, 8000, deliveries=1, payload_bytes=999, kept=9, oldest="b"), False, False),
        (Segment(1, 8000, deliveries=1, payload_bytes=1, kept=0, oldest="b"), False, True),
        (Segment(1, 8000, deliveries=1, payload_bytes=1, kept=0, oldest="b"), True, False),
        (Segment(1, 8000, deliveries=1, payload_bytes=1, kept=9, oldest="a"), True, True),
        (Segment(1, 8000, deliveries=0, payload_bytes=0, kept=0, oldest=None), False, False),
    ],
    ids=["an eighth", "too little", "the last of it", "more will come", "overdue", "nothing"],
)
def test_a_run_by_itself_takes_what_is_worth_it(segment: Segment, active: bool, taken: bool) -> None:
    assert segment.worth_rewriting(active=active, late="aa") is taken


def test_attempts_of_final_tasks_expire(conn: sqlite3.Connection, tmp_path: Path) -> None:
    fold(conn, as_records([received("g1"), queued("g1"), moved("completed", of("g1")), received("g2"), queued("g2")]))
    assert list(retention.expired_attempts(conn, tmp_path, Retention(None, 0.0), START + DAY)) == []
    for name in (of("g1"), of("g2"), "not-ours", "t" + "0" * 24):
        (tmp_path / "attempts" / name).mkdir(parents=True)
    found = retention.expired_attempts(conn, tmp_path, Retention(None, 60.0), START + DAY)
    assert list(found) == [of("g1")]
    assert list(retention.expired_attempts(conn, tmp_path, Retention(60.0, None), START + DAY)) == []


def test_a_retention_of_a_thousand_years_drops_nothing(conn: sqlite3.Connection, tmp_path: Path) -> None:
    fold(conn, as_records([received("g1"), queued("g1"), moved("completed", of("g1"))]))
    (tmp_path / "attempts" / of("g1")).mkdir(parents=True)
    policy = Retention(400_000 * DAY, 400_000 * DAY)
    assert list(retention.expired_attempts(conn, tmp_path, policy, START + DAY)) == []
    assert list(retention.droppable(conn, [(1, 1000)], policy, START + DAY, all=True)) == []


def test_the_policy_is_read_and_checked() -> None:
    assert build({}, None, {}).retention == Retention(None, None) == Config().retention
    given = build({"retention": {"payloads": "30d", "attempts": "12h"}}, None, {}).retention
    assert given == Retention(30 * DAY, DAY / 2)
    with pytest.raises(ConfigError, match=r"retention.payloads: .*duration"):
        build({"retention": {"payloads": "a while"}}, None, {})
    with pytest.raises(ConfigError, match="did you mean payloads"):
        build({"retention": {"payload": "30d"}}, None, {})
