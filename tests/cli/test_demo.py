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

from covenq.cli.commands.demo import BURST_COUNT, FIRST_COUNT, FORGED_COUNT, ClientLog, JournalAudit, compare
from tests.support.checkout import clean_env
from tests.support.waiting import eventually

DEMO = [sys.executable, "-m", "covenq", "demo"]


def test_the_demo_keeps_every_promise_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run([*DEMO, "--json"], env=clean_env(TMPDIR=str(tmp_path)), capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    found = {check["what"]: check["found"] for check in answer["checks"]}
    assert found["deliveries sent, each accepted at last"] == FIRST_COUNT + BURST_COUNT
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


def answers() -> tuple[ClientLog, JournalAudit]:
    """A run in which everything went well."""
    log, found = ClientLog(), JournalAudit()
    for n in range(FIRST_COUNT + BURST_COUNT):
        id = ("1", f"g{n}")
        log.accepted[id] = found.seqs[id] = n + 1
        found.received[id] = 1
        if n % 10:
            log.routed.add(id)
            found.tasks[id] = 1
            found.ends[f"t{n}"] = ["completed"]
            found.ran[f"t{n}"] = 1
        else:
            found.ignored.add(id)
    log.refused[401] = FORGED_COUNT
    log.forged = {"forged"}
    log.redelivered = log.deduplicated = 100
    return log, found


def test_a_good_run_passes() -> None:
    assert all(check.ok for check in compare(*answers()))


def lost(log: ClientLog, found: JournalAudit) -> None:
    del found.seqs[("1", "g5")]


def seq_changed(log: ClientLog, found: JournalAudit) -> None:
    found.seqs[("1", "g5")] += 1


def stored_twice(log: ClientLog, found: JournalAudit) -> None:
    found.received[("1", "g5")] = 2


def ran_twice(log: ClientLog, found: JournalAudit) -> None:
    found.ran["t5"] = 2


def never_ran(log: ClientLog, found: JournalAudit) -> None:
    del found.ran["t5"]


def ended_twice(log: ClientLog, found: JournalAudit) -> None:
    found.ends["t5"] = ["completed", "completed"]


def two_tasks(log: ClientLog, found: JournalAudit) -> None:
    found.tasks[("1", "g5")] = 2


def forged_kept(log: ClientLog, found: JournalAudit) -> None:
    found.received[("1", "forged")] = 1


def forged_accepted(log: ClientLog, found: JournalAudit) -> None:
    log.refused = Counter({401: FORGED_COUNT - 1, 202: 1})


def not_recognised(log: ClientLog, found: JournalAudit) -> None:
    log.deduplicated -= 1


def ignored_silently(log: ClientLog, found: JournalAudit) -> None:
    found.ignored.pop()


def damaged(log: ClientLog, found: JournalAudit) -> None:
    found.damage = 1


@pytest.mark.parametrize(
    "spoil",
    [
        lost,
        seq_changed,
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
def test_a_broken_promise_fails_it(spoil: Callable[[ClientLog, JournalAudit], None]) -> None:
    log, found = answers()
    spoil(log, found)
    assert not all(check.ok for check in compare(log, found))


def test_a_task_that_the_kill_interrupted_may_run_again() -> None:
    log, found = answers()
    found.ran["t5"] = 2
    found.interrupted.add("t5")
    assert all(check.ok for check in compare(log, found))
