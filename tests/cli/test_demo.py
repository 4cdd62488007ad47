"""`covenq demo`: it passes on this covenq, leaves nothing behind, and would fail if a promise were broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.cli.commands.demo import BURST, FIRST, FORGED, Evidence, Story, judge
from tests.support.checkout import clean_env
from tests.support.waiting import eventually

DEMO = [sys.executable, "-m", "covenq", "demo"]


def test_the_demo_keeps_every_promise_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run([*DEMO, "--json"], env=clean_env(TMPDIR=str(tmp_path)), capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    found = {check["what"]: check["found"] for check in answer["checks"]}
    assert found["deliveries sent, each accepted at last"] == FIRST + BURST
    assert found["unanswered because of the kill, and redelivered"] > 0, "the kill came in the middle"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["data/covenq.sock", "ran"], ids=["ready", "tasks running"])
def test_ctrl_c_ends_the_demo_and_its_daemon(moment: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        DEMO,
        env=clean_env(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        eventually(lambda: list(tmp_path.glob(f"covenq-demo-*/{moment}")), 30, "the demo has come so far")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert not [command for command in _commands(tmp_path) if "\0serve\0" in command], "the daemon is gone too"
    # It was killed, so what it had started ends by itself: a command of the demo writes one line.
    eventually(lambda: not _commands(tmp_path), 30, "its commands are gone")


def _commands(of: Path) -> list[str]:
    """Of the processes that name this directory."""
    return [command for pid in Path("/proc").glob("[0-9]*") if str(of) in (command := _command(pid))]


def _command(pid: Path) -> str:
    try:
        return os.fsdecode((pid / "cmdline").read_bytes())
    except OSError:
        return ""


def story() -> tuple[Story, Evidence]:
    """A run in which everything went well."""
    told, found = Story(), Evidence()
    for n in range(FIRST + BURST):
        id = ("1", f"g{n}")
        told.accepted[id] = found.seqs[id] = n + 1
        found.received[id] = 1
        if n % 10:
            told.wanted.add(id)
            found.tasks[id] = 1
            found.ends[f"t{n}"] = ["completed"]
            found.ran[f"t{n}"] = 1
        else:
            found.ignored.add(id)
    told.refused[401] = FORGED
    told.forged = {"forged"}
    told.repeated = told.recognised = 100
    return told, found


def test_a_good_run_passes() -> None:
    assert all(check.ok for check in judge(*story()))


def lost(told: Story, found: Evidence) -> None:
    del found.seqs[("1", "g5")]


def moved(told: Story, found: Evidence) -> None:
    found.seqs[("1", "g5")] += 1


def stored_twice(told: Story, found: Evidence) -> None:
    found.received[("1", "g5")] = 2


def ran_twice(told: Story, found: Evidence) -> None:
    found.ran["t5"] = 2


def never_ran(told: Story, found: Evidence) -> None:
    del found.ran["t5"]


def ended_twice(told: Story, found: Evidence) -> None:
    found.ends["t5"] = ["completed", "completed"]


def two_tasks(told: Story, found: Evidence) -> None:
    found.tasks[("1", "g5")] = 2


def forged_kept(told: Story, found: Evidence) -> None:
    found.received[("1", "forged")] = 1


def forged_accepted(told: Story, found: Evidence) -> None:
    told.refused = Counter({401: FORGED - 1, 202: 1})


def not_recognised(told: Story, found: Evidence) -> None:
    told.recognised -= 1


def ignored_silently(told: Story, found: Evidence) -> None:
    found.ignored.pop()


def damaged(told: Story, found: Evidence) -> None:
    found.damage = 1


@pytest.mark.parametrize(
    "spoil",
    [
        lost,
        moved,
        stored_twice,
        ran_twice,
        never_ran,
        ended_twice,
        two_tasks,
        forged_kept,
        forged_accepted,
        not_recognised,
        ignored_silently,
        damaged,
    ],
)
def test_a_broken_promise_fails_it(spoil: Callable[[Story, Evidence], None]) -> None:
    told, found = story()
    spoil(told, found)
    assert not all(check.ok for check in judge(told, found))


def test_a_task_that_the_kill_interrupted_may_run_again() -> None:
    told, found = story()
    found.ran["t5"] = 2
    found.interrupted.add("t5")
    assert all(check.ok for check in judge(told, found))
