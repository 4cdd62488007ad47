"""Alarms: loops that don't come round, and running tasks that nobody ends, everywhere where somebody looks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.config.retention import Retention
from covenq.model import Kind, at_text
from covenq.model.status import Stuck
from covenq.operate.inspect import alarms as alarms_module
from covenq.operate.inspect import stuck as stuck_module
from covenq.operate.inspect.alarms import Alarms
from covenq.operate.inspect.stuck import stuck, stuck_running
from covenq.operate.maintain.upkeep import Upkeep
from covenq.state.fold import fold
from journal.records import Entry
from tests.support import stalled_daemon
from tests.support.checkout import ROOT, clean_env
from tests.support.daemon import Daemon
from tests.support.fold_thread import FoldThread
from tests.support.pool import Harness
from tests.support.records import START, as_records, empty_state, moved, of, queued, received
from tests.support.requests import issue
from tests.support.serving import Served, serving
from tests.support.waiting import eventually

CLAIM = {"attempt": 1, "worker": "w"}


def told(found: list[Stuck]) -> list[tuple[str, str | None]]:
    return [(one.task, one.word) for one in found]


def test_what_runs_in_nobodys_hands_or_beyond_its_time_is_stuck() -> None:
    conn = empty_state()
    entries = []
    for name, claim in {
        "unheld": CLAIM,
        "held": CLAIM,
        "leased": {**CLAIM, "lease_until": at_text(START + 400)},
        "odd": {**CLAIM, "lease_until": "garbage"},
        "renewed": {**CLAIM, "lease_until": at_text(START + 9000)},
        "pool": {**CLAIM, "lease_until": at_text(START + 9000), "pool": "here"},
    }.items():
        kind = "pull" if "lease_until" in claim and "pool" not in claim else "run"
        entries += [received(name), queued(name, kind=kind), moved("claimed", of(name), **claim)]
    fold(conn, as_records(entries))
    held = {of("held")}
    assert stuck_running(conn, START + 60, held, START) == [], "whoever has it may be about to say so"
    assert told(stuck_running(conn, START + 100, held, START)) == [(of("unheld"), "unheld"), (of("odd"), "lease")]
    assert told(stuck_running(conn, START + 100)) == [], "what is held, and who ends leases, isn't known"
    late = dict(told(stuck_running(conn, START + 700, held, START)))
    assert late == {
        of("unheld"): "unheld",
        of("held"): "timeout",
        of("leased"): "lease",
        of("odd"): "lease",
        of("pool"): "timeout",
    }
    since = START + 700
    assert of("leased") not in dict(told(stuck_running(conn, since + 50, held, since))), "leases have begun to be ended"
    assert len(stuck(conn, since, running=stuck_running(conn, since, held, START))) == 5


@pytest.mark.parametrize("timeout", ["many", [5], None, {"a": 1}, -1])
def test_a_timeout_that_is_none_hides_no_other_task(timeout: object) -> None:
    conn = empty_state()
    policy = {"run": ["true"], "timeout_s": timeout}
    entries = [received("odd"), queued("odd", policy=policy), moved("claimed", of("odd"), **CLAIM)]
    entries += [received("late"), queued("late"), moved("claimed", of("late"), **CLAIM)]
    fold(conn, as_records(entries))
    assert of("late") in dict(told(stuck_running(conn, START + 1000)))


# ---- over HTTP


@pytest.fixture
def served(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(stuck_module, "GRACE_S", -1.0)
    with serving(data, {"route": [{"name": "p", "match": "event:issues", "pull": True}]}) as served:
        yield served


def alarms_of(served: Served) -> Alarms:
    return served.routes.health.alarms


def claimed_by_nobody(served: Served) -> str:
    """A task that runs by the records; a moment ago, as it looks with a grace below zero."""
    task: str = served.post("issues", issue(1)).json["tasks"][0]
    newest = served.journal.last(f"task.{task}")
    assert newest is not None
    claim = {"attempt": 1, "worker": "gone", "lease_until": None}
    served.journal.append([Entry(f"task.{task}", Kind.CLAIMED, claim, expect=newest.seq)])
    assert served.storage.fold.wait_for(served.journal.head().seq, 30)
    return task


def cli(served: Served, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "covenq", *words, "--data", str(served.data)]
    return subprocess.run(argv, capture_output=True, text=True, env=clean_env(), cwd=ROOT, check=False, timeout=60)


def test_all_is_well(served: Served) -> None:
    assert served.request("GET", "/readyz").json == {
        "ok": True,
        "ready": True,
        "reasons": [],
        "alarms": [],
        "detail": None,
    }
    text = served.ask("/metrics").body.decode()
    for loop in ("dispatcher", "leases", "fold", "upkeep", "journal", "worker"):
        assert f'covenq_loop_overdue{{loop="{loop}"}} 0.0' in text
    for why in ("timeout", "unheld", "lease"):
        assert f'covenq_tasks_stuck{{why="{why}"}} 0.0' in text
    assert served.ask("/api/v1/status").json["overdue"] == []


def test_a_task_that_nobody_holds_is_an_alarm_everywhere(served: Served) -> None:
    pool = alarms_of(served)._pool
    pool.recovered = True
    task = claimed_by_nobody(served)
    sentence = "1 task runs by the records, and nobody holds it"
    ready = eventually(lambda: (a := served.request("GET", "/readyz")).json["alarms"] and a, what="it is seen")
    assert (ready.status, ready.json["ready"], ready.json["alarms"]) == (200, True, [sentence])
    assert 'covenq_tasks_stuck{why="unheld"} 1.0' in served.ask("/metrics").body.decode()
    (one,) = served.ask("/api/v1/status").json["stuck"]
    assert (one["task"], one["state"], one["word"]) == (task, "running", "unheld")
    assert f"STUCK       {task} of p: it runs by the records, and nobody holds it" in cli(served, "status").stdout
    doctor = cli(served, "doctor", "--json")
    findings = [one for one in json.loads(doctor.stdout)["findings"] if task in one["words"]]
    assert [(one["check"], one["level"], one["next"]) for one in findings] == [
        ("tasks", "problem", f"covenq why {task}")
    ]
    assert doctor.returncode == 1


def test_of_a_state_that_is_far_behind_no_task_is_said_to_be_stuck(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one that is being made anew, all runs that ever ran."""
    alarms_of(served)._pool.recovered = True
    claimed_by_nobody(served)
    eventually(lambda: served.request("GET", "/readyz").json["alarms"], what="it is seen")
    monkeypatch.setattr(alarms_module, "LAG_MAX", -1)
    assert served.request("GET", "/readyz").json["alarms"] == []
    assert served.ask("/api/v1/status").json["stuck"] == []


@pytest.mark.parametrize("name", ["dispatcher", "leases", "fold", "upkeep"])
def test_a_loop_that_does_not_come_round_is_an_alarm_everywhere(served: Served, name: str) -> None:
    loop = next(one for one in alarms_of(served)._loops if one.name == name)
    loop.done()
    loop.bound_s = -1.0
    ready = served.request("GET", "/readyz")
    assert (ready.status, ready.json["ready"]) == (200, True), "what is posted is accepted all the same"
    (why,) = ready.json["alarms"]
    assert why.startswith(f"the {name} loop last came round ")
    assert f'covenq_loop_overdue{{loop="{name}"}} 1.0' in served.ask("/metrics").body.decode()
    assert [one["loop"] for one in served.ask("/api/v1/status").json["overdue"]] == [name]
    assert f"OVERDUE     the {name} loop" in cli(served, "status").stdout
    found = json.loads(cli(served, "doctor", "--json").stdout)["findings"]
    assert [one["level"] for one in found if f"the {name} loop" in one["words"]] == ["problem"]


def test_doctor_tells_what_is_overdue_where_the_state_is_behind_too(served: Served) -> None:
    fold = served.storage.fold
    assert isinstance(fold, FoldThread)
    fold.stop()
    loop = next(one for one in alarms_of(served)._loops if one.name == "fold")
    loop.done()
    loop.bound_s = -1.0
    served.journal.append([Entry("ops.x", "ops.note", {})])
    assert re.search("`covenq doctor --data [^`]+` says what to do", cli(served, "status").stdout)
    found = json.loads(cli(served, "doctor", "--json").stdout)["findings"]
    (overdue,) = [one for one in found if "the fold loop" in one["words"]]
    assert overdue["level"] == "problem" and "journalctl -u covenq" in overdue["next"]
    (behind,) = [one for one in found if "behind the journal" in one["words"]]
    assert (behind["check"], behind["level"]) == ("state", "problem")
    assert not [one for one in found if "covenq doctor" in (one["next"] or "")], "it points at itself"


def test_refusals_that_could_not_be_kept_are_told_of(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = served.routes.api.refusals
    monkeypatch.setattr(refusals, "_room", lambda: False)
    assert served.post("issues", issue(1), secret="another").status == 401
    said = cli(served, "refused")
    assert "Nothing was refused" not in said.stderr and "1 request was refused since" in said.stderr, said.stderr
    assert "signature_wrong 1" in said.stderr
    found = json.loads(cli(served, "doctor", "--json").stdout)["findings"]
    assert [one["level"] for one in found if one["check"] == "requests"] == ["warning"]
    monkeypatch.setattr(refusals, "_room", lambda: True)
    assert served.post("issues", issue(1), secret="another").status == 401
    said = cli(served, "refused")
    assert "signature_wrong" in said.stdout and "1 request was refused since" in said.stderr, said


# ---- the loops


@pytest.fixture
def harness(journal_engine: None, tmp_path: Path) -> Iterator[Harness]:
    opened = Harness(tmp_path / "data").open()
    yield opened
    opened.close()


def test_a_dispatcher_that_fails_in_every_round_is_overdue_until_one_ends_well(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covenq.tasks.execution.pool.RETRY_S", 0.01)
    monkeypatch.setattr("covenq.tasks.execution.pool.OVERDUE_S", 0.2)
    broken = threading.Event()
    broken.set()
    reader = harness.store.reader

    def stumble() -> object:
        if threading.current_thread().name == "dispatcher" and broken.is_set():
            raise RuntimeError("what nobody thought of")
        return reader()

    monkeypatch.setattr(harness.store, "reader", stumble)
    pool = harness.pool()
    why = eventually(lambda: pool.loop.overdue, what="it is overdue")
    assert "fails each time (RuntimeError): no task is started" in why
    pool.loop.bound_s = 60.0
    broken.clear()
    task = harness.add("g1", ["true"])
    assert harness.wait(task).state == "completed"
    assert pool.loop.overdue is None
    pool.stop()
    assert pool.loop.age_s is None


def test_a_pool_holds_what_it_runs_until_the_state_shows_its_end(harness: Harness) -> None:
    task = harness.add("g1", ["sleep", "600"])
    pool = harness.pool()
    harness.wait(task, "running")
    assert pool.recovered
    assert task in pool.held()
    harness.journal.append([Entry(f"task.{task}", Kind.CANCELLED, {"reason": "test"})])
    eventually(lambda: task not in pool.held(), what="it was taken away")
    assert pool.ended_threads() == 0


def test_upkeep_that_meets_what_nobody_thought_of_says_so_and_tries_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covenq.operate.maintain.upkeep.RETRY_S", 0.0)
    monkeypatch.setattr("covenq.operate.maintain.upkeep.TICK_S", 0.01)
    broken = threading.Event()
    broken.set()

    def policy() -> Retention:
        if broken.is_set() and threading.current_thread().name == "upkeep":
            raise RuntimeError("what nobody thought of")
        return Retention()

    upkeep = Upkeep(
        harness.journal,
        harness.store,
        harness.fold_thread,
        harness.data,
        policy,
        truncate_wal=harness.store.truncate_wal,
    )
    upkeep.start()
    try:
        assert "RuntimeError" in (eventually(lambda: upkeep.error) or "")
        broken.clear()
        eventually(lambda: upkeep.error is None, what="it goes on")
        assert upkeep.is_alive()
    finally:
        upkeep.stop(30.0)
    assert upkeep.loop.age_s is None


def test_what_upkeep_waits_for_is_logged_once_and_not_at_every_try(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("covenq.operate.maintain.upkeep.RETRY_S", 0.0)
    monkeypatch.setattr("covenq.operate.maintain.upkeep.TICK_S", 0.01)
    tries = threading.Semaphore(0)
    why = ["the disk is gone"]

    def policy() -> Retention:
        if threading.current_thread().name == "upkeep":
            tries.release()
            raise OSError(why[0])
        return Retention()

    journal, store, fold_thread = harness.journal, harness.store, harness.fold_thread
    upkeep = Upkeep(journal, store, fold_thread, harness.data, policy, truncate_wal=store.truncate_wal)
    upkeep.start()
    try:
        for _ in range(5):
            assert tries.acquire(timeout=30)
        why[0] = "another"
        eventually(lambda: upkeep.error == "another", what="it is met")
        for _ in range(5):
            assert tries.acquire(timeout=30)
    finally:
        upkeep.stop(30.0)
    said = [one.getMessage() for one in caplog.records if one.name == "covenq.upkeep"]
    assert said == ["upkeep waits: the disk is gone", "upkeep waits: another"]


def test_a_daemon_whose_dispatcher_hangs_says_so_and_takes_deliveries(make_daemon: Any, tmp_path: Path) -> None:
    stall = tmp_path / "stall"
    program = Path(stalled_daemon.__file__)
    daemon: Daemon = make_daemon(
        config='[[route]]\nname = "r"\nmatch = "event:issues"\nrun = ["true"]\n',
        wrapper=[sys.executable, str(program)],
        env={"COVENQ_TEST_STALL": str(stall)},
    )
    stall.touch()
    task = daemon.post("issues", issue(1)).json["tasks"][0]
    eventually(lambda: "dispatcher" in " ".join(daemon.get("/readyz").json["alarms"]), what="it is told")
    assert daemon.post("issues", issue(2)).status == 202
    assert 'covenq_loop_overdue{loop="dispatcher"} 1.0' in daemon.api("/metrics").body.decode()
    assert "OVERDUE     the dispatcher loop last came round" in daemon.cli("status").stdout.decode()
    found = daemon.cli_json("doctor", exit_code=1)["findings"]
    assert [one["level"] for one in found if "the dispatcher loop" in one["words"]] == ["problem"]
    stall.unlink()
    eventually(lambda: daemon.api(f"/api/v1/tasks/{task}").json["state"] == "completed", what="it goes on")
    # Half a second is soon over on a busy machine: it is enough that it comes round again.
    eventually(lambda: not daemon.get("/readyz").json["alarms"], what="it is over")
