"""How attempts end that don't end by themselves, and what is left of them: nothing that runs, no token, what was used."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.model import Kind
from covenq.tasks.execution.scrub import Scrubber
from journal.records import Appended, Entry
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.pool import Harness, alive, kill
from tests.support.requests import issue
from tests.support.waiting import eventually

PY = [sys.executable, "-S", "-c"]

FAMILY = """if True:
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    def note(name):
        with open(os.path.join(sys.argv[1], f"{name}.{os.getpid()}"), "w"):
            pass
    def rest():
        while True:
            time.sleep(600)
    if os.fork() == 0:  # in the group
        note("group")
        rest()
    if os.fork() == 0:  # its own session, twice removed
        os.setsid()
        if os.fork() == 0:
            note("daemon")
            rest()
        os._exit(0)
    if os.fork() == 0:  # and this one hides: no token, no pipes, no parent, another directory
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            code = ("import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                    "open(os.path.join(sys.argv[1], f'hidden.{os.getpid()}'), 'w').close();"
                    "time.sleep(600); time.sleep(600)")
            os.execve(sys.executable, [sys.executable, "-S", "-c", code, sys.argv[1]], {})
        os._exit(0)
    note("leader")
    rest()
"""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data").open()
    yield harness
    harness.files.full = False
    harness.close()


def cancel(harness: Harness, task: str) -> None:
    newest = harness.records(task)[-1]
    entry = Entry(f"task.{task}", Kind.CANCELLED, {"by": "me", "reason": None}, expect=newest.seq)
    assert isinstance(harness.journal.append([entry]), Appended)


def family(directory: Path, *names: str) -> dict[str, int]:
    """name → pid of those that have said they are there, once all of `names` have."""
    found = {path.name.partition(".")[0]: int(path.name.partition(".")[2]) for path in directory.iterdir()}
    assert set(names) <= set(found)
    return found


def gone(pids: dict[str, int]) -> bool:
    left = [name for name, pid in pids.items() if alive(pid)]
    assert not left, left
    return True


@pytest.fixture
def met(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "met"
    directory.mkdir()
    yield directory
    for path in directory.iterdir():
        pid = int(path.name.partition(".")[2])
        if alive(pid):
            kill(pid)


ALL = ("leader", "group", "daemon", "hidden")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux shows whose a process is")
@pytest.mark.parametrize("how", ["timeout", "cancel", "stop"])
def test_a_family_that_ignores_sigterm_is_gone_all_of_it(make_daemon: Any, met: Path, how: str) -> None:
    """By the real daemon, which is the parent of orphans: also of the one that shed everything it could be known by."""
    (met.parent / "family.py").write_text(FAMILY)
    run = f'run = ["{sys.executable}", "-S", "{met.parent}/family.py", "{met}"]'
    timeout = "5s" if how == "timeout" else "10m"
    daemon: Daemon = make_daemon(
        config=f'[[route]]\nname = "r"\nmatch = "event:issues"\n{run}\ntimeout = "{timeout}"\n'
    )
    task = daemon.post("issues", issue(7)).json["tasks"][0]
    pids = eventually(lambda: family(met, *ALL), what="all of them are there")
    if how == "cancel":
        daemon.cli("cancel", task)
    elif how == "stop":
        daemon.stop()
    eventually(lambda: gone(pids), what="all of them are gone")
    last = records(daemon.data)
    ended = {"timeout": "task.failed", "cancel": "task.cancelled", "stop": "task.retry"}[how]
    eventually(lambda: ended in [one["kind"] for one in records(daemon.data)], what=f"it is recorded: {last[-1]}")


def test_a_cancelled_task_is_ended_and_its_result_is_dropped(harness: Harness) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('result','w').write('{}'); time.sleep(600)"
    task = harness.add("g1", [*PY, code])
    after = harness.add("g2", ["true"])
    pool = harness.pool(concurrency=1, grace_s=0.1)
    eventually(lambda: harness.file(task, "result").exists())
    eventually(lambda: "phase started" in harness.kinds(task))
    cancel(harness, task)
    assert harness.wait(after).state == "completed"  # its place is free again
    assert harness.kinds(task)[-1] == "cancelled"
    (attempt,) = harness.attempts(task)
    assert (attempt.outcome, attempt.result) == ("cancelled", None)
    assert not [r for r in harness.journal.read(0) if r.kind == "ops.late"]
    assert pool.error is None


def test_a_requeued_task_does_not_overlap_the_attempt_that_lost_it(harness: Harness, tmp_path: Path) -> None:
    code = """if True:
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL))  # fails while another is there
        if os.environ["COVENQ_ATTEMPT"] == "1":
            time.sleep(600)
    """
    inside = tmp_path / "inside"
    task = harness.add("g1", [*PY, code, str(inside)])
    harness.pool(concurrency=4, grace_s=0.3)
    eventually(inside.exists)
    eventually(lambda: "phase started" in harness.kinds(task))
    pid = json.loads((harness.data / "running" / f"{task}.1.json").read_bytes())["pid"]
    cancel(harness, task)
    last = harness.records(task)[-1].seq
    inside.unlink()
    harness.journal.append([Entry(f"task.{task}", Kind.REQUEUED, {"by": "me", "reason": None}, expect=last)])
    assert harness.wait(task).state == "completed"
    assert not alive(pid)
    assert inside.exists()


def test_a_late_end_of_the_daemons_own_attempt_is_recorded_as_such(harness: Harness, tmp_path: Path) -> None:
    """The fold is behind, so the pool can't see that the task was taken; the journal refuses its records all the same."""
    admission = tmp_path / "gate"
    task = harness.add("g1", [*PY, f"import os, time\nwhile not os.path.exists({str(admission)!r}): time.sleep(0.01)"])
    pool = harness.pool(concurrency=1)
    eventually(lambda: "phase started" in harness.kinds(task))
    pool._drop_lost = lambda conn: None  # type: ignore[method-assign]
    cancel(harness, task)
    admission.touch()
    (late,) = eventually(lambda: [r.data for r in harness.journal.read(0) if r.kind == "ops.late"])
    assert late == {
        "task": task,
        "attempt": 1,
        "fence": harness.attempts(task)[0].fence,
        "what": "complete",
        "worker": pool.id,
    }
    assert harness.kinds(task)[-1] == "cancelled"


def test_what_a_command_prints_is_scrubbed(harness: Harness) -> None:
    token, key = "ghs_" + "Ab1" * 12, "correct horse battery staple"
    code = """if True:
        import os, sys
        for character in "a token: " + os.environ["GH_TOKEN"] + "!":
            os.write(1, character.encode())
        os.write(2, ("key " + os.environ["DEPLOY_KEY"] + " and ring-7734").encode())
        os.write(1, os.environ["COLOUR"].encode())
    """
    environ = {"PATH": os.environ["PATH"], "GH_TOKEN": token, "DEPLOY_KEY": key, "COLOUR": "green"}
    task = harness.add("g1", [*PY, code], env=["GH_TOKEN", "DEPLOY_KEY", "COLOUR"])
    harness.pool(environ=environ, scrubber=lambda secrets: Scrubber([r"ring-\d+"], secrets))
    assert harness.wait(task).state == "completed"
    assert harness.file(task, "stdout").read_text() == "a token: ghs_***!green"
    assert harness.file(task, "stderr").read_text() == "key *** and ***"


def test_an_attempt_says_what_it_used(harness: Harness) -> None:
    code = "import time; x = bytearray(60 << 20)\nwhile time.process_time() < 0.3: pass"
    task = harness.add("g1", [*PY, code])
    harness.pool()
    assert harness.wait(task).state == "completed"
    usage = harness.attempts(task)[0].usage
    assert usage["user_s"] + usage["system_s"] >= 0.3
    assert usage["max_rss"] >= 60 << 20


@pytest.mark.parametrize(
    ("limits", "run", "category", "said"),
    [
        ({"cpu_s": 1}, [*PY, "while True: pass"], "signal", "used up its 1 s of processor time"),
        ({"memory": 256 << 20}, [*PY, "bytearray(1 << 30)"], "exit", "exited with 1"),
        ({"file_size": 1000}, ["dd", "if=/dev/zero", "of=f", "bs=2000"], "signal", "passed its 1000 bytes"),
        ({"open_files": 16}, [*PY, "import os\nfor _ in range(20): os.open('.', 0)"], "exit", "exited with 1"),
        ({"cpu_s": 60}, ["true"], None, None),
    ],
    ids=["cpu", "memory", "file_size", "open_files", "enough"],
)
def test_limits(
    harness: Harness, limits: dict[str, int], run: list[str], category: str | None, said: str | None
) -> None:
    task = harness.add("g1", run, limits=limits)
    harness.pool()
    row = harness.wait(task)
    assert (row.state, row.category) == ("failed" if category else "completed", category), row
    assert said is None or said in row.detail


def test_a_command_with_limits_that_can_not_be_started_says_so(harness: Harness) -> None:
    task = harness.add("g1", ["/nonexistent/program"], limits={"cpu_s": 5})
    harness.pool()
    row = harness.wait(task)
    assert (row.state, row.category) == ("failed", "spawn")
    assert row.detail == "/nonexistent/program could not be started: No such file or directory"


@pytest.mark.parametrize(
    ("keep", "code", "left"), [("failed", 0, False), ("failed", 1, True), ("logs", 1, False), ("all", 0, True)]
)
def test_what_stays_of_the_work_directory(harness: Harness, tmp_path: Path, keep: str, code: int, left: bool) -> None:
    work = f"""if True:
        import os, sys
        os.makedirs("clone/.git/objects"); open("clone/.git/objects/x", "w").close(); os.chmod("clone/.git", 0o500)
        os.symlink({str(tmp_path)!r}, "link"); open("result", "w").write("1"); print("said"); sys.exit({code})
    """
    (tmp_path / "mine").touch()
    task = harness.add("g1", [*PY, work], keep=keep)
    harness.pool()
    harness.wait(task)
    assert harness.file(task, "clone").exists() is left
    assert os.path.lexists(harness.file(task, "link")) is left
    assert (tmp_path / "mine").exists()
    assert harness.file(task, "stdout").read_text() == "said\n"
    assert harness.file(task, "result").exists()
