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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import eventually

from covenq.model import Category, DeliveryId, Kind, fence, task_id
from covenq.state import query
from covenq.state.follow import Folder
from covenq.state.store import StateStore
from covenq.tasks.execution.pool import Pool
from journal.errors import JournalPoisoned
from journal.file.engine import FileJournal
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.records import Appended, Entry, Record

PY = [sys.executable, "-S", "-c"]


class TightFiles(OsFiles):
    """The real files of a disk that can be told to be full."""

    full = False

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().pwrite(fd, data, offset)


@dataclass
class House:
    """A data directory with its journal and its state, and pools over it."""

    data: Path
    files: TightFiles = field(default_factory=TightFiles)
    pools: list[Pool] = field(default_factory=list)

    def open(self) -> House:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.journal: FileJournal = open_journal(self.data / "journal", files=self.files)
        self.store = StateStore(self.data / "state.db", self.journal)
        self.store.catch_up()
        self.folder = Folder(self.store, self.journal)
        self.folder.start()
        return self

    def close(self) -> None:
        for pool in self.pools:
            pool.stop(5.0)
        self.pools.clear()
        self.folder.stop()
        self.store.close()
        self.journal.close()

    def pool(self, concurrency: int = 2, **options: Any) -> Pool:
        options.setdefault("grace_s", 5.0)
        pool = Pool(self.journal, self.store, self.folder, self.data, concurrency=concurrency, **options)
        self.pools.append(pool)
        pool.start()
        return pool

    def add(
        self,
        name: str,
        run: list[str],
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: dict[str, float] | None = None,
        env: list[str] | None = None,
        payload: bytes = b'{"a": 1}',
        repo: str | None = "octo/hello",
        action: str | None = "opened",
    ) -> str:
        """A delivery and its one task, appended as the intake does. The task's id."""
        delivery = DeliveryId("9", name)
        task = task_id(delivery, "r", 0)
        about = {"repo": repo, "number": 7, "head_sha": None}
        policy = {
            "run": run,
            "timeout_s": timeout_s,
            "retry": retry or {"max": 0},
            "supersede": "never",
            "env": env or [],
        }
        answer = self.journal.append(
            [
                Entry(
                    delivery.subject,
                    Kind.RECEIVED,
                    {"hook": "9", "guid": name, "event": "issues", "action": action, "source": "http"},
                    about,
                    payload,
                    expect=0,
                ),
                Entry(
                    f"task.{task}",
                    Kind.QUEUED,
                    {
                        "hook": "9",
                        "guid": name,
                        "delivery_seq": None,
                        "route": "r",
                        "kind": "run",
                        "replay": 0,
                        "priority": 0,
                        "policy": policy,
                        "event": "issues",
                        "action": action,
                    },
                    {**about, "key": key},
                    expect=0,
                ),
            ]
        )
        assert isinstance(answer, Appended)
        return task

    def records(self, task: str) -> list[Record]:
        return [record for record in self.journal.read(0) if record.subject == f"task.{task}"]

    def kinds(self, task: str) -> list[str]:
        return [
            f"phase {record.data['phase']}" if record.kind == Kind.PHASE else record.kind.removeprefix("task.")
            for record in self.records(task)
        ]

    def row(self, task: str) -> dict[str, Any]:
        assert self.folder.wait_for(self.journal.head().seq, 30)
        return query.task(self.store.reader(), task)

    def attempts(self, task: str) -> list[dict[str, Any]]:
        assert self.folder.wait_for(self.journal.head().seq, 30)
        return query.attempts(self.store.reader(), task)

    def wait(self, task: str, *states: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            row = self.row(task)
            return row if row["state"] in (states or ("completed", "failed")) else None

        return eventually(reached, what=f"{task} is {states or 'final'}")

    def file(self, task: str, name: str, attempt: int = 1) -> Path:
        return self.data / "attempts" / task / str(attempt) / name


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[[], House]]:
    opened: list[House] = []

    def make() -> House:
        opened.append(House(tmp_path / "data").open())
        return opened[-1]

    yield make
    for house in opened:
        house.files.full = False
        house.close()


@pytest.fixture
def house(make_house: Callable[[], House]) -> House:
    return make_house()


ENDED = ["queued", "claimed", "phase prepared", "phase started", "phase collected"]


def test_a_task_runs_and_completes(house: House) -> None:
    code = """if True:
        import json, os, sys
        brief = json.load(open(sys.argv[1]))
        json.dump({"stdin": sys.stdin.read(), "brief": brief, "argv": sys.argv[3:]}, open(sys.argv[2], "w"))
        print(json.dumps({k: v for k, v in os.environ.items() if k.startswith("COVENQ_")}))
        print("words", file=sys.stderr)
    """
    payload = b'{"text": "\xc3\xa9 $(touch owned)"}'
    task = house.add("g1", [*PY, code, "{brief}", "{result}", "{task}.{attempt}"], payload=payload)
    pool = house.pool()
    row = house.wait(task)
    assert (row["state"], row["attempts"], row["worker"]) == ("completed", 1, pool.id)
    assert house.kinds(task) == [*ENDED, "completed"]

    (attempt,) = house.attempts(task)
    claimed = next(r for r in house.records(task) if r.kind == Kind.CLAIMED)
    assert attempt["fence"] == fence(house.journal.epoch, claimed.seq)
    assert attempt["result"] == f"attempts/{task}/1/result"
    assert [name for name, _ in attempt["phases"]] == ["prepared", "started", "collected"]
    assert (attempt["outcome"], attempt["exit_code"]) == ("completed", 0)

    result = json.loads((house.data / attempt["result"]).read_bytes())
    assert result["stdin"].encode() == payload
    assert result["argv"] == [f"{task}.1"]
    assert result["brief"]["fence"] == attempt["fence"]
    assert result["brief"]["repo"] == "octo/hello"
    assert json.loads(house.file(task, "stdout").read_bytes()) == {
        "COVENQ_TASK": task,
        "COVENQ_ATTEMPT": "1",
        "COVENQ_FENCE": attempt["fence"],
        "COVENQ_HOOK": "9",
        "COVENQ_GUID": "g1",
        "COVENQ_EVENT": "issues",
        "COVENQ_ACTION": "opened",
        "COVENQ_REPO": "octo/hello",
        "COVENQ_PAYLOAD": str(house.file(task, "payload")),
        "COVENQ_RESULT": str(house.file(task, "result")),
        "COVENQ_SOCKET": str(house.data / "covenq.sock"),
    }
    assert house.file(task, "stderr").read_bytes() == b"words\n"


def test_the_daemons_environment_stays_the_daemons(house: House) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": "/h", "COVENQ_WEBHOOK_SECRET": "s3cret", "TOKEN": "t", "GIT": "g"}
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    task = house.add("g1", [*PY, code], env=["GIT"])
    house.pool(environ=environ)
    assert house.wait(task)["state"] == "completed"
    seen = json.loads(house.file(task, "stdout").read_bytes())
    assert {name for name in seen if not name.startswith("COVENQ_")} - {"LC_CTYPE"} == {"PATH", "HOME", "GIT"}
    assert "s3cret" not in seen.values()


def test_a_failure_retries_and_then_fails(house: House) -> None:
    task = house.add("g1", ["false"], retry={"max": 2, "backoff_s": 0.01, "cap_s": 0.02})
    house.pool()
    row = house.wait(task)
    assert (row["state"], row["category"], row["attempts"], row["retries"]) == ("failed", "exit", 3, 2)
    once = ENDED[1:]
    assert house.kinds(task) == ["queued", *once, "retry", *once, "retry", *once, "failed"]
    assert [a["outcome"] for a in house.attempts(task)] == ["failed"] * 3
    assert [a["exit_code"] for a in house.attempts(task)] == [1] * 3
    assert house.file(task, "stdout", 3).exists()


@pytest.mark.parametrize(
    ("run", "category", "exit_code", "number"),
    [
        ([*PY, "import sys; sys.exit(7)"], "exit", 7, None),
        ([*PY, "import os; os.kill(os.getpid(), 9)"], "signal", None, 9),
        (["/nonexistent/{brief}"], "spawn", None, None),
        ([], "policy", None, None),
    ],
)
def test_categories(house: House, run: list[str], category: str, exit_code: int | None, number: int | None) -> None:
    task = house.add("g1", run)
    house.pool()
    assert house.wait(task)["state"] == "failed"
    (attempt,) = house.attempts(task)
    assert (attempt["category"], attempt["exit_code"], attempt["signal"]) == (category, exit_code, number)


def test_timeout_kills_the_group(house: House) -> None:
    code = """if True:
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.fork()
        open(f"pid{os.getpid()}", "w").close()
        time.sleep(600)
    """
    task = house.add("g1", [*PY, code], timeout_s=1.0)
    house.pool(grace_s=0.1)
    row = house.wait(task)
    assert (row["state"], row["category"]) == ("failed", "timeout")
    for path in house.file(task, ".").glob("pid*"):
        eventually(lambda pid=int(path.name[3:]): not alive(pid))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_hostile_columns_reach_neither_argv_nor_paths(house: House) -> None:
    hostile = "../../../x;touch owned\x00\n$(touch owned)"
    task = house.add("g1", [*PY, "import os; print(ascii(os.environ['COVENQ_REPO']))"], repo=hostile, key=hostile)
    house.pool()
    assert house.wait(task)["state"] == "completed"
    assert house.file(task, "stdout").read_text().strip() == ascii("../../../x;touch owned\ufffd$(touch owned)")
    assert not list(house.data.rglob("owned"))
    assert [path.name for path in (house.data / "attempts").iterdir()] == [task]


def test_two_pools_on_one_journal_run_each_task_once(house: House) -> None:
    pools = [house.pool(concurrency=4), house.pool(concurrency=4)]
    tasks = [house.add(f"g{n}", ["true"]) for n in range(40)]
    for task in tasks:
        assert house.wait(task)["state"] == "completed"
    for task in tasks:
        assert Counter(house.kinds(task))["claimed"] == 1, house.kinds(task)
    assert pools[0].error is None
    assert pools[1].error is None


def test_more_tasks_than_workers_all_complete(house: House) -> None:
    tasks = [house.add(f"g{n}", ["true"]) for n in range(60)]
    house.pool(concurrency=3)
    for task in tasks:
        assert house.wait(task)["state"] == "completed"


def test_one_running_task_a_key(house: House, tmp_path: Path) -> None:
    code = """if True:
        import os, sys, time
        fd = os.open(sys.argv[1], os.O_CREAT | os.O_EXCL)
        time.sleep(0.02)
        os.unlink(sys.argv[1])
    """
    tasks = [house.add(f"g{n}", [*PY, code, str(tmp_path / "inside")], key="k") for n in range(8)]
    house.pool(concurrency=4)
    assert {house.wait(task)["state"] for task in tasks} == {"completed"}


def test_running_says_what_runs(house: House) -> None:
    task = house.add("g1", ["sleep", "600"])
    pool = house.pool()
    shown = eventually(pool.running)
    assert [(one["task"], one["attempt"], one["route"]) for one in shown] == [(task, 1, "r")]


def test_stop_ends_children_and_burns_nothing(house: House) -> None:
    task = house.add("g1", ["sleep", "600"])
    for n in range(1, 5):  # more often than interruptions are allowed
        pool = house.pool()
        eventually(lambda n=n: house.kinds(task).count("phase started") == n)
        assert pool.stop(30.0)
        row = house.row(task)
        assert (row["state"], row["attempts"], row["retries"], row["interruptions"]) == ("queued", n, 0, 0)
        assert house.attempts(task)[-1]["category"] == Category.INTERRUPTED
        assert house.attempts(task)[-1]["signal"] == signal.SIGTERM


def test_a_cancelled_task_is_not_finished_by_its_attempt(house: House, tmp_path: Path) -> None:
    """Whoever moved the task wins: the late completion is refused, and nothing of it is recorded."""
    gate = tmp_path / "gate"
    task = house.add("g1", [*PY, f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"])
    other = house.add("g2", ["true"], key="later")
    pool = house.pool(concurrency=1)
    newest = eventually(lambda: (r := house.records(task)[-1]).data.get("phase") == "started" and r)
    answer = house.journal.append(
        [Entry(f"task.{task}", Kind.CANCELLED, {"by": "me", "reason": None}, expect=newest.seq)]
    )
    assert isinstance(answer, Appended)
    gate.touch()
    assert house.wait(other)["state"] == "completed"
    assert house.kinds(task)[-1] == "cancelled"
    assert house.row(task)["state"] == "cancelled"
    assert pool.error is None


def test_a_requeued_task_runs_again(house: House) -> None:
    task = house.add("g1", [*PY, "import os, sys; sys.exit(os.environ['COVENQ_ATTEMPT'] == '1')"])
    house.pool()
    row = house.wait(task, "failed")
    house.journal.append([Entry(f"task.{task}", Kind.REQUEUED, {"by": "me", "reason": None}, expect=row["last_seq"])])
    assert house.wait(task, "completed")["attempts"] == 2


def test_a_full_disk_holds_the_end_until_there_is_space(house: House, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = house.add("g1", [*PY, f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"])
    waiting = house.add("g2", ["true"])
    pool = house.pool(concurrency=1)
    eventually(lambda: "phase started" in house.kinds(task))
    house.files.full = True
    gate.touch()
    eventually(lambda: house.journal.status().full)
    assert house.kinds(task)[-1] == "phase started"
    house.files.full = False
    assert house.wait(task)["state"] == "completed"
    assert house.wait(waiting)["state"] == "completed"
    assert house.kinds(task) == [*ENDED, "completed"]
    assert pool.error is None


def test_a_claim_on_a_full_disk_is_tried_again(house: House) -> None:
    task = house.add("g1", ["true"])
    house.files.full = True
    house.pool()
    eventually(lambda: house.journal.status().full)
    house.files.full = False
    assert house.wait(task)["state"] == "completed"
    assert house.kinds(task).count("claimed") == 1


def test_nothing_begins_while_the_disk_is_low(house: House) -> None:
    low = threading.Event()
    low.set()
    asked = threading.Event()

    def room() -> bool:
        asked.set()
        return not low.is_set()

    task = house.add("g1", ["true"])
    house.pool(room=room)
    assert asked.wait(30)
    assert house.kinds(task) == ["queued"]
    low.clear()
    assert house.wait(task)["state"] == "completed"


def test_a_dispatcher_that_stumbles_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covenq.tasks.execution.pool.AGAIN_S", 0.01)
    broken = iter([sqlite3.OperationalError("disk I/O error"), RuntimeError("what nobody thought of")])
    reader = house.store.reader

    def stumble() -> sqlite3.Connection:
        if threading.current_thread().name == "dispatcher" and (error := next(broken, None)) is not None:
            raise error
        return reader()

    monkeypatch.setattr(house.store, "reader", stumble)
    task = house.add("g1", ["true"])
    pool = house.pool()
    assert house.wait(task)["state"] == "completed"
    assert pool.error is None


def test_a_policy_that_makes_no_sense_fails_its_task_alone(house: House) -> None:
    odd = house.add("g1", ["true"], retry={"max": "many"})  # type: ignore[dict-item]
    good = house.add("g2", ["true"])
    house.pool()
    assert (house.wait(odd)["category"], house.wait(good)["state"]) == ("policy", "completed")


def test_a_stop_on_a_full_disk_leaves_the_task_to_recovery(make_house: Callable[[], House]) -> None:
    house = make_house()
    task = house.add("g1", ["sleep", "600"])
    pool = house.pool()
    eventually(lambda: "phase started" in house.kinds(task))
    house.files.full = True
    assert pool.stop(30.0)
    house.files.full = False
    assert house.kinds(task)[-1] == "phase started"
    house.close()
    house.open()
    house.pool()
    eventually(lambda: house.row(task)["interruptions"] == 1)
    eventually(lambda: house.kinds(task).count("phase started") == 2)


# ---- after a kill


def abandoned(house: House, task: str, interruptions: int) -> int:
    """Claim it as a daemon did that died since: the seq of the claim."""
    row = house.row(task)
    claim = {"attempt": row["attempts"] + 1, "worker": "dead", "lease_until": None}
    answer = house.journal.append([Entry(f"task.{task}", Kind.CLAIMED, claim, expect=row["last_seq"])])
    assert isinstance(answer, Appended)
    assert house.row(task)["interruptions"] == interruptions
    return answer.seqs[0]


def test_what_a_dead_daemon_ran_is_run_again_and_given_up_the_third_time(house: House) -> None:
    task = house.add("g1", ["true"])
    for interruptions in range(3):
        claim = abandoned(house, task, interruptions)
        pool = house.pool(concurrency=0)  # recovers, and runs nothing
        closed = eventually(lambda claim=claim: (r := house.records(task)[-1]).seq > claim and r)
        assert closed.data["claim"] == claim
        assert closed.data["interruptions"] == interruptions + 1
        assert closed.kind == (Kind.FAILED if interruptions == 2 else Kind.RETRY)
        pool.stop()
    row = house.row(task)
    assert (row["state"], row["category"], row["attempts"], row["retries"]) == ("failed", "interrupted", 3, 0)
    assert [a["category"] for a in house.attempts(task)] == ["interrupted"] * 3


def test_recovered_tasks_complete(house: House) -> None:
    tasks = [house.add(f"g{n}", ["true"]) for n in range(5)]
    for task in tasks:
        abandoned(house, task, 0)
    house.pool()
    for task in tasks:
        assert house.wait(task)["state"] == "completed"
        assert house.kinds(task).count("completed") == 1


def test_a_task_with_a_lease_is_left_to_its_worker(house: House) -> None:
    task = house.add("g1", ["true"])
    row = house.row(task)
    claim = {"attempt": 1, "worker": "elsewhere", "lease_until": "2999-01-01T00:00:00.000000Z"}
    house.journal.append([Entry(f"task.{task}", Kind.CLAIMED, claim, expect=row["last_seq"])])
    house.row(task)
    other = house.add("g2", ["true"])
    house.pool()
    assert house.wait(other)["state"] == "completed"
    assert house.kinds(task) == ["queued", "claimed"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="leftovers are found by Linux's /proc")
def test_what_a_dead_daemon_left_running_is_ended_before_the_task_runs_again(house: House) -> None:
    task = house.add("g1", ["true"])
    claim = abandoned(house, task, 0)
    environment = {"PATH": os.environ["PATH"], "COVENQ_FENCE": fence(house.journal.epoch, claim)}
    left = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"]}, start_new_session=True)
    ended = threading.Thread(target=left.wait)
    ended.start()
    try:
        house.pool()
        assert house.wait(task)["state"] == "completed"
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
from test_worker import House
house = House(Path(sys.argv[1])).open()
task = house.add("g1", ["sh", "-c", "echo $$ > pid; echo > started; exec sleep 600"])
house.pool()
threading.Event().wait()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="leftovers are found by Linux's /proc")
def test_a_killed_daemon_leaves_no_second_run_beside_the_first(tmp_path: Path, make_house: Callable[[], House]) -> None:
    """A real SIGKILL: what it ran lives on, and is ended before the next process runs the task again."""
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
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
        house = make_house()
        assert house.row(task)["state"] == "running"
        house.pool()
        second = started.parents[1] / "2" / "started"
        eventually(second.exists)
        assert not alive(pids[0])
        assert [a["category"] for a in house.attempts(task)] == ["interrupted", None]
    finally:
        doomed.kill()
        doomed.wait()
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_payload_no_longer_kept_fails_by_policy(house: House) -> None:
    delivery = house.journal.append(
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
    house.pool()
    row = house.wait("orphan")
    assert (row["state"], row["category"]) == ("failed", "policy")


def test_a_poisoned_journal_ends_the_pool_and_its_children(house: House) -> None:
    task = house.add("g1", ["sleep", "600"])
    pool = house.pool()
    eventually(lambda: "phase started" in house.kinds(task))

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    house.files.fdatasync = fail  # type: ignore[method-assign]
    with pytest.raises(JournalPoisoned):
        house.add("g2", ["true"])
    assert house.journal.poisoned
    assert pool.stop(30.0)
    assert pool.error
