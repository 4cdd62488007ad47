"""The pool on the real journal, state and processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covenq.model import Category, DeliveryId, Kind, fence, task_id
from journal.errors import JournalPoisoned
from journal.records import Appended, Entry
from tests.support import chosen_engine
from tests.support.checkout import ROOT
from tests.support.pool import Harness, alive, kill
from tests.support.waiting import eventually

PY = [sys.executable, "-S", "-c"]


@pytest.fixture
def make_harness(journal_engine: None, tmp_path: Path) -> Iterator[Callable[[], Harness]]:
    opened: list[Harness] = []

    def make() -> Harness:
        opened.append(Harness(tmp_path / "data").open())
        return opened[-1]

    yield make
    for harness in opened:
        harness.files.full = False
        harness.close()


@pytest.fixture
def harness(make_harness: Callable[[], Harness]) -> Harness:
    return make_harness()


ENDED = ["queued", "claimed", "phase prepared", "phase started", "phase collected"]


def test_a_task_runs_and_completes(harness: Harness) -> None:
    code = """if True:
        import json, os, sys
        brief = json.load(open(sys.argv[1]))
        json.dump({"stdin": sys.stdin.read(), "brief": brief, "argv": sys.argv[3:]}, open(sys.argv[2], "w"))
        print(json.dumps({k: v for k, v in os.environ.items() if k.startswith("COVENQ_")}))
        print("words", file=sys.stderr)
    """
    payload = b'{"text": "\xc3\xa9 $(touch owned)"}'
    task = harness.add("g1", [*PY, code, "{brief}", "{result}", "{task}.{attempt}"], payload=payload)
    pool = harness.pool()
    row = harness.wait(task)
    assert (row.state, row.attempts, row.worker) == ("completed", 1, pool.id)
    assert harness.kinds(task) == [*ENDED, "completed"]

    (attempt,) = harness.attempts(task)
    claimed = next(r for r in harness.records(task) if r.kind == Kind.CLAIMED)
    assert attempt.fence == fence(harness.journal.epoch, claimed.seq)
    assert attempt.result == f"attempts/{task}/1/result"
    assert [name for name, _ in attempt.phases] == ["prepared", "started", "collected"]
    assert (attempt.outcome, attempt.exit_code) == ("completed", 0)

    result = json.loads((harness.data / attempt.result).read_bytes())
    assert result["stdin"].encode() == payload
    assert result["argv"] == [f"{task}.1"]
    assert result["brief"]["fence"] == attempt.fence
    assert result["brief"]["repo"] == "octo/hello"
    assert json.loads(harness.file(task, "stdout").read_bytes()) == {
        "COVENQ_TASK": task,
        "COVENQ_ATTEMPT": "1",
        "COVENQ_FENCE": attempt.fence,
        "COVENQ_HOOK": "9",
        "COVENQ_GUID": "g1",
        "COVENQ_EVENT": "issues",
        "COVENQ_ACTION": "opened",
        "COVENQ_REPO": "octo/hello",
        "COVENQ_REPO_ID": "",
        "COVENQ_NUMBER": "7",
        "COVENQ_SHA": "",
        "COVENQ_REF": "",
        "COVENQ_PURPOSE": "",
        "COVENQ_FAMILIAR": "",
        "COVENQ_SENDER": "",
        "COVENQ_INSTALLATION": "",
        "COVENQ_PAYLOAD": str(harness.file(task, "payload")),
        "COVENQ_BODY": str(harness.file(task, "payload")),
        "COVENQ_RESULT": str(harness.file(task, "result")),
        "COVENQ_SOCKET": str(harness.data / "phase.sock"),
    }
    assert harness.file(task, "stderr").read_bytes() == b"words\n"


def test_the_daemons_environment_stays_the_daemons(harness: Harness) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": "/h", "COVENQ_WEBHOOK_SECRET": "s3cret", "TOKEN": "t", "GIT": "g"}
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    task = harness.add("g1", [*PY, code], env=["GIT"])
    harness.pool(environ=environ)
    assert harness.wait(task).state == "completed"
    seen = json.loads(harness.file(task, "stdout").read_bytes())
    assert {name for name in seen if not name.startswith("COVENQ_")} - {"LC_CTYPE"} == {"PATH", "HOME", "GIT"}
    assert "s3cret" not in seen.values()


def test_a_failure_retries_and_then_fails(harness: Harness) -> None:
    task = harness.add("g1", ["false"], retry={"max": 2, "backoff_s": 0.01, "cap_s": 0.02})
    harness.pool()
    row = harness.wait(task)
    assert (row.state, row.category, row.attempts, row.retries) == ("failed", "exit", 3, 2)
    once = ENDED[1:]
    assert harness.kinds(task) == ["queued", *once, "retry", *once, "retry", *once, "failed"]
    assert [a.outcome for a in harness.attempts(task)] == ["failed"] * 3
    assert [a.exit_code for a in harness.attempts(task)] == [1] * 3
    assert harness.file(task, "stdout", 3).exists()


@pytest.mark.parametrize(
    ("run", "category", "exit_code", "number"),
    [
        ([*PY, "import sys; sys.exit(7)"], "exit", 7, None),
        ([*PY, "import os; os.kill(os.getpid(), 9)"], "signal", None, 9),
        (["/nonexistent/{brief}"], "spawn", None, None),
        ([], "policy", None, None),
    ],
)
def test_categories(harness: Harness, run: list[str], category: str, exit_code: int | None, number: int | None) -> None:
    task = harness.add("g1", run)
    harness.pool()
    assert harness.wait(task).state == "failed"
    (attempt,) = harness.attempts(task)
    assert (attempt.category, attempt.exit_code, attempt.signal) == (category, exit_code, number)


def test_timeout_kills_the_group(harness: Harness) -> None:
    code = """if True:
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.fork()
        open(f"pid{os.getpid()}", "w").close()
        time.sleep(600)
    """
    task = harness.add("g1", [*PY, code], timeout_s=1.0)
    harness.pool(grace_s=0.1)
    row = harness.wait(task)
    assert (row.state, row.category) == ("failed", "timeout")
    for path in harness.file(task, ".").glob("pid*"):
        eventually(lambda pid=int(path.name[3:]): not alive(pid))


def test_hostile_columns_reach_neither_argv_nor_paths(harness: Harness) -> None:
    hostile = "../../../x;touch owned\x00\n$(touch owned)"
    task = harness.add("g1", [*PY, "import os; print(ascii(os.environ['COVENQ_REPO']))"], repo=hostile, key=hostile)
    harness.pool()
    assert harness.wait(task).state == "completed"
    assert harness.file(task, "stdout").read_text().strip() == ascii("../../../x;touch owned\ufffd$(touch owned)")
    assert not list(harness.data.rglob("owned"))
    assert [path.name for path in (harness.data / "attempts").iterdir()] == [task]


def test_two_pools_on_one_journal_run_each_task_once(harness: Harness) -> None:
    pools = [harness.pool(concurrency=4), harness.pool(concurrency=4)]
    tasks = [harness.add(f"g{n}", ["true"]) for n in range(40)]
    for task in tasks:
        assert harness.wait(task).state == "completed"
    for task in tasks:
        assert Counter(harness.kinds(task))["claimed"] == 1, harness.kinds(task)
    assert pools[0].error is None
    assert pools[1].error is None


def test_more_tasks_than_workers_all_complete(harness: Harness) -> None:
    tasks = [harness.add(f"g{n}", ["true"]) for n in range(60)]
    harness.pool(concurrency=3)
    for task in tasks:
        assert harness.wait(task).state == "completed"


def test_one_running_task_a_key(harness: Harness, tmp_path: Path) -> None:
    code = """if True:
        import os, sys, time
        fd = os.open(sys.argv[1], os.O_CREAT | os.O_EXCL)
        time.sleep(0.02)
        os.unlink(sys.argv[1])
    """
    tasks = [harness.add(f"g{n}", [*PY, code, str(tmp_path / "inside")], key="k") for n in range(8)]
    harness.pool(concurrency=4)
    assert {harness.wait(task).state for task in tasks} == {"completed"}


def test_running_says_what_runs(harness: Harness) -> None:
    task = harness.add("g1", ["sleep", "600"])
    pool = harness.pool()
    shown = eventually(pool.running)
    assert [(one.task, one.attempt, one.route) for one in shown] == [(task, 1, "r")]


def test_stop_ends_children_and_uses_up_no_retry(harness: Harness) -> None:
    task = harness.add("g1", ["sleep", "600"])
    for n in range(1, 5):  # more often than interruptions are allowed
        pool = harness.pool()
        eventually(lambda n=n: harness.kinds(task).count("phase started") == n)
        assert pool.stop(30.0)
        row = harness.row(task)
        assert (row.state, row.attempts, row.retries, row.interruptions) == ("queued", n, 0, 0)
        assert harness.attempts(task)[-1].category == Category.INTERRUPTED
        assert harness.attempts(task)[-1].signal == signal.SIGTERM


def test_a_cancelled_task_is_not_finished_by_its_attempt(harness: Harness, tmp_path: Path) -> None:
    """Whoever moved the task wins: the late completion is refused, and nothing of it is recorded."""
    admission = tmp_path / "gate"
    task = harness.add("g1", [*PY, f"import os, time\nwhile not os.path.exists({str(admission)!r}): time.sleep(0.01)"])
    other = harness.add("g2", ["true"], key="later")
    pool = harness.pool(concurrency=1)
    newest = eventually(lambda: (r := harness.records(task)[-1]).data.get("phase") == "started" and r)
    answer = harness.journal.append(
        [Entry(f"task.{task}", Kind.CANCELLED, {"by": "me", "reason": None}, expect=newest.seq)]
    )
    assert isinstance(answer, Appended)
    admission.touch()
    assert harness.wait(other).state == "completed"
    assert harness.kinds(task)[-1] == "cancelled"
    assert harness.row(task).state == "cancelled"
    assert pool.error is None


def test_a_requeued_task_runs_again(harness: Harness) -> None:
    task = harness.add("g1", [*PY, "import os, sys; sys.exit(os.environ['COVENQ_ATTEMPT'] == '1')"])
    harness.pool()
    row = harness.wait(task, "failed")
    harness.journal.append([Entry(f"task.{task}", Kind.REQUEUED, {"by": "me", "reason": None}, expect=row.last_seq)])
    assert harness.wait(task, "completed").attempts == 2


@pytest.mark.files("the disk is full")
def test_a_full_disk_holds_the_end_until_there_is_space(harness: Harness, tmp_path: Path) -> None:
    admission = tmp_path / "gate"
    task = harness.add("g1", [*PY, f"import os, time\nwhile not os.path.exists({str(admission)!r}): time.sleep(0.01)"])
    waiting = harness.add("g2", ["true"])
    pool = harness.pool(concurrency=1)
    eventually(lambda: "phase started" in harness.kinds(task))
    harness.files.full = True
    admission.touch()
    eventually(lambda: harness.journal.full)
    assert harness.kinds(task)[-1] == "phase started"
    harness.files.full = False
    assert harness.wait(task).state == "completed"
    assert harness.wait(waiting).state == "completed"
    assert harness.kinds(task) == [*ENDED, "completed"]
    assert pool.error is None


@pytest.mark.files("the disk is full")
def test_a_claim_on_a_full_disk_is_tried_again(harness: Harness) -> None:
    task = harness.add("g1", ["true"])
    harness.files.full = True
    harness.pool()
    eventually(lambda: harness.journal.full)
    harness.files.full = False
    assert harness.wait(task).state == "completed"
    assert harness.kinds(task).count("claimed") == 1


def test_nothing_begins_while_the_disk_is_low(harness: Harness) -> None:
    low = threading.Event()
    low.set()
    asked = threading.Event()

    def room() -> bool:
        asked.set()
        return not low.is_set()

    task = harness.add("g1", ["true"])
    harness.pool(room=room)
    assert asked.wait(30)
    assert harness.kinds(task) == ["queued"]
    low.clear()
    assert harness.wait(task).state == "completed"


def test_a_dispatcher_that_stumbles_goes_on(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covenq.tasks.execution.pool.RETRY_S", 0.01)
    broken = iter([sqlite3.OperationalError("disk I/O error"), RuntimeError("what nobody thought of")])
    reader = harness.store.reader

    def stumble() -> sqlite3.Connection:
        if threading.current_thread().name == "dispatcher" and (error := next(broken, None)) is not None:
            raise error
        return reader()

    monkeypatch.setattr(harness.store, "reader", stumble)
    task = harness.add("g1", ["true"])
    pool = harness.pool()
    assert harness.wait(task).state == "completed"
    assert pool.error is None


def test_a_policy_that_makes_no_sense_fails_its_task_alone(harness: Harness) -> None:
    odd = harness.add("g1", ["true"], retry={"max": "many"})  # type: ignore[dict-item]
    good = harness.add("g2", ["true"])
    harness.pool()
    assert (harness.wait(odd).category, harness.wait(good).state) == ("policy", "completed")


@pytest.mark.files("the disk is full")
def test_a_stop_on_a_full_disk_leaves_the_task_to_recovery(make_harness: Callable[[], Harness]) -> None:
    harness = make_harness()
    task = harness.add("g1", ["sleep", "600"])
    pool = harness.pool()
    eventually(lambda: "phase started" in harness.kinds(task))
    harness.files.full = True
    assert pool.stop(30.0)
    harness.files.full = False
    assert harness.kinds(task)[-1] == "phase started"
    harness.close()
    harness.open()
    harness.pool()
    eventually(lambda: harness.row(task).interruptions == 1)
    eventually(lambda: harness.kinds(task).count("phase started") == 2)


# ---- after a kill


def abandoned(harness: Harness, task: str, interruptions: int) -> int:
    """Claim it as a daemon did that died since: the seq of the claim."""
    row = harness.row(task)
    claim = {"attempt": row.attempts + 1, "worker": "dead", "lease_until": None}
    answer = harness.journal.append([Entry(f"task.{task}", Kind.CLAIMED, claim, expect=row.last_seq)])
    assert isinstance(answer, Appended)
    assert harness.row(task).interruptions == interruptions
    return answer.seqs[0]


def test_what_a_dead_daemon_ran_is_run_again_and_given_up_the_third_time(harness: Harness) -> None:
    task = harness.add("g1", ["true"])
    for interruptions in range(3):
        claim = abandoned(harness, task, interruptions)
        pool = harness.pool(concurrency=0)  # recovers, and runs nothing
        closed = eventually(lambda claim=claim: (r := harness.records(task)[-1]).seq > claim and r)
        assert closed.data["claim"] == claim
        assert closed.data["interruptions"] == interruptions + 1
        assert closed.kind == (Kind.FAILED if interruptions == 2 else Kind.RETRY)
        pool.stop()
    row = harness.row(task)
    assert (row.state, row.category, row.attempts, row.retries) == ("failed", "interrupted", 3, 0)
    assert [a.category for a in harness.attempts(task)] == ["interrupted"] * 3


def test_recovered_tasks_complete(harness: Harness) -> None:
    tasks = [harness.add(f"g{n}", ["true"]) for n in range(5)]
    for task in tasks:
        abandoned(harness, task, 0)
    harness.pool()
    for task in tasks:
        assert harness.wait(task).state == "completed"
        assert harness.kinds(task).count("completed") == 1


def test_a_task_with_a_lease_is_left_to_its_worker(harness: Harness) -> None:
    task = harness.add("g1", ["true"])
    row = harness.row(task)
    claim = {"attempt": 1, "worker": "elsewhere", "lease_until": "2999-01-01T00:00:00.000000Z"}
    harness.journal.append([Entry(f"task.{task}", Kind.CLAIMED, claim, expect=row.last_seq)])
    harness.row(task)
    other = harness.add("g2", ["true"])
    harness.pool()
    assert harness.wait(other).state == "completed"
    assert harness.kinds(task) == ["queued", "claimed"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="leftovers are found by Linux's /proc")
def test_what_a_dead_daemon_left_running_is_ended_before_the_task_runs_again(harness: Harness) -> None:
    task = harness.add("g1", ["true"])
    claim = abandoned(harness, task, 0)
    environment = {"PATH": os.environ["PATH"], "COVENQ_FENCE": fence(harness.journal.epoch, claim)}
    left = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"]}, start_new_session=True)
    ended = threading.Thread(target=left.wait)
    ended.start()
    try:
        harness.pool()
        assert harness.wait(task).state == "completed"
        ended.join(30)
        assert left.returncode == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()


DOOMED = """
import sys, threading
from pathlib import Path
from tests.support.pool import Harness
harness = Harness(Path(sys.argv[1])).open()
task = harness.add("g1", ["sh", "-c", "echo $$ > pid; echo > started; exec sleep 600"])
harness.pool()
threading.Event().wait()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="leftovers are found by Linux's /proc")
def test_a_killed_daemon_leaves_no_second_run_beside_the_first(
    tmp_path: Path, make_harness: Callable[[], Harness]
) -> None:
    """A real SIGKILL: what it ran lives on, and is ended before the next process runs the task again."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **chosen_engine.variables(tmp_path / "data")}
    task = task_id(DeliveryId("9", "g1"), "r", 0)
    pids: list[int] = []
    doomed = subprocess.Popen([sys.executable, "-c", DOOMED, str(tmp_path / "data")], env=environment)
    try:
        started = tmp_path / "data" / "attempts" / task / "1" / "started"
        eventually(started.exists)
        pids.append(int(started.with_name("pid").read_text()))
        doomed.kill()
        doomed.wait()
        assert alive(pids[0])
        harness = make_harness()
        assert harness.row(task).state == "running"
        harness.pool()
        second = started.parents[1] / "2" / "started"
        eventually(second.exists)
        assert not alive(pids[0])
        assert [a.category for a in harness.attempts(task)] == ["interrupted", None]
    finally:
        doomed.kill()
        doomed.wait()
        for pid in pids:
            if alive(pid):
                kill(pid)


def test_a_payload_no_longer_kept_fails_by_policy(harness: Harness) -> None:
    delivery = harness.journal.append(
        [
            Entry(
                "task.orphan",
                Kind.QUEUED,
                {
                    "hook": "9",
                    "guid": "never",
                    "delivery_seq": None,
                    "route": "r",
                    "kind": "run",
                    "policy": {"run": ["true"]},
                },
                {},
                expect=0,
            )
        ]
    )
    assert isinstance(delivery, Appended)
    harness.pool()
    row = harness.wait("orphan")
    assert (row.state, row.category) == ("failed", "policy")


@pytest.mark.files("a sync of the disk fails")
def test_a_poisoned_journal_ends_the_pool_and_its_children(harness: Harness) -> None:
    task = harness.add("g1", ["sleep", "600"])
    pool = harness.pool()
    eventually(lambda: "phase started" in harness.kinds(task))

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    harness.files.fdatasync = fail  # type: ignore[method-assign]
    with pytest.raises(JournalPoisoned):
        harness.add("g2", ["true"])
    assert harness.journal.poisoned
    assert pool.stop(30.0)
    assert pool.error
