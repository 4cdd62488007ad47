"""covenq bench, and the client it measures with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from covenq.cli import bench_client, processor_time
from covenq.cli.bench_client import LoadPlan, LoadResult
from covenq.cli.bench_deliveries import load_for, scratch_config
from covenq.cli.bench_limit import Usage, limit_of
from covenq.cli.bench_report import Measurements, Setting, report_of
from covenq.config.load import build
from tests.support.checkout import clean_env
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.receiver import Receiver, receiving
from tests.support.requests import HOOK, SECRET, sign
from tests.support.serving import Served, serving
from tests.support.small_disk import mounted
from tests.support.waiting import eventually

PLAN = LoadPlan("127.0.0.1", 1, SECRET, 20.0, connections=4, size=2000)


def run(*words: str | Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[bytes]:
    """The real command, measuring for as short as it can."""
    argv = [sys.executable, "-m", "covenq", "bench", "--seconds", "0.2", "--connections", "4", *map(str, words)]
    return subprocess.run(argv, env=clean_env(**env), capture_output=True, check=False, timeout=timeout)


def test_bench_measures_says_what_it_means_and_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    done = run("--json", "--data", data)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["accepted"] > 0 and report["missing"] == report["refused"] == 0
    for name in ("peak", "half"):
        figures = report[name]
        assert figures["accepts_per_s"] > 0
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["p99_9_ms"]
    assert report["sync"]["count"] >= 20 and 0 < report["sync"]["p50_ms"] <= report["sync"]["p99_ms"]
    peak, fold = report["peak"], report["fold"]
    assert peak["syncs_per_s"] > 0 and 0 < peak["sync_p50_ms"] <= peak["sync_p99_ms"]
    assert 1 <= peak["deliveries_per_sync"] <= peak["records_per_sync"]
    assert fold["records_per_s"] > 0 and fold["lag"] >= 0 and fold["caught_up_s"] is not None
    assert report["processor"]["cores"] >= 1 and report["processor"]["client"] >= 0
    assert report["limit"]["what"] in ("sync", "processor", "fold", "network")
    assert report["limit"]["sentence"] in report["verdict"] and "limits" in report["limit"]["sentence"]
    assert any("GitHub waits 10 s" in sentence for sentence in report["verdict"])
    assert any("are in the journal" in sentence for sentence in report["verdict"])
    assert (report["routes"], report["tasks_per_delivery"], report["config"]) == (0, 1.0, None)
    assert "No routes are configured" in report["verdict"][-1]
    assert list(data.iterdir()) == []


def test_the_users_routes_are_measured_and_nothing_of_them_is_run_sent_or_written(tmp_path: Path) -> None:
    data, ran = tmp_path / "data", tmp_path / "ran"
    data.mkdir()
    with receiving(Receiver()) as receiver:
        (data / "covenq.toml").write_text(
            f"""
            [server]
            bind = "127.0.0.1:1"
            [metrics]
            bind = "127.0.0.1:2"
            [github]
            hooks = ["17"]
            webhook_secrets = [{{ name = "app", file = "{tmp_path}/no-such-file" }}]
            [[route]]
            name = "command"
            match = "event:pull_request action:labeled label:fix* repo:octo/hello -sender:*bot"
            run = ["touch", "{ran}"]
            env = ["HOME"]
            key = "{{repo}}#{{number}}"
            debounce = "500ms"
            limits = {{ memory = "64MiB" }}
            retry = {{ max = 2, on = ["exit"] }}
            [[route]]
            name = "forwarded"
            match = "repo:octo/hello payload.pull_request.draft:true"
            forward = "{receiver.url}"
            sign = "app"
            else = "of no \\"interest\\""
            [[route]]
            name = "never"
            match = "event:pull_request event:push"
            pull = true
            """
        )
        kept = (data / "covenq.toml").read_bytes()
        done = run("--json", "--data", data)
        assert receiver.seen == []
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["ok"] is True and report["refused"] == 0
    assert (report["routes"], report["unmatched_routes"]) == (3, ["never"])
    assert report["config"] == str(data / "covenq.toml")
    assert report["tasks_per_delivery"] >= 1
    assert "none of which was run or forwarded" in " ".join(report["verdict"])
    assert "would match never" in report["verdict"][-1]
    assert not ran.exists()
    assert [one.name for one in data.iterdir()] == ["covenq.toml"]
    assert (data / "covenq.toml").read_bytes() == kept


def test_beside_a_daemon_its_routes_are_measured_and_its_journal_is_left_alone(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    config = tmp_path / "elsewhere.toml"
    config.write_text('[[route]]\nname = "only"\nmatch = "event:push"\nrun = ["false"]\n')
    daemon = make_daemon(config)
    daemon.post("push", {"ref": "refs/heads/main"})
    before = records(daemon.data, "delivery.received")
    done = run("--json", "--data", daemon.data)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert (report["config"], report["routes"], report["tasks_per_delivery"]) == (str(config), 1, 1.0)
    assert len(before) == 1 and records(daemon.data, "delivery.received") == before
    assert not list(daemon.data.glob(".bench-*"))


def test_a_configuration_that_can_t_be_used_is_named(tmp_path: Path) -> None:
    config = tmp_path / "covenq.toml"
    config.write_text('[[route]]\nname = "a"\n')
    done = run("--data", tmp_path, "--config", config)
    assert done.returncode == 2
    assert b"route 'a'.run" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["covenq.toml"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_neither_a_directory_nor_a_process(tmp_path: Path, number: int) -> None:
    argv = [sys.executable, "-m", "covenq", "bench", "--seconds", "60", "--connections", "2", "--data", str(tmp_path)]
    with subprocess.Popen(argv, env=clean_env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        eventually(lambda: list(tmp_path.glob(".bench-*/data/journal/*.jsonl")), timeout=60)
        assert any(str(tmp_path) in words for words in _command_lines(running.pid)) or not Path("/proc/1").exists()
        running.send_signal(number)
        assert running.wait(60) == 130
    assert list(tmp_path.iterdir()) == []
    eventually(lambda: not any(str(tmp_path) in words for words in _command_lines(running.pid)), timeout=30)


def _command_lines(but: int) -> list[str]:
    """Of every process but that one, as far as the system shows them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if entry.parent.name != str(but):
                found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_without_room_it_says_how_much_it_wants_and_writes_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 8) as disk:
        done = run("--data", disk)
        assert done.returncode == 1
        assert b"there is no room for a measurement" in done.stderr and b"MiB are wanted" in done.stderr
        assert b"--seconds" in done.stderr
        assert list(disk.iterdir()) == []


USED = Usage(
    seconds=4.0,
    cores=4,
    connections=64,
    accepted=8000,
    syncs=400,
    sync_alone_s=0.001,
    client_cpu_s=0.4,
    daemon_cpu_s=1.2,
    follower_cpu_s=0.8,
    machine_cpu_s=2.8,
    appended=16_000,
    folded=15_800,
)
"""Of four seconds the disk syncs for 10 %, the daemon works for 30 %, and of four cores 17 % are busy: nothing limits."""


@pytest.mark.parametrize(
    ("used", "what", "close", "words"),
    [
        (USED, "network", [], ["nothing was busy for even half", "of 64 connections waits", "--connections"]),
        (replace(USED, connections=1), "network", [], ["each connection waits for its answer"]),
        (
            replace(USED, sync_alone_s=0.009),
            "sync",
            [],
            ["100 syncs a second", "20.0 deliveries", "90% of the time", "9.00 ms", "A faster disk"],
        ),
        (replace(USED, sync_alone_s=0.012, syncs=8000), "sync", [], ["each for one delivery", "100% of the time"]),
        (
            replace(USED, daemon_cpu_s=3.8),
            "processor",
            [],
            ["kept one core 95% busy", "Faster cores would help; more than the 4"],
        ),
        (
            replace(USED, cores=2, machine_cpu_s=7.6, daemon_cpu_s=3.4, follower_cpu_s=2.8, client_cpu_s=1.0),
            "processor",
            ["sync"],
            [
                "the 2 cores were 95% busy",
                "the daemon 0.8, the fold 0.7",
                "Another core",
                "Close behind: the disk's sync",
            ],
        ),
        (
            replace(USED, cores=2, machine_cpu_s=8.0),
            "processor",
            [],
            ["100% busy", "all else 1.4", "Other programs took 70%", "measure again"],
        ),
        (replace(USED, cores=1, machine_cpu_s=3.9), "processor", [], ["the one core was 98% busy"]),
        (replace(USED, client_cpu_s=3.9), "network", [], ["busy for 98% of the time", "could take more"]),
        (
            replace(USED, folded=9_600),
            "fold",
            [],
            ["of 4,000 records a second it folded 2,400", "1.6 s behind after 4.0 s", "fewer tasks a delivery"],
        ),
        (
            replace(USED, folded=9_600, cores=2, machine_cpu_s=7.2),
            "fold",
            ["processor"],
            ["The fold limits", "Close behind: the processor (90%)."],
        ),
        (
            replace(USED, daemon_cpu_s=None, follower_cpu_s=None, machine_cpu_s=None),
            "processor",
            [],
            ["Probably the processor", "doesn't show"],
        ),
        (
            replace(USED, daemon_cpu_s=None, follower_cpu_s=None, machine_cpu_s=None, sync_alone_s=0.008),
            "sync",
            [],
            ["80% of the time"],
        ),
        (replace(USED, seconds=0.0, accepted=0, syncs=0, appended=0, folded=0), "network", [], ["nothing was busy"]),
    ],
)
def test_what_limits_follows_from_the_numbers(used: Usage, what: str, close: list[str], words: list[str]) -> None:
    if what == "processor" and close == ["sync"]:
        used = replace(used, sync_alone_s=0.0085)
    limit = limit_of(used)
    assert (limit["what"], limit["close"]) == (what, close), limit
    assert all(word in limit["sentence"] for word in words), limit["sentence"]


def test_processor_time_is_that_of_a_process_and_of_its_children() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system doesn't show it")
    busy = "import time\nwhile time.process_time() < 0.1: pass\nprint(1, flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alone, below = processor_time.cpu_s(child.pid), processor_time.children_cpu_s(os.getpid())
        whole = processor_time.machine_cpu_s()
        assert alone is not None and below is not None
        assert 0 < alone <= below + 0.01
        assert whole is None or alone <= whole
        child.communicate(b"\n")
    assert processor_time.cpu_s(child.pid) is None
    assert processor_time.cores() >= 1


def test_a_container_s_quota_is_all_the_processors_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor_time, "CPU_MAX", tmp_path / "cpu.max")
    there = processor_time.cores()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert processor_time.cores() == there
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert processor_time.cores() == 1
    assert processor_time.machine_cpu_s() is None


def test_the_fold_may_rest_but_not_stay_behind() -> None:
    assert replace(USED, folded=14_100).kept_up  # 475 ms
    assert not replace(USED, folded=13_900).kept_up
    assert replace(USED, seconds=0.2, folded=0).kept_up  # too short to tell
    assert replace(USED, seconds=60.0, folded=14_500).kept_up  # under a tenth
    assert not replace(USED, seconds=60.0, folded=14_300).kept_up


@pytest.mark.parametrize(
    "match",
    [
        "event:push",
        "event:issues,pull_request action:opened",
        "event:issues action:labeled label:coven:*",
        "event:workflow_run ref:main",
        "event:push ref:refs/heads/release/*",
        "event:issue_comment sender:octocat repo:Octo/Hello",
        "repo_id:42 installation:7.. number>100",
        "hook:99 owner:octo",
        "event:pull_request payload.pull_request.base.ref:main payload.pull_request.labels.name:urgent",
        "event:check_* -event:check_suite",
        "target:release",
        "hello",
        "-event:push -repo:octo/*",
        "size>50000",
    ],
)
def test_a_delivery_is_made_up_for_whatever_a_route_asks(match: str) -> None:
    if match == "size>50000":
        size = 60_000
    elif match == "hello":
        match, size = "lantern", None
    else:
        size = None
    config = build({"route": [{"name": "one", "match": match, "run": ["false"]}]}, None, {})
    load = load_for(config, size)
    assert load.unmatched == () and load.tasks == 1.0
    assert (len(load.templates) == 32 and len({one.body for one in load.templates}) > 1) or "number" in match
    assert "false" not in load.config and "pull = true" in load.config
    for one in load.templates:
        assert one.body.isascii() and "0" * 32 in one.body and len(one.body) >= (size or 0)


def test_the_bench_s_routes_match_and_schedule_as_the_user_s_do() -> None:
    texts = [
        {"name": "a", "match": 'event:push "quoted words"', "run": ["secret-program", "{payload}"], "timeout": "90s"},
        {
            "name": "b",
            "match": "event:issues",
            "forward": "https://example.org/hook",
            "key": "{repo}#{number}",
            "debounce": "1500ms",
            "supersede": "running",
            "order": "newest",
            "priority": 7,
            "retry": {"max": 3, "backoff": "1s", "cap": "30d", "on": ["exit", "timeout"]},
            "else": 'a \\ and a "quote", é',
        },
        {"name": "c", "match": "-event:push", "pull": True},
    ]
    users = build({"route": texts, "github": {"hooks": ["5"], "twins": "refuse"}}, None, {})
    bench = build(tomllib.loads(scratch_config(users)), None, {})
    assert (bench.hooks, bench.twins, bench.threads) == (users.hooks, users.twins, users.threads)
    for theirs, ours in zip(users.routes, bench.routes, strict=True):
        assert (ours.kind, ours.run, ours.forward) == ("pull", (), None)
        for name in ("name", "match", "filter", "key", "timeout_s", "retry", "otherwise", "scheduling"):
            assert getattr(ours, name) == getattr(theirs, name), name


def outcome(rate: float, millis: float, **statuses: int) -> LoadResult:
    count = int(rate)
    found = {name.removeprefix("s"): number for name, number in statuses.items()} or {"202": count}
    return LoadResult(1.0, found, [millis] * count)


SETTING = Setting("/data", "ext4", 64, 8192, None, 0, ())


def verdict(measured: Measurements, kind: str = "ext4", **setting: Any) -> tuple[bool, str]:
    report = report_of(measured, replace(SETTING, filesystem=kind, **setting))
    return report["ok"], " ".join(report["verdict"])


def test_the_verdict_follows_from_the_figures() -> None:
    good = Measurements(
        [1.0, 2.0, 3.0], outcome(1000, 20.0), outcome(500, 4.0), USED, 1.5, 9.0, 200, 0.1, 1500, 1500, 3000
    )
    ok, words = verdict(good)
    assert ok
    assert "Syncs look real: half of them within 2.00 ms." in words
    assert "1,000 deliveries a second" in words and "take 4 ms or less." in words
    assert "All 1,500 accepted deliveries are in the journal." in words
    assert "The fold kept up: 3,950 records a second; 200 records behind at the end, folded 0.1 s later." in words
    assert "none was left" in verdict(replace(good, lag=0))[1]
    behind = replace(good, used=replace(USED, folded=8000), lag=8000, caught_up_s=None)
    assert "fell behind: of 4,000 records a second it folded 2,000; 8,000 records behind" in verdict(behind)[1]
    assert "No routes are configured" in words
    words = verdict(good, routes=7, config="/etc/c.toml", unmatched=tuple("abcdef"))[1]
    assert "the 7 routes of /etc/c.toml: 2 tasks a delivery" in words and "a, b, c, d, e and 1 more" in words
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
    idle = replace(USED, seconds=0.0, accepted=0, syncs=0, appended=0, folded=0)
    ok, words = verdict(Measurements([1.0], nothing, nothing, idle, 0.0, 0.0, 0, None, 0, 0, 0))
    assert not ok and "Nothing was accepted" in words and "All 0" not in words and "limits" not in words
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
    found = bench_client.run(replace(PLAN, port=served.port, seconds=60.0, rate=40.0), 20)
    assert found.accepted == 20
    assert found.seconds > 0.4, "the last begins 19 fortieths of a second after the first"
    assert bench_client.run(replace(PLAN, port=served.port, seconds=0.1, rate=40.0), 1000).accepted <= 4


def test_refusals_are_counted_and_not_called_accepted(served: Served) -> None:
    found = bench_client.run(replace(PLAN, port=served.port, secret="a guess"), 5)
    assert (found.accepted, found.statuses) == (0, {"401": 5})


def test_a_server_that_is_not_there_is_an_error(served: Served) -> None:
    with pytest.raises(OSError, match="refused"):
        bench_client.run(replace(PLAN, port=1), 5)


def test_the_status_is_read_only_of_a_whole_answer() -> None:
    whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello"
    assert [bench_client._status(whole[:cut]) for cut in range(len(whole) + 1)] == [None] * len(whole) + ["202"]
