"""The supervision of the process that folds: real processes, and a clock that the test moves."""

from __future__ import annotations

import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from covenq.daemon import follower_process, following
from covenq.daemon.follower_messages import Alive, Damaged, Failing, Opened, Recovered, Suspect
from covenq.daemon.follower_process import environment
from covenq.daemon.following import Following
from covenq.errors import CovenqError, StateBehind, StopAsked
from covenq.state import fold_rate, folded
from covenq.state.folded import FoldedState
from covenq.state.progress import FoldProgress
from covenq.state.readers import Readers
from journal.errors import JournalDamaged, JournalError
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.records import Damage, Entry, Record
from tests.support.waiting import eventually


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    """Nothing is in it but what a test appends, however long that takes."""
    with open_journal(tmp_path / "journal", settings=WriteSettings(idle_s=3600.0)) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def followed(tmp_path: Path, journal: FileJournal, clock: Clock) -> Iterator[Following]:
    fold = Following(tmp_path / "state.db", tmp_path / "journal", monotonic=clock)
    try:
        fold.open(journal)
        fold.start()
        yield fold
    finally:
        fold.stop(10.0)


def append(journal: FileJournal, count: int = 1) -> int:
    for _ in range(count):
        journal.append([Entry("ops.x", "ops.note", {})])
    return journal.head().seq


def replaced(fold: Following, pid: int) -> None:
    """Look after it until another has opened the state."""
    eventually(lambda: fold.check() or (fold.pid != pid and fold._told is not None), 30, "another has opened the state")


def pass_time(fold: Following, clock: Clock, seconds: float) -> None:
    """As a daemon that looks after it does: by steps."""
    while seconds > 0:
        clock.now += min(10.0, seconds)
        seconds -= 10.0
        fold.check()


def test_what_is_appended_is_folded_and_who_waits_is_not_let_wait(followed: Following, journal: FileJournal) -> None:
    for _ in range(50):
        assert followed.wait_for(append(journal), 30)
    assert followed.lag == 0
    assert followed.error is None


def test_one_that_is_behind_and_silent_is_replaced(followed: Following, journal: FileJournal, clock: Clock) -> None:
    assert followed.wait_for(append(journal), 30)
    pid = followed.pid
    os.kill(pid, signal.SIGSTOP)
    pass_time(followed, clock, 10 * following.SILENT_S)
    assert followed.pid == pid and followed._process.ended() is None, "it isn't behind: nothing is expected of it"
    seq = append(journal)
    eventually(lambda: followed._told == seq, 30, "it is told")
    clock.now += 2 * following.SILENT_S
    followed.check()
    assert followed._process.ended() is None, "this process stood still itself"
    pass_time(followed, clock, following.SILENT_S - 1)
    assert followed._process.ended() is None
    clock.now += 2
    replaced(followed, pid)
    assert followed.wait_for(seq, 30)
    assert followed.restarts == 1


def test_one_that_works_on_something_long_is_not_silent(
    followed: Following, journal: FileJournal, clock: Clock
) -> None:
    assert followed.wait_for(append(journal), 30)
    os.kill(followed.pid, signal.SIGSTOP)
    seq = append(journal)
    eventually(lambda: followed._told == seq, 30, "it is told")
    for _ in range(3):
        pass_time(followed, clock, following.SILENT_S - 1)
        followed._hear(followed._process, Alive())
        followed.check()
    assert followed._process.ended() is None
    os.kill(followed.pid, signal.SIGCONT)
    assert followed.wait_for(seq, 30)


def test_one_that_does_not_stay_up_is_an_alarm(followed: Following, journal: FileJournal, clock: Clock) -> None:
    for _ in range(following.DEATHS):
        assert followed.loop.overdue is None
        pid = followed.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: followed.check() or followed.error, 30, "it is seen")
        clock.now += 10
        replaced(followed, pid)
    assert followed.loop.overdue is not None and "has ended 4 times" in followed.loop.overdue
    assert followed.wait_for(append(journal), 30)
    clock.now += following.DEATHS_S
    followed.check()
    assert followed.loop.overdue is None


def test_the_next_waits_longer_each_time_and_the_first_not_at_all(followed: Following, clock: Clock) -> None:
    pid = followed.pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: followed.check() or followed._start_at is not None, 30)
    assert followed._start_at is not None and followed._start_at - clock.now == pytest.approx(following.RESTARTS_S[1])
    clock.now += following.RESTARTS_S[1]
    replaced(followed, pid)
    clock.now += following.STEADY_S
    os.kill(followed.pid, signal.SIGKILL)
    pid = followed.pid
    eventually(lambda: followed.check() or followed.pid != pid, 30, "at once")


def test_what_was_folded_never_goes_back(
    tmp_path: Path, followed: Following, journal: FileJournal, clock: Clock
) -> None:
    seq = append(journal, 5)
    assert followed.wait_for(seq, 30)
    with closing(sqlite3.connect(tmp_path / "state.db")) as conn, conn:
        conn.execute("UPDATE position SET seq = 2")
    pid = followed.pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: followed.check() or followed._start_at is not None, 30)
    clock.now += 10
    eventually(lambda: followed.check() or followed.lost, 30, "it can't be followed any more")
    assert followed.lost is not None and "state.db is at" in followed.lost
    assert followed.folded == seq
    assert not followed.wait_for(append(journal), 0.01)


def test_a_state_that_can_not_be_opened_is_told_where_the_daemon_starts(tmp_path: Path, journal: FileJournal) -> None:
    (tmp_path / "state.db").mkdir()
    fold = Following(tmp_path / "state.db", tmp_path / "journal")
    with pytest.raises(CovenqError, match=r"state\.db can't be opened"):
        fold.open(journal)
    fold.stop(5.0)


def test_one_that_can_not_run_is_told_where_the_daemon_starts(
    tmp_path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower_process, "MODULE", "covenq.no_such_module")
    fold = Following(tmp_path / "state.db", tmp_path / "journal")
    with pytest.raises(CovenqError, match=r"doesn't open .*state\.db: exit code 1"):
        fold.open(journal)
    eventually(
        lambda: "No module named covenq.no_such_module" in caplog.text, 30, "what the interpreter said is logged"
    )
    fold.stop(5.0)


def test_one_that_is_killed_while_it_opens_the_state_is_started_again(
    tmp_path: Path, journal: FileJournal, caplog: pytest.LogCaptureFixture
) -> None:
    seq = append(journal)
    fold = Following(tmp_path / "state.db", tmp_path / "journal")
    pids = [fold.pid]
    os.kill(fold.pid, signal.SIGSTOP)  # it opens nothing

    def kill_it() -> bool:
        if fold._process.ended() is None and len(pids) == 1:
            os.kill(fold.pid, signal.SIGKILL)
            pids.append(0)
        return False

    fold.open(journal, kill_it)
    assert fold.pid != pids[0] and fold._told is not None
    assert "another is started" in caplog.text
    fold.start()
    assert fold.wait_for(seq, 30)
    fold.stop(10.0)


def test_one_that_hangs_does_not_hold_up_the_end(followed: Following, journal: FileJournal) -> None:
    assert followed.wait_for(append(journal), 30)
    os.kill(followed.pid, signal.SIGSTOP)
    append(journal)
    followed.stop(1.0)
    assert followed._process.ended() == "signal 9"
    assert not followed.wait_for(journal.head().seq, 30), "at once: nothing more is folded"


def test_a_journal_that_is_shorter_than_the_state_is_damage_where_the_daemon_starts(
    tmp_path: Path, journal: FileJournal
) -> None:
    append(journal, 5)
    fold = Following(tmp_path / "state.db", tmp_path / "journal")
    fold.open(journal)
    fold.start()
    assert fold.wait_for(5, 30)
    fold.stop(10.0)
    with closing(sqlite3.connect(tmp_path / "state.db")) as conn, conn:
        conn.execute("UPDATE position SET seq = 1000")
    fold = Following(tmp_path / "state.db", tmp_path / "journal")
    with pytest.raises(JournalDamaged, match="shorter than"):
        fold.open(journal)
    fold.stop(5.0)


def test_the_write_ahead_log_is_emptied_by_who_folds(tmp_path: Path, followed: Following, journal: FileJournal) -> None:
    assert followed.wait_for(append(journal, 50), 30)
    wal = tmp_path / "state.db-wal"
    assert wal.stat().st_size > 0
    with closing(sqlite3.connect(tmp_path / "state.db")) as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT * FROM position").fetchall()
        assert followed.wait_for(append(journal, 50), 30)
        assert not followed.scrub(), "a reader still needs it"
    assert followed.scrub()
    assert wal.stat().st_size == 0


def test_a_read_that_is_refused_says_how_far_it_is_and_until_when(
    tmp_path: Path, followed: Following, journal: FileJournal, clock: Clock
) -> None:
    assert followed.wait_for(append(journal), 30)
    os.kill(followed.pid, signal.SIGSTOP)
    append(journal, 3)
    state = FoldedState(journal, Readers(tmp_path / "state.db"), followed)
    followed.failed("a test lets nobody wait")
    clock.now += 10
    with pytest.raises(StateBehind, match="the state is 3 records behind the journal"):
        state.reader()
    os.kill(followed.pid, signal.SIGCONT)


def test_one_that_stands_still_is_not_told_of_as_a_slow_one(
    tmp_path: Path, followed: Following, journal: FileJournal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_rate, "FAR", 2)
    for _ in range(3):
        assert followed.wait_for(append(journal), 30)
        clock.now += 2
    os.kill(followed.pid, signal.SIGSTOP)
    append(journal, 3)
    eventually(lambda: (followed._told or 0) > followed.folded, 30, "it is told")
    followed.check()
    assert followed.left_s is not None and followed.still_since is None
    pass_time(followed, clock, 10.0)
    assert followed.left_s is None
    assert followed.still_since is not None
    said = followed.behind()
    assert f"the process that folds it (pid {followed.pid}) has folded nothing since " in str(said)
    assert re.search(r"since \d\d:\d\d:\d\dZ$", str(said))
    assert "caught up" not in str(said) and "replaced after 120 s of silence" in said.hint
    clock.now += 100 * fold_rate.WINDOW_S
    os.kill(followed.pid, signal.SIGCONT)
    assert followed.wait_for(journal.head().seq, 30)
    assert followed.still_since is None
    assert followed._rate.left_s(followed.folded, 1000) is None, "its rate is not that of the time it stood still"


def test_one_that_hangs_while_it_opens_the_state_does_not_hold_up_the_end(tmp_path: Path, journal: FileJournal) -> None:
    fold = Following(tmp_path / "state.db", tmp_path / "journal")
    os.kill(fold.pid, signal.SIGSTOP)
    asked = iter([False, True])
    with pytest.raises(StopAsked):
        fold.open(journal, lambda: next(asked))
    fold.stop(0.0)
    assert fold._process.ended() == "signal 9"


def test_damage_that_each_one_finds_again_is_logged_once(
    tmp_path: Path, followed: Following, journal: FileJournal, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert followed.wait_for(append(journal, 3), 30)
    os.kill(followed.pid, signal.SIGKILL)
    eventually(lambda: followed.check() or followed._start_at is not None, 30)
    [segment] = (tmp_path / "journal").glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b'"seq":3,', b'"seq":3 ,'))
    for restarts in (1, 2, 3):
        pass_time(followed, clock, 10)
        assert followed.restarts == restarts
        eventually(lambda: followed.check() or followed._start_at is not None, 30, "it has found the damage")
        assert followed.damage is not None
    assert caplog.text.count("another is started") == 2, "of the kill, and of the damage"


def test_it_loads_nothing_of_the_daemon() -> None:
    code = "import sys, covenq.daemon.follower; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    for name in (
        "falcon",
        "waitress",
        "textual",
        "typer",
        "rich",
        "covenq.http",
        "covenq.tasks",
        "covenq.intake",
        "covenq.operate",
    ):
        assert name not in loaded


def test_damage_is_known_until_it_is_folded_past(followed: Following, journal: FileJournal) -> None:
    assert followed.wait_for(append(journal), 30)
    damage = JournalDamaged([Damage("flipped", "x", 0, 2, None, "its sum does not match")])
    followed._hear(followed._process, Damaged("the journal can't be read", tuple(damage.damage)))
    followed._hear(followed._process, Failing("no file can be opened", full=False))
    assert followed.damage is not None, "other trouble disproves nothing"
    followed._hear(followed._process, Opened(followed.folded))
    assert followed.damage is not None, "nor does another follower that has folded nothing yet"
    followed._hear(followed._process, Recovered())
    assert followed.damage is None


def test_damage_that_the_follower_meets_beside_the_fold_is_as_a_readers(
    followed: Following, journal: FileJournal, clock: Clock
) -> None:
    assert followed.wait_for(append(journal), 30)
    followed._hear(followed._process, Suspect())
    assert followed.distrusted and followed.error is None
    followed.check()
    eventually(lambda: followed._marked)


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "none is left"), RuntimeError("can't start new thread")])
def test_one_that_can_not_be_started_is_tried_again(
    followed: Following, journal: FileJournal, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert followed.wait_for(append(journal), 30)
    pid = followed.pid

    class Refused(threading.Thread):
        def start(self) -> None:
            raise error

    os.kill(pid, signal.SIGKILL)
    eventually(lambda: followed.check() or followed._start_at is not None, 30)
    with monkeypatch.context() as without:
        if isinstance(error, RuntimeError):
            without.setattr(follower_process.threading, "Thread", Refused)
        else:
            without.setattr(follower_process.subprocess, "Popen", lambda *a, **b: (_ for _ in ()).throw(error))
        pass_time(followed, clock, 20)
    assert followed.restarts == 0
    assert followed.error is not None and "can't be started" in followed.error
    pass_time(followed, clock, 10)
    replaced(followed, pid)
    assert followed.wait_for(append(journal), 30)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "too many open files"), JournalError("it does not verify")])
def test_a_record_that_can_not_be_read_keeps_the_next_from_starting_and_ends_nothing(
    followed: Following, journal: FileJournal, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert followed.wait_for(append(journal), 30)
    pid = followed.pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: followed.check() or followed._start_at is not None, 30)

    def unreadable(seq: int) -> Record | None:
        raise error

    with monkeypatch.context() as without:
        without.setattr(journal, "get", unreadable)
        pass_time(followed, clock, 20)
    assert followed.restarts == 0
    assert followed.error is not None and "can't be started" in followed.error
    pass_time(followed, clock, 10)
    replaced(followed, pid)
    assert followed.wait_for(append(journal), 30)


def test_a_path_need_not_be_text(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"d\xff")
    place.mkdir()
    with open_journal(place / "journal") as journal:
        fold = Following(place / "state.db", place / "journal")
        fold.open(journal)
        fold.start()
        assert fold.wait_for(append(journal), 30)
        fold.stop(10.0)
        (place / "state.lock").unlink()
        (place / "state.lock").mkdir()
        fold = Following(place / "state.db", place / "journal")
        with pytest.raises(CovenqError, match=r"state\.lock: Is a directory"):
            fold.open(journal)
        fold.stop(5.0)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_no_longer_there_is_found_though_nothing_is_appended(
    tmp_path: Path, followed: Following, journal: FileJournal, clock: Clock, how: str
) -> None:
    assert followed.wait_for(append(journal), 30)
    state = tmp_path / "state.db"
    if how == "replaced":
        (tmp_path / "other").write_bytes(state.read_bytes())
        (tmp_path / "other").rename(state)
    else:
        state.unlink()
    eventually(lambda: followed.check() or followed._start_at is not None, 30, "it ends by itself")
    assert followed.error is not None and how in followed.error
    clock.now += 10
    if how == "removed":
        eventually(lambda: followed.check() or followed.lost, 30, "what was folded is gone")
    else:
        replaced(followed, 0)


def test_requests_do_not_each_wait_for_a_fold_that_stands_still(tmp_path: Path, journal: FileJournal) -> None:
    waited: list[float] = []

    class Stopped(FoldProgress):
        def wait_for(self, seq: int, timeout: float, unless: Callable[[], bool] = lambda: False) -> bool:
            waited.append(timeout)
            return False

    fold = Stopped(lambda: 9, 5)
    state = FoldedState(journal, Readers(tmp_path / "state.db"), fold)
    for _ in range(3):
        assert not state.wait_for(9)
    fold.advanced(6, moved_tasks=False)
    assert not state.wait_for(9)
    assert waited == [folded.TWINS_S, 0.0, 0.0, folded.TWINS_S]


def test_its_environment_has_no_secret_and_finds_the_modules() -> None:
    found = environment(
        {"COVENQ_WEBHOOK_SECRET": "s", "PATH": "/bin", "TMPDIR": "/scratch"}, ["/lib/python", "", "rel"]
    )
    assert found == {"TMPDIR": "/scratch", "PYTHONPATH": os.pathsep.join(["/lib/python", str(Path("rel").absolute())])}


def test_it_finds_the_password_of_a_database() -> None:
    env = {"PGPASSFILE": "/etc/pgpass", "HOME": "/home/covenq", "COVENQ_WEBHOOK_SECRET": "s", "PATH": "/bin"}
    assert environment(env, []) == {"PYTHONPATH": ""}
    found = environment(env, [], database=True)
    assert found == {"HOME": "/home/covenq", "PGPASSFILE": "/etc/pgpass", "PYTHONPATH": ""}


def test_what_lies_in_the_working_directory_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m covenq` has it first on its path, and an interpreter imports sitecustomize by itself."""
    monkeypatch.chdir(tmp_path)
    assert environment({}, [str(tmp_path), "/lib/python"]) == {"PYTHONPATH": "/lib/python"}
    home = Path(follower_process.covenq.__file__).parents[1]
    monkeypatch.chdir(home)
    assert environment({}, [str(home)]) == {"PYTHONPATH": str(home)}, "where covenq itself is"
