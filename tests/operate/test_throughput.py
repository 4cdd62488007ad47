"""Counts by the minute, what is running and what is stuck: from folded records, and through both sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from covenq.client.local import LocalSource
from covenq.client.open import open_source
from covenq.client.remote import RemoteSource
from covenq.config import load as configuration
from covenq.errors import UsageError
from covenq.intake.refusal_log import Refusal, Refusals
from covenq.model import at_text
from covenq.operate.inspect import status
from covenq.operate.inspect.stuck import stuck
from covenq.operate.inspect.throughput import per_minute, running
from covenq.operate.maintain import verify_note
from covenq.paths import VERIFIED_NAME
from covenq.state.fold import fold
from journal.records import Damage, Head
from journal.reports import VerifyReport
from tests.support import chosen_engine
from tests.support.journals.chosen import config_in
from tests.support.records import START, as_records, empty_state, moved, of, queued, received
from tests.support.requests import issue
from tests.support.serving import ROUTE, serving

CONFIG = configuration.build({"route": [ROUTE]}, None, {})


def test_each_minute_counts_what_came_and_ended_in_it() -> None:
    conn = empty_state()
    # A record a second: forty issues with their tasks are eighty seconds, then the ends.
    entries = [one for n in range(40) for one in (received(f"i{n}"), queued(f"i{n}"))]
    for n in range(12):
        entries.append(moved("claimed", of(f"i{n}"), attempt=1, worker="w"))
        entries.append(moved("failed" if n < 3 else "completed", of(f"i{n}"), attempt=1, category="exit"))
    fold(conn, as_records(entries))
    log = [Refusal(at, "x", 400) for at in (at_text(START + 61), "nonsense", at_text(START - 1))]
    found = per_minute(conn, minutes=3, now=START + 130, log=log, refused={at_text(START + 61)[:16]: 7})
    assert found.at == "2027-01-15T08:00:00Z"
    assert sum(found.accepted) == 40
    assert found.accepted[0] in (29, 30)
    assert sum(found.completed) == 9
    assert sum(found.failed) == 3
    assert found.failed[1] == 3, "the ends begin in the second minute"
    assert found.refused == [0, 7, 0], "a log that a flood ran through knows less than the process"
    assert per_minute(conn, minutes=1, now=START + 3600).accepted == [0]
    for wrong in (0, 721):
        with pytest.raises(UsageError):
            per_minute(conn, minutes=wrong, now=START)


def test_ends_are_kept_by_the_minute_for_a_day() -> None:
    conn = empty_state()
    for minute in ("2027-01-15T08:00", "2027-01-15T09:00", "2027-01-16T08:30"):
        conn.execute("INSERT INTO ended VALUES (?, 'completed', 1)", (minute,))
    kept = [row[0] for row in conn.execute("SELECT minute FROM ended ORDER BY 1")]
    assert kept == ["2027-01-15T09:00", "2027-01-16T08:30"]


def test_what_runs_too_long_or_waits_far_longer_than_others_is_stuck() -> None:
    conn = empty_state()
    entries = [received("slow"), queued("slow"), moved("claimed", of("slow"), attempt=1, worker="w")]
    entries += [received("late"), queued("late")]
    fold(conn, as_records(entries))
    (one,) = running(conn)
    assert (one.task, one.route, one.repo, one.timeout_s) == (of("slow"), "fix", "octo/hello", 600.0)
    assert stuck(conn, START + 300) == []
    assert stuck(conn, START + 650) == [], "ending it takes a while"
    assert [found.task for found in stuck(conn, START + 700)] == [of("slow")]
    found = stuck(conn, START + 4000)
    assert [(one.task, one.state) for one in found] == [(of("slow"), "running"), (of("late"), "queued")]
    assert "timeout of 600 s" in found[0].why
    assert "worker" in found[1].why


def test_refusals_are_counted_by_the_minute() -> None:
    now = [START]
    refusals = Refusals(None, clock=lambda: now[0])
    for _ in range(3):
        refusals.note("signature_wrong", 401, "no")
    now[0] += 60
    refusals.note("signature_wrong", 401, "no")
    assert refusals.minutes() == {"2027-01-15T08:00": 3, "2027-01-15T08:01": 1}


def test_both_sources_tell_the_same(data: Path) -> None:
    with serving(data) as served:
        served.post("issues", issue(1))
        served.post("issues", issue(2), secret="wrong")
        with open_source(data) as remote:
            assert isinstance(remote, RemoteSource)
            told = remote.throughput(5)
            assert (sum(told.accepted), sum(told.refused)) == (1, 1)
            status = remote.status()
    if chosen_engine.url_of(data) is None:  # the sizes of segments are told of files
        assert status.segments[0].first == 1
        assert status.segments[0].bytes > 0
    offline = LocalSource(data, config_in(data, CONFIG))
    assert sum(offline.throughput(5).accepted) == 1
    assert sum(offline.throughput(5).refused) == 1
    with pytest.raises(UsageError):
        offline.throughput(0)


def test_a_verification_is_remembered(tmp_path: Path) -> None:
    assert verify_note.read(tmp_path, "file") is None
    finding = Damage("torn", "1.jsonl", 5, 2, None, "a\x1bb")
    verify_note.write(tmp_path, VerifyReport(7, Head(6, "a" * 64), [finding]), at_text(START), 1.25, "file")
    found = verify_note.read(tmp_path, "file")
    assert found is not None
    assert (found.ok, found.findings, found.records, found.seq) == (False, 1, 7, 6)
    assert found.first == str(finding)
    assert verify_note.read(tmp_path, "postgres") is None, "it is of another journal"
    noted = (tmp_path / VERIFIED_NAME).read_bytes()
    (tmp_path / VERIFIED_NAME).write_bytes(noted.replace(b'"file"', b"null"))
    assert verify_note.read(tmp_path, "postgres") is not None, "an older covenq's"
    for broken in (b"[]", b"{", b'{"at": 1}'):
        (tmp_path / VERIFIED_NAME).write_bytes(broken)
        assert verify_note.read(tmp_path, "file") is None


def test_summaries_of_nothing_are_none() -> None:
    assert status.batch_sizes(()) is None
    assert status.sync_times(()) is None
    assert status.batch_sizes((1, 9, 3)) == status.BatchSizes(count=3, median=3, largest=9)
    found = status.sync_times([0.001, 0.002, 0.1, 3.0])
    assert found is not None
    assert (found.count, found.median, found.p99, found.slowest) == (4, 100.0, 3000.0, 3000.0)
    assert dict(zip([*found.bounds, None], found.counts, strict=True)) == {
        0.5: 0, 1.0: 1, 2.0: 1, 5.0: 0, 10.0: 0, 20.0: 0, 50.0: 0, 100.0: 1, 500.0: 0, None: 1,
    }  # fmt: skip
