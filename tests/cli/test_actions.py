"""replay, reroute, requeue and cancel as commands, on a directory without a daemon: one, many, from stdin, interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.journals.chosen import open_chosen
from tests.support.records import POLICY, moved, note, of, queued, received
from tests.support.terminal import InTerminal
from tests.support.waiting import eventually

CONFIG = '[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["true"]\n'


@pytest.fixture
def stopped(journal_engine: None) -> Iterator[Daemon]:
    """Six deliveries: g0 to g2 failed, g3 waits, g4 was ignored, g5 completed."""
    with tempfile.TemporaryDirectory(prefix="cq-") as name:
        data, config = Path(name) / "data", Path(name) / "covenq.toml"
        data.mkdir(mode=0o700)
        config.write_text(CONFIG)
        with open_chosen(data) as journal:
            for n in range(6):
                policy = {**POLICY, "run": ["sleep", "600"]} if n == 3 else POLICY
                journal.append([received(f"g{n}"), *([] if n == 4 else [queued(f"g{n}", policy=policy)])])
            for n in range(3):
                journal.append([moved("claimed", of(f"g{n}"), attempt=1, worker="w")])
                journal.append([moved("failed", of(f"g{n}"), attempt=1, category="exit", exit_code=1)])
            journal.append([moved("completed", of("g5"))])
        yield Daemon(data=data, config=config)


def failed() -> list[str]:
    return [of(f"g{n}") for n in range(3)]


def kinds(daemon: Daemon, kind: str) -> list[dict[str, Any]]:
    return [record for record in records(daemon.data) if record["kind"] == kind]


def test_ids_come_from_stdin_and_several_need_a_yes(stopped: Daemon) -> None:
    lines = "\n".join(f"{id} and what else the line says" for id in failed()).encode()
    refused = stopped.cli("requeue", "-", input=lines, exit_code=2)
    assert b"this would requeue 3 tasks" in refused.stderr
    assert not kinds(stopped, "task.requeued")
    plan = stopped.cli("requeue", "-", "--dry-run", input=lines)
    assert plan.stdout.decode().split() == failed()
    done = stopped.cli("requeue", "-", "--yes", "--reason", "the disk was full", input=lines)
    assert done.stdout.decode().splitlines() == failed(), "each once"
    assert {one["data"]["reason"] for one in kinds(stopped, "task.requeued")} == {"the disk was full"}
    again = stopped.cli("requeue", "-", "--yes", input=lines, exit_code=4)
    assert b"skipped 3: it is queued" in again.stderr


def test_the_plan_is_shown_before_the_question_and_by_a_dry_run(stopped: Daemon) -> None:
    seen = InTerminal(stopped, "requeue", "state:failed,queued", typed=b"n\n", COLUMNS="80").said
    plan, _, _ = seen.partition("Requeue 3 tasks? [y/N]")
    dry = stopped.cli("requeue", "state:failed,queued", "--dry-run")
    said = dry.stderr.decode().splitlines()
    assert said[0].startswith("eligible  3 tasks; the oldest came ")
    assert said[1].startswith("  3  fix  failed: exit  oldest ")
    assert said[2:] == ["skipped 1: it is queued", "would wait: no daemon is running", "3 tasks would be requeued."]
    for line in said[2:4]:
        assert line in plan, "the question's plan says the same"
    assert "eligible  3 tasks" in plan and "failed: exit" in plan
    assert sorted(dry.stdout.decode().split()) == sorted(failed())
    for option in ("--json", "--jsonl"):
        answer = json.loads(stopped.cli("requeue", "state:failed,queued", "--dry-run", option).stdout)
        assert sorted(answer["eligible"]) == sorted(failed()) and [one["id"] for one in answer["skipped"]] == [of("g3")]
        assert (answer["summary"]["eligible"], answer["summary"]["groups"][0]["count"]) == (3, 3)
    done = stopped.cli_json("requeue", "state:failed,queued", "--yes")
    assert [one["id"] for one in done["done"]] == done["eligible"] and done["summary"]["eligible"] == 3


def test_an_erasure_says_what_goes_for_ever_and_what_stays_before_it_asks(stopped: Daemon) -> None:
    seen = InTerminal(stopped, "redact", "event:issues", typed=b"n\n", COLUMNS="80")
    plan, question, _ = seen.said.partition("Redact 6 deliveries? [y/N]")
    assert question and seen.code == 1 and not kinds(stopped, "delivery.redacted")
    for words in (
        "eligible  6 deliveries",
        "octo/hello",
        "What stays: ",
        "For ever: ",
        "1 task that waits is cancelled",
    ):
        assert words in plan
    dry = stopped.cli("redact", "event:issues", "--dry-run").stderr
    assert b"What stays: " in dry and b"For ever: " in dry


def test_a_pause_says_what_it_holds_and_its_end_what_goes_on(stopped: Daemon) -> None:
    dry = stopped.cli("pause", "route", "fix", "--dry-run").stderr.decode()
    assert dry.startswith("The route fix would be paused.\n1 task would wait; it came ")
    assert not kinds(stopped, "ops.paused")
    assert "\n1 task waits; it came " in stopped.cli("pause", "route", "fix").stderr.decode()
    stopped.cli("pause", "worker")
    dry = stopped.cli("resume", "route", "fix", "--dry-run").stderr.decode()
    assert "\n1 task would go on; it came " in dry and "would still wait 1: worker, paused " in dry
    planned = stopped.cli_json("resume", "worker", "--dry-run")
    assert (planned["changed"], planned["dry_run"], planned["summary"]["groups"][0]["count"]) == (True, True, 1)
    assert [one["cause"] for one in planned["summary"]["waits"]] == ["paused"]
    assert not kinds(stopped, "ops.resumed")
    assert "still waiting 1: worker, paused" in stopped.cli("resume", "route", "fix").stderr.decode()
    assert b"would be paused" in stopped.cli("pause", "intake", "--dry-run").stderr


def test_a_compaction_at_a_terminal_shows_what_goes_and_asks(stopped: Daemon) -> None:
    assert stopped.config is not None
    stopped.config.write_text(CONFIG + '[retention]\npayloads = "0s"\n')
    no = InTerminal(stopped, "compact", typed=b"n\n")
    plan, question, _ = no.said.partition("Compact the journal? [y/N]")
    assert question and no.code == 1 and not kinds(stopped, "journal.dropped")
    for words in ("4 payloads of ", "would be dropped", "[retention] keeps payloads for 0s", "gone for ever"):
        assert words in plan
    assert InTerminal(stopped, "compact", typed=b"y\n").code == 0
    assert kinds(stopped, "journal.dropped")


def test_one_id_on_stdin_acts_at_once_and_none_is_a_mistake(stopped: Daemon) -> None:
    assert stopped.cli("cancel", "-", input=of("g3").encode()).stdout.decode().split()[0] == of("g3")
    assert b"no ids on stdin" in stopped.cli("cancel", "-", input=b"\n \n", exit_code=2).stderr
    assert b"no text" in stopped.cli("cancel", "-", input=b"\xff\xfe", exit_code=2).stderr
    assert b"can't be combined" in stopped.cli("cancel", "-", "state:queued", input=b"x", exit_code=2).stderr


def test_one_is_acted_on_by_how_its_id_begins_and_none_where_several_begin_so(stopped: Daemon) -> None:
    long, other = "72d3162e-cc78-11e3-81ab-4c9367dc0958", "72d3999e-cc78-11e3-81ab-4c9367dc0958"
    with open_chosen(stopped.data) as journal:
        for guid in (long, other):
            journal.append([received(guid), note("ignored", guid, reason="no_route")])
    assert stopped.cli("requeue", of("g0")[:9]).stdout.decode().split() == [of("g0")]
    assert stopped.cli("cancel", of("g3")[:9]).stdout.decode().split() == [of("g3")]
    for command in ("reroute", "replay"):
        assert stopped.cli(command, "72d3162e", "--dry-run").stdout.decode().split() == [f"9/{long}"]
        assert b"several ids begin with 72d3" in stopped.cli(command, "72d3", exit_code=2).stderr
        assert stopped.cli(command, "72d4", exit_code=3).stdout == b""
    assert {one["data"]["guid"] for one in kinds(stopped, "task.queued")} == {"g0", "g1", "g2", "g3", "g5"}


def test_a_delivery_given_for_a_task_is_told_its_tasks(stopped: Daemon) -> None:
    with open_chosen(stopped.data) as journal:
        for hook in ("1", "2"):
            journal.append([received("shared", hook), queued("shared", hook)])
    tasks = {"g0": of("g0"), "9/g0": of("g0"), "shared": f"{of('shared', '1')} {of('shared', '2')}"}
    for command in ("requeue", "cancel"):
        for id, theirs in tasks.items():
            said = stopped.cli(command, id, exit_code=3).stderr.decode()
            assert f"{id} is a delivery, and this is done to tasks\nhint: Its tasks: {theirs}\n" in said
        assert b"`covenq why g4` says why" in stopped.cli(command, "g4", exit_code=3).stderr
        assert b"no task 'a b'" in stopped.cli(command, "a b", exit_code=3).stderr


def test_a_task_given_for_a_delivery_is_told_its_delivery(stopped: Daemon) -> None:
    for command in ("replay", "reroute", "redact"):
        said = stopped.cli(command, of("g0"), exit_code=3).stderr.decode()
        assert f"{of('g0')} is a task, and this is done to deliveries\nhint: Its delivery: 9/g0\n" in said
        assert b"no delivery nosuch" in stopped.cli(command, "nosuch", exit_code=3).stderr


def test_the_table_tells_deliveries_of_one_guid_apart_and_marks_conflicts(stopped: Daemon) -> None:
    with open_chosen(stopped.data) as journal:
        for hook in ("1", "2"):
            journal.append([received("shared", hook)])
        journal.append([note("conflicted", "shared", "2", payload_sha256="0" * 64)])
    head, newest, other, *_ = stopped.cli("deliveries").stdout.decode().splitlines()
    assert ("HOOK" in head.split(), "NOTE" in head.split()) == (True, True)
    assert ({"2", "conflict"} <= set(newest.split()), "1" in other.split()) == (True, True)
    assert "conflict" not in other


def test_cancel_and_back_again(stopped: Daemon) -> None:
    assert stopped.cli_json("cancel", "state:queued,running", "--yes", "--reason", "stop")["done"][0]["id"] == of("g3")
    (record,) = kinds(stopped, "task.cancelled")
    assert record["data"]["reason"] == "stop"
    assert record["data"]["by"].startswith("cli:")
    assert stopped.cli_json("tasks", "state:cancelled")["items"][0]["reason"] == "stop"
    assert b"it is completed already" in stopped.cli("cancel", of("g5"), exit_code=4).stderr
    assert stopped.cli_json("requeue", of("g3"))["done"]


def test_reroute_and_replay_by_one_route(stopped: Daemon) -> None:
    found = stopped.cli_json("reroute", "state:received,ignored", "--yes")
    assert [(one["id"], one["tasks"]) for one in found["done"]] == [("9/g4", [of("g4")])]
    assert stopped.cli_json("replay", "g0", "--route", "fix")["done"][0]["tasks"] == [of("g0", replay=1)]
    unknown = stopped.cli("replay", "g1", "--route", "fxi", exit_code=2)
    assert b"hint: Did you mean fix?" in unknown.stderr


def test_a_replay_spares_the_routes_that_completed(stopped: Daemon) -> None:
    stopped.config.write_text(CONFIG + CONFIG.replace("fix", "look"))  # type: ignore[union-attr]
    with open_chosen(stopped.data) as journal:
        for guid in ("g0", "g1", "g2"):
            journal.append([queued(guid, route="look")])
            journal.append([moved("completed", of(guid, route="look"))])
    plan = stopped.cli("replay", "g0", "--dry-run")
    spared = b"skipped 1: its route look has completed; --force replays that too"
    assert (plan.stdout, spared in plan.stderr) == (b"9/g0\n", True)
    done = stopped.cli("replay", "g0")
    assert (done.stdout.decode(), spared in done.stderr) == (f"9/g0 {of('g0', replay=1)}\n", True)
    found = stopped.cli_json("replay", "state:failed", "--yes")
    assert [(one["id"], one["tasks"]) for one in found["done"]] == [
        ("9/g1", [of("g1", replay=1)]), ("9/g2", [of("g2", replay=1)])
    ]  # fmt: skip
    assert [one["id"] for one in found["skipped"]] == ["9/g1", "9/g2"], "each told once"


def test_an_interrupted_bulk_says_how_far_it_came_and_the_next_does_the_rest(stopped: Daemon) -> None:
    ids = [f"x{n}" for n in range(3000)]
    with open_chosen(stopped.data) as journal:
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            journal.append([entry for id in part for entry in (received(id), queued(id))])
            journal.append([moved("failed", of(id), category="exit") for id in part])
    process = subprocess.Popen(
        [sys.executable, "-m", "covenq", "requeue", "guid:x*", "--yes", "--json"],
        env=stopped.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert b"500 of 3,000" in said
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    if process.returncode != 130:  # it was quicker than the signal
        assert process.returncode == 0
    else:
        assert (out, b"Run it again for the rest" in err) == (b"", True)
    before = len(kinds(stopped, "task.requeued"))
    assert before >= 500
    rest = stopped.cli_json("requeue", "guid:x*", "--yes")
    assert len(rest["done"]) == 3000 - before
    assert len({record["subject"] for record in kinds(stopped, "task.requeued")}) == 3000


def test_cancel_and_reroute_reach_a_running_daemon(stopped: Daemon) -> None:
    stopped.config.write_text('[[route]]\nname = "fix"\nmatch = "event:issues"\nrun = ["sleep", "600"]\n')  # type: ignore[union-attr]
    daemon = stopped.start()
    try:
        done = daemon.cli_json("cancel", of("g3"), "--reason", "no need")
        assert done["done"][0]["id"] == of("g3")
        assert daemon.cli_json("reroute", "g4", exit_code=4)["skipped"]  # the start has routed it
        eventually(lambda: daemon.cli_json("tasks", "state:running")["items"], 30)
        (running,) = daemon.cli_json("tasks", "state:running")["items"]
        assert daemon.cli_json("cancel", "state:running", "--yes")["done"][0]["id"] == running["id"]
        assert json.loads(daemon.cli("show", running["id"], "--json").stdout)["state"] == "cancelled"
    finally:
        daemon.kill()
