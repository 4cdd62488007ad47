"""covenq bench, and the client it measures with."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from covenq.cli import bench_client
from covenq.cli.bench_client import LoadPlan, LoadResult
from covenq.cli.commands.bench import Measurements, report_of
from tests.support.checkout import clean_env
from tests.support.requests import HOOK, SECRET, sign
from tests.support.serving import Served, serving

PLAN = LoadPlan("127.0.0.1", 1, SECRET, 20.0, connections=4, size=2000)


def test_bench_measures_says_what_it_means_and_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    words = ["bench", "--seconds", "0.2", "--connections", "4", "--json", "--data", str(data)]
    done = subprocess.run(
        [sys.executable, "-m", "covenq", *words],
        env=clean_env(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["accepted"] > 0 and report["missing"] == report["refused"] == 0
    for run in ("peak", "half"):
        figures = report[run]
        assert figures["accepts_per_s"] > 0
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["p99_9_ms"]
    assert report["sync"]["count"] >= 20 and 0 < report["sync"]["p50_ms"] <= report["sync"]["p99_ms"]
    assert report["peak"]["records_per_sync"] >= 1
    assert any("GitHub waits 10 s" in sentence for sentence in report["verdict"])
    assert any("are in the journal" in sentence for sentence in report["verdict"])
    assert list(data.iterdir()) == []


def outcome(rate: float, millis: float, **statuses: int) -> LoadResult:
    count = int(rate)
    found = {name.removeprefix("s"): number for name, number in statuses.items()} or {"202": count}
    return LoadResult(1.0, found, [millis] * count)


def verdict(measured: Measurements, kind: str = "ext4") -> tuple[bool, str]:
    report = report_of(measured, where="/data", kind=kind, connections=64, size=8192)
    return report["ok"], " ".join(report["verdict"])


def test_the_verdict_follows_from_the_figures() -> None:
    good = Measurements([1.0, 2.0, 3.0], outcome(1000, 20.0), outcome(500, 4.0), 1500, 1500, 12)
    ok, words = verdict(good)
    assert ok
    assert "Syncs look real: half of them within 2.00 ms." in words
    assert "1,000 deliveries a second" in words and "take 4 ms or less." in words
    assert "All 1,500 accepted deliveries are in the journal." in words
    assert "memory" in verdict(good, "tmpfs")[1]
    assert "did not" in verdict(replace(good, syncs=[0.001] * 3))[1]
    assert "disk is slow" in verdict(replace(good, syncs=[80.0] * 3))[1]
    assert "which is slow" in verdict(replace(good, half=outcome(500, 1500.0)))[1]
    assert "counts them as failed" in verdict(replace(good, half=outcome(500, 11_000.0)))[1]
    ok, words = verdict(replace(good, found=1499))
    assert not ok and "1 of 1,500 accepted deliveries are not in the journal" in words
    ok, words = verdict(replace(good, peak=outcome(1000, 20.0, s202=990, s503=10)))
    assert not ok and "10 were refused" in words
    nothing = LoadResult(1.0, {}, [])
    ok, words = verdict(Measurements([1.0], nothing, nothing, 0, 0, None))
    assert not ok and "Nothing was accepted" in words and "All 0" not in words
    assert not verdict(replace(good, half=nothing))[0]


@pytest.mark.parametrize("size", [1000, 8192, 100_000])
def test_requests_are_signed_distinct_and_of_the_size_asked_for(size: int) -> None:
    made = bench_client.requests(5, replace(PLAN, size=size))
    assert len({len(one) for one in made}) == 1
    bodies, guids = set(), set()
    for one in made:
        head, _, body = one.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert len(body) == int(headers["Content-Length"]) == size
        assert headers["X-Hub-Signature-256"] == sign(body)
        assert json.loads(body)["repository"]["full_name"] == "octo/hello"
        bodies.add(body)
        guids.add(headers["X-GitHub-Delivery"])
    assert len(bodies) == len(guids) == 5


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:  # type: ignore[misc]
    with serving(tmp_path_factory.mktemp("bench") / "data") as faces:
        yield faces


def test_what_the_client_counts_is_what_the_journal_has(served: Served) -> None:
    before = served.journal.head().seq
    plan = replace(PLAN, port=served.port)
    found = bench_client.run(plan, 50)
    assert (found.accepted, found.statuses) == (50, {"202": 50})
    assert len(found.millis) == 50 and found.millis == sorted(found.millis) and found.seconds > 0
    kinds = [record.kind for record in served.journal.read(before)]
    assert kinds.count("delivery.received") == 50
    assert next(iter(served.journal.read(before))).data["hook"] == HOOK


def test_at_a_given_rate_no_more_is_sent_than_that(served: Served) -> None:
    found = bench_client.run(replace(PLAN, port=served.port, seconds=0.5, rate=40.0), 1000)
    assert found.accepted == 20
    assert found.seconds > 0.4


def test_refusals_are_counted_and_not_called_accepted(served: Served) -> None:
    found = bench_client.run(replace(PLAN, port=served.port, secret="a guess"), 5)
    assert (found.accepted, found.statuses) == (0, {"401": 5})


def test_a_server_that_is_not_there_is_an_error(served: Served) -> None:
    with pytest.raises(OSError, match="refused"):
        bench_client.run(replace(PLAN, port=1), 5)


def test_the_status_is_read_only_of_a_whole_answer() -> None:
    whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello"
    assert [bench_client._status(whole[:cut]) for cut in range(len(whole) + 1)] == [None] * len(whole) + ["202"]
