"""GET /metrics: every value is true, documented, bounded and cheap, and a scrape never fails for what can't be read."""

from __future__ import annotations

import re
import sqlite3
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from covenq.github.events import EVENTS
from covenq.github.samples import SAMPLES
from covenq.http.counters import AcceptedCounts
from covenq.http.metric_table import METRICS
from covenq.http.metrics import Metrics
from covenq.state import query
from journal.histogram import Histogram
from tests.support import chosen_engine
from tests.support.checkout import ROOT
from tests.support.requests import issue, new_guid
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

ListenerStats = dict[str, dict[tuple[str, ...], float]]


def scrape(served: Served) -> ListenerStats:
    """Name → label values, in the order of the labels' names → sample."""
    answer = served.ask("/metrics")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: ListenerStats = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            key = tuple(value for _, value in sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, {}), sample
            found[sample.name][key] = sample.value
    return found


def one(stats: ListenerStats, name: str, *labels: str) -> float:
    return stats[name][labels]


def folded(served: Served) -> ListenerStats:
    head = served.journal.head().seq
    assert served.storage.fold.wait_for(head, 30.0)
    return scrape(served)


def test_the_webhook_is_counted_as_it_answers(data: Path) -> None:
    with serving(data) as served:
        guid = new_guid()
        served.post("issues", issue(1), guid)
        served.post("issues", issue(1), guid)
        served.post("issues", issue(2), guid)
        served.post("ping", {"zen": "x"})
        served.post("made_up_by_a_secrets_holder", {})
        served.post("issues", issue(3), secret="wrong")
        served.request("POST", "/webhook", b"{}")
        served.request("POST", "/elsewhere", b"{}")
        stats = scrape(served)
        accepted = stats["covenq_webhook_accepted_total"]
        assert accepted == {("issues",): 1, ("ping",): 1, ("other",): 1}
        assert one(stats, "covenq_webhook_duplicates_total") == 1
        refused = {
            ("delivery_conflict",): 1,
            ("signature_wrong",): 1,
            ("content_type_unsupported",): 1,
            ("path_unknown",): 1,
        }
        assert stats["covenq_webhook_refused_total"] == refused
        answers = {("200",): 2, ("202",): 2, ("401",): 1, ("404",): 1, ("409",): 1, ("415",): 1}
        assert stats["covenq_webhook_answers_total"] == answers


def test_the_journal_and_the_state_are_told_as_they_are(data: Path) -> None:
    with serving(data) as served:
        for number in range(3):
            served.post("issues", issue(number))
        served.post("star", {"action": "created"})
        served.ask("/api/v1/pause", {"what": "worker"})
        stats = folded(served)
        assert one(stats, "covenq_journal_head_seq") <= served.journal.head().seq
        assert one(stats, "covenq_journal_sync_seconds_count") == one(stats, "covenq_journal_batch_records_count")
        assert one(stats, "covenq_journal_batch_records_sum") == one(stats, "covenq_journal_head_seq")
        assert one(stats, "covenq_journal_sync_seconds_bucket", "+Inf") >= 4
        assert stats["covenq_deliveries"][("queued",)] == 3
        assert stats["covenq_deliveries"][("ignored",)] == 1
        assert stats["covenq_tasks"][("queued",)] == 3 and stats["covenq_tasks"][("failed",)] == 0
        assert 0 <= one(stats, "covenq_tasks_oldest_age_seconds", "queued") < 600
        assert stats["covenq_paused"] == {("worker",): 1}
        assert one(stats, "covenq_ready") == one(stats, "covenq_intake_open") == 1
        assert one(stats, "covenq_disk_free_bytes") == served.disk.free
        assert one(stats, "covenq_disk_reserve_bytes") == 64 << 20
        assert one(stats, "covenq_http_threads", "webhook") == 8
        assert one(stats, "covenq_http_connections", "api") >= 1
        assert one(stats, "covenq_http_threads_busy", "api") >= 1, "the one that answers this"
        assert one(stats, "process_open_fds") > 3
        served.disk.free = 0
        assert one(scrape(served), "covenq_intake_open") == 0


def test_how_long_what_waited_and_ran_is_told_by_route(data: Path) -> None:
    with serving(data, {"route": [{"name": "p", "match": "event:issues", "pull": True}]}, routes=False) as served:
        for number in range(3):
            served.post("issues", issue(number))
        eventually(lambda: len(served.ask("/api/v1/tasks").json["items"]) == 3)
        first = served.ask("/api/v1/claims", {"worker": "w", "max": 3, "wait_s": 10}).json
        claimed = [first, *first["more"]]
        done = [{"task": one["task"]["id"], "fence": one["fence"]} for one in claimed]
        served.ask("/api/v1/claims/completed", {"done": done[:2]})
        fence = {"fence": done[2]["fence"], "category": "exit"}
        assert served.ask(f"/api/v1/claims/{done[2]['task']}/fail", fence).status == 200
        stats = scrape(served)
    assert stats["covenq_task_wait_seconds_count"] == {("p",): 3}
    assert stats["covenq_attempt_seconds_count"] == {("completed", "p"): 2, ("failed", "p"): 1}
    buckets = stats["covenq_task_wait_seconds_bucket"]
    assert buckets["+Inf", "p"] == 3 and list(buckets.values()) == sorted(buckets.values())
    assert one(stats, "covenq_task_wait_seconds_sum", "p") < 60


def test_every_metric_is_in_the_answer_in_the_table_and_in_the_manual(data: Path) -> None:
    with serving(data) as served:
        served.post("issues", issue(1))
        eventually(lambda: one(scrape(served), "covenq_tasks", "queued") == 1)
        body = served.ask("/metrics").body.decode()
    told = set(re.findall(r"^# TYPE (covenq_\w+) ", body, re.MULTILINE))
    suffix = {"counter": "_total", "info": "_info"}
    if chosen_engine.url_of(data) is not None:
        assert "covenq_journal_index_backlog" not in told
        told.add("covenq_journal_index_backlog")
    assert told == {name + suffix.get(known.kind, "") for name, known in METRICS.items()}
    page = (ROOT / "man" / "covenq-http.7").read_text().replace("\\-", "-")
    section = page.partition(".SH GET /metrics")[2].partition(".SH ")[0]
    assert set(re.findall(r"covenq_\w+", section)) == told
    for name, known in METRICS.items():
        entry = re.search(rf"^\\fB{name}(?:_total|_info)?\\fR(?:\{{(.*?)\}})?\n(.*)$", section, re.MULTILINE)
        assert entry is not None, name
        assert tuple(filter(None, (entry[1] or "").split(", "))) == known.labels, name
        assert entry[2] == known.about, name


def test_what_cannot_be_read_is_absent_and_the_rest_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(data) as served:

        def broken() -> sqlite3.Connection:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(served.storage.readers, "reader", broken)
        stats = scrape(served)
        assert "covenq_deliveries" not in stats
        assert "covenq_fold_lag_records" in stats and "covenq_http_threads" in stats


def test_too_many_scrapes_at_once_are_refused_not_queued(data: Path) -> None:
    with serving(data) as served:
        resource = Metrics(served.routes.metrics.sources)
        free = resource._free
        while free.acquire(blocking=False):
            pass

        class Resp:
            def set_header(self, name: str, value: str) -> None: ...

        resp = Resp()
        resource.on_get(None, resp)  # type: ignore[arg-type]
        assert resp.status.startswith("503")  # type: ignore[attr-defined]


def test_a_scrape_asks_a_dozen_rows_however_many_deliveries_there_are(data: Path) -> None:
    """No table is scanned, by SQLite's own query plan."""
    with serving(data) as served:
        conn = served.storage.readers.reader()
        asked: list[str] = []
        conn.set_trace_callback(asked.append)
        query.counts(conn)
        query.oldest(conn)
        query.attempts_ended(conn)
        conn.set_trace_callback(None)
        assert len(asked) >= 5
        for sql in asked:
            for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}"):
                assert not row["detail"].startswith("SCAN") or "tallies" in row["detail"], (sql, row["detail"])


def test_counts_of_ended_threads_stay(tmp_path: Path) -> None:
    accepted = AcceptedCounts()
    threads = [
        threading.Thread(target=lambda: [accepted.add(202, False, "push") for _ in range(1000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted.add(202, False, "x" * 1000)
    assert sorted(accepted.counts().values()) == [1, 4000]


def test_events_that_covenq_has_samples_of_are_known_by_name() -> None:
    assert set(SAMPLES) <= EVENTS


def test_a_histogram_puts_each_value_below_its_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(value)
    assert histogram.read() == ((1.0, 2.0), (2, 2, 1), 7.5)
