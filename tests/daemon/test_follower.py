"""The process that folds, beside a real daemon: killed, stopped, replaced; and what it is able to see."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from covenq.state import rollups
from journal.file.open import open_journal
from tests.support.daemon import Daemon
from tests.support.journal_json import records
from tests.support.records import note, received
from tests.support.requests import SECRET, issue
from tests.support.same_state import assert_state_is_a_fresh_fold
from tests.support.waiting import eventually

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc shows it")

ROUTE = """
[worker]
concurrency = 2

[[route]]
name = "work"
match = "event:issues"
run = ["/bin/sh", "-c", "exit 0"]
"""


@pytest.fixture
def forked() -> bool:
    """Daemons whose followers are executed, as a user's are."""
    return False


def follower(daemon: Daemon) -> dict[str, int]:
    found: dict[str, int] = daemon.api("/api/v1/status").json["state"]["follower"]
    return found


def wait_folded(daemon: Daemon) -> None:
    """Wait until all that is recorded is in the state: that a task has ended can be read in the journal before."""
    eventually(lambda: daemon.api("/api/v1/status").json["state"]["lag"] == 0, 30, "it is folded")


def another(daemon: Daemon, pid: int) -> int:
    """Wait until another follower than `pid` has opened the state, and has caught up; its pid."""

    def replaced() -> int:
        state = daemon.api("/api/v1/status").json["state"]
        return int(state["follower"]["pid"]) if state["lag"] == 0 and state["error"] is None else pid

    return eventually(lambda: (now := replaced()) != pid and now, 60, daemon.log_tail())


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end if it is still there."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_one_that_is_killed_is_replaced_and_nothing_is_lost_or_shown_again(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE)
    seen = 0
    for kill in range(3):
        for n in range(5):
            assert daemon.post("issues", issue(n), f"k{kill}-{n}").status == 202
        pid = follower(daemon)["pid"]
        os.kill(pid, signal.SIGKILL)
        assert daemon.post("issues", issue(9), f"k{kill}-late").status == 202, "the intake doesn't wait for it"
        another(daemon, pid)
        now = daemon.api("/api/v1/status").json["state"]["seq"]
        assert now >= seen
        seen = now
    assert follower(daemon)["restarts"] == 3
    assert "the follower has ended (signal 9): another is started" in daemon.log_tail(20_000)
    daemon.wait_all_done()
    assert {len(ends) for ends in daemon.finished().values()} == {1}
    assert daemon.stop() == 0
    assert_state_is_a_fresh_fold(daemon.data)


def test_a_daemon_that_stops_has_it_catch_up_first(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE)
    for n in range(20):
        daemon.post("issues", issue(n))
    daemon.wait_all_done()
    pid = follower(daemon)["pid"]
    assert daemon.stop() == 0
    assert not is_there(pid)
    newest = max(record["seq"] for record in records(daemon.data) if record["kind"] != "journal.synced")
    with closing(sqlite3.connect(daemon.data / "state.db")) as conn:
        assert conn.execute("SELECT seq FROM position").fetchone()[0] >= newest
    assert_state_is_a_fresh_fold(daemon.data)


@LINUX
def test_it_dies_with_a_daemon_that_is_killed_and_leaves_no_lock(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE)
    pid = follower(daemon)["pid"]
    daemon.kill()
    eventually(lambda: not is_there(pid), 20, "it is gone")
    daemon.start()
    assert daemon.post("issues", issue(1)).status == 202
    daemon.wait_all_done()


@LINUX
def test_one_that_is_stopped_dies_with_a_daemon_that_is_killed(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE)
    pid = follower(daemon)["pid"]
    with stopped(pid):
        daemon.kill()
        eventually(lambda: not is_there(pid), 20, "it is gone")


@LINUX
def test_a_command_that_is_killed_at_its_timeout_leaves_it_alone(make_daemon: Callable[..., Daemon]) -> None:
    hides = "setsid sh -c 'exec -a hidden sleep 60' </dev/null >/dev/null 2>&1 & sleep 60"
    daemon = make_daemon(
        f"""
[[route]]
name = "slow"
match = "event:issues"
run = ["/bin/sh", "-c", "env -i PATH=\\"$PATH\\" {hides}"]
timeout = "1s"
retry = {{ max = 0 }}
"""
    )
    before = follower(daemon)
    daemon.post("issues", issue(1))
    ends = daemon.wait_all_done()
    assert list(ends.values()) == [["task.failed"]]
    assert follower(daemon) == before
    assert is_there(before["pid"])


@LINUX
def test_it_has_no_secret_and_no_descriptor_but_its_own(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE, env={"SOME_TOKEN": "sesame-" + SECRET})
    pid = follower(daemon)["pid"]
    if os.geteuid() != 0:
        pytest.skip("only root may read the environment of a process that hides its memory")
    said = Path(f"/proc/{pid}/environ").read_bytes()
    assert SECRET.encode() not in said
    assert {one.partition(b"=")[0] for one in said.split(b"\0") if one} <= {
        b"PYTHONPATH",
        b"PYTHONHOME",
        b"LD_LIBRARY_PATH",
        b"TMPDIR",
        b"SQLITE_TMPDIR",
        b"LC_CTYPE",
    }
    assert SECRET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    opened = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()]
    names = [Path(one).name for one in opened if one.startswith(str(daemon.data))]
    assert "lock" not in names, "the journal's lock is the daemon's"
    assert not [name for name in names if name.endswith(".jsonl")], "a segment would stay on the disk, if it is erased"
    assert not [one for one in opened if one.startswith("socket:")][1:], "its end of the daemon's socket"


@LINUX
def test_signals_of_a_terminal_are_the_daemons(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE)
    pid = follower(daemon)["pid"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert os.getpgid(pid) != os.getpgid(daemon.pid)
    assert daemon.post("issues", issue(1)).status == 202
    daemon.wait_all_done()
    assert follower(daemon) == {"pid": pid, "restarts": 0}


def test_a_state_that_is_gone_closes_the_intake_and_ends_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE)
    assert daemon.post("issues", issue(1)).status == 202
    daemon.wait_all_done()
    pid = follower(daemon)["pid"]
    for suffix in ("", "-wal", "-shm"):
        (daemon.data / f"state.db{suffix}").unlink(missing_ok=True)
    os.kill(pid, signal.SIGKILL)
    assert daemon.wait_exit(60) == 1
    said = daemon.log_tail()
    assert re.search(r"what its tasks rest on is gone: .*state\.db is not there", said), said
    assert "Traceback" not in said
    daemon.start()
    daemon.wait_all_done()
    assert daemon.cli_json("deliveries")["items"][0]["state"] == "completed"


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.lock"])
def test_a_pipe_in_a_files_place_hangs_nothing(make_daemon: Callable[..., Daemon], name: str) -> None:
    """As a command of the same user might leave one."""
    daemon = make_daemon(ROUTE)
    assert daemon.post("issues", issue(1)).status == 202
    daemon.wait_all_done()
    assert daemon.stop() == 0
    (daemon.data / name).unlink(missing_ok=True)
    os.mkfifo(daemon.data / name)
    daemon.start(wait=False)
    eventually(daemon.ready_or_gone, 60, "it serves, or says why not")
    if daemon.running:
        assert daemon.stop() == 0
    else:
        assert name in daemon.log_tail(), daemon.log_tail()


def test_what_keeps_it_from_folding_is_told_in_the_daemons_log(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE, args=["--log-format", "json"])
    daemon.post("issues", issue(1))
    daemon.wait_all_done()
    with closing(sqlite3.connect(daemon.data / "state.db")) as conn:
        conn.execute("DROP TABLE starts")  # not its doing: it meets a file that isn't what it should be
    daemon.post("issues", issue(2))
    eventually(lambda: "no such table" in daemon.log_tail(), 30, "it is told")
    lines = [line for line in daemon.log_tail().splitlines() if line]
    assert all(line.startswith("{") for line in lines), "each line is one of the daemon's"


def test_a_state_that_is_overwritten_is_named_and_made_anew_at_the_next_start(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon(ROUTE)
    for n in range(40):
        daemon.post("issues", issue(n))
    daemon.wait_all_done()
    wait_folded(daemon)
    assert follower(daemon)["restarts"] == 0
    path = daemon.data / "state.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    assert daemon.post("issues", issue(99)).status == 202, "the journal is what counts"
    for name in ("status", "tasks", "deliveries", "doctor"):
        done = daemon.cli(name, exit_code=None)
        assert done.returncode == 1, done
        said = (done.stdout + done.stderr).decode()
        assert "state.db" in said and ("Restart covenq" in said or "made again at the next start" in said), said
    assert daemon.api("/api/v1/status").status == 503
    daemon.stop()
    daemon.start()
    daemon.wait_all_done()
    assert len(daemon.cli_json("tasks")["items"]) == 41


def overwrite_row(path: Path, text: bytes) -> None:
    """Overwrite the pages that have a row with this text: of tables, which are read, and not of indexes, which the fold needs."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole, size = path.read_bytes(), 4096
    found = [at for at in range(size, len(whole), size) if whole[at] == 0x0D and text in whole[at : at + size]]
    assert found
    with path.open("r+b") as file:
        for at in found:
            file.seek(at)
            file.write(b"\xa5" * size)


def test_damage_that_only_readers_meet_is_an_alarm_and_is_made_anew_at_the_next_start(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon(ROUTE)
    for n in range(100):
        daemon.post("issues", issue(n), f"row-{n}")
    daemon.wait_all_done()
    wait_folded(daemon)
    overwrite_row(daemon.data / "state.db", b"row-40")
    pid = follower(daemon)["pid"]
    assert daemon.cli("show", "row-40", exit_code=None).returncode == 1
    asked = daemon.api("/api/v1/deliveries/row-40")
    assert (asked.status, asked.json["error"]) == (503, "state_unreadable")
    assert "Restart covenq" in asked.json["hint"]
    state = daemon.api("/api/v1/status").json["state"]
    assert state["damaged"] and state["error"] is None
    ready = daemon.get("/readyz")
    assert ready.status == 200 and any("state.db is damaged" in one for one in ready.json["alarms"]), ready.json
    assert b"DAMAGED     state.db" in daemon.cli("status", exit_code=5).stdout
    found = daemon.cli("doctor", exit_code=1).stdout
    assert b"state.db is damaged" in found
    daemon.post("issues", issue(200), "later")
    eventually(lambda: daemon.api("/api/v1/deliveries/later").status == 200, 30, "the fold goes on")
    os.kill(pid, signal.SIGKILL)
    another(daemon, pid)
    assert daemon.api("/api/v1/status").json["state"]["damaged"], "nor does another follower mend it"
    daemon.stop()
    daemon.start()
    daemon.wait_all_done()
    assert daemon.api("/api/v1/deliveries/row-40").status == 200
    assert not daemon.api("/api/v1/status").json["state"]["damaged"]
    daemon.stop()
    assert_state_is_a_fresh_fold(daemon.data)


def test_damage_that_is_met_without_a_daemon_is_made_anew_by_the_next_command(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon(ROUTE)
    for n in range(100):
        daemon.post("issues", issue(n), f"row-{n}")
    daemon.wait_all_done()
    daemon.stop()
    overwrite_row(daemon.data / "state.db", b"row-40")
    said = daemon.cli("show", "row-40", exit_code=1).stderr
    assert b"state.db" in said and b"made anew: type the command again" in said
    assert b"row-40" in daemon.cli("show", "row-40").stdout


def test_damage_is_remembered_over_its_death(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(ROUTE)
    daemon.post("issues", issue(1), "first")
    daemon.wait_all_done()
    pid = follower(daemon)["pid"]
    with stopped(pid):
        answer = daemon.post("issues", issue(2), "second")
        assert answer.status == 202
        segment = max(daemon.data.joinpath("journal").glob("*.jsonl"))
        whole = segment.read_bytes()
        segment.write_bytes(whole.replace(b'"guid":"second"', b'"guid":"secXnd"', 1))
    eventually(lambda: daemon.get("/readyz").status == 503, 30, "the intake closes")
    before = daemon.get("/readyz").json
    daemon.wait_told("ERROR covenq.state")  # what it logs is in the daemon's log
    pid = follower(daemon)["pid"]
    os.kill(pid, signal.SIGKILL)
    for _ in range(20):
        assert daemon.get("/readyz").status == 503
    eventually(lambda: follower(daemon)["pid"] != pid, 30)
    eventually(lambda: daemon.get("/readyz").json["reasons"] == before["reasons"], 30)


@contextmanager
def follows(daemon: Daemon, room: Path, *words: str) -> Iterator[Callable[[], str]]:
    """A command that follows, until this ends; and what it has said so far."""
    with (room / "said").open("wb") as said:
        argv = [sys.executable, "-m", "covenq", *words]
        process = subprocess.Popen(argv, env=daemon.environment(), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield (room / "said").read_text
    finally:
        process.kill()
        process.wait()


def statuses(daemon: Daemon, count: int, prefix: str) -> list[Any]:
    return [daemon.post("issues", issue(n), f"{prefix}{n}") for n in range(count)]


REFUSES_SOON = """if True:
    import sys
    from covenq.cli.main import main
    from covenq.state import folded
    folded.FOLD_S = 2.0
    sys.argv[:] = ["covenq", *sys.argv[sys.argv.index("covenq") + 1 :]]
    main()
"""
"""A wrapper before the daemon's command line: reads wait two seconds for the fold, not ten."""


@LINUX
def test_one_that_is_stopped_costs_the_intake_nothing_and_starts_no_task_twice(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.touch()
    route = ROUTE.replace("exit 0", f"echo $COVENQ_TASK >> {runs}")
    daemon = make_daemon(route, wrapper=[sys.executable, "-c", REFUSES_SOON])
    daemon.post("issues", issue(0), "before")
    daemon.wait_all_done()
    with ExitStack() as over:
        wrote = over.enter_context(follows(daemon, tmp_path, "tail", "-f", "--jsonl"))
        eventually(lambda: "before" in wrote(), 30, "it has begun")
        over.enter_context(stopped(follower(daemon)["pid"]))
        assert {one.status for one in statuses(daemon, 30, "s")} == {202}
        again = statuses(daemon, 3, "s")
        assert [(one.status, one.json["duplicate"]) for one in again] == [(200, True)] * 3
        behind = daemon.api("/api/v1/deliveries?filter=state:queued", timeout=60)
        assert behind.status == 503
        assert "records behind the journal" in behind.json["detail"]
        state = daemon.api("/api/v1/status").json["state"]
        assert state["lag"] >= 60
        eventually(lambda: "waiting for it" in wrote(), 60, "who follows is told, and not sent away")
        os.kill(follower(daemon)["pid"], signal.SIGCONT)
        daemon.wait_all_done()
        eventually(lambda: "s29" in wrote(), 60, "and goes on")
    ran = runs.read_text().split()
    assert len(ran) == len(set(ran)) == 31


def test_it_makes_the_rollups_that_statistics_are_by(make_daemon: Callable[..., Daemon], data: Path) -> None:
    data.mkdir(mode=0o700, exist_ok=True)
    number = 3 << rollups.BITS - 1
    with open_journal(data / "journal") as journal:
        journal.append([one for n in range(number) for one in (received(f"g{n}"), note("ignored", f"g{n}"))])
    daemon = make_daemon(ROUTE)

    def kept() -> int:
        with closing(sqlite3.connect(daemon.data / "state.db")) as conn:
            return int(conn.execute("SELECT count(*) FROM rollups").fetchone()[0])

    eventually(lambda: kept() == 3, 60, daemon.log_tail())
    by_rollups = daemon.api("/api/v1/stats").json
    assert by_rollups["deliveries"] == number
    by_rows = daemon.api("/api/v1/stats?filter=seq>0").json
    for name in ("deliveries", "bytes", "states", "events", "repos", "routes", "more"):
        assert by_rollups[name] == by_rows[name], name
    assert daemon.stop() == 0
    assert_state_is_a_fresh_fold(daemon.data)
