"""One owner of state.db: its lock between processes, what a second folder may not do, and a file that isn't as it was left."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from covenq.errors import CovenqError, StateLocked, StateNotAsLeft, StateTaken
from covenq.state import query
from covenq.state.lock import lock_path
from covenq.state.store import StateStore, overlay
from journal import flock
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.reader import open_reader
from journal.file.settings import WriteSettings
from journal.records import NO_SUM, Appended, Entry, Witness
from tests.support.checkout import ROOT
from tests.support.records import dump, note, of, queued, received

_FOLDER = """
import sys
from pathlib import Path
from covenq.state.store import StateStore
from journal.file.reader import open_reader

path = Path(sys.argv[1])
with open_reader(path.parent / "journal") as reader, StateStore(path, reader) as store:
    store.catch_up()
    print("folded", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    with open_journal(tmp_path / "journal", settings=WriteSettings(idle_s=3600)) as one:
        yield one


def append(journal: FileJournal, *entries: Entry) -> int:
    answer = journal.append(entries)
    assert isinstance(answer, Appended)
    return answer.seqs[-1]


def filled(path: Path, journal: FileJournal, deliveries: int = 5) -> Witness:
    """A state.db that has folded the whole journal; its position."""
    append(journal, *(entry for n in range(deliveries) for entry in (received(f"g{n}"), queued(f"g{n}"))))
    with StateStore(path, journal) as store:
        store.catch_up()
        position = store.position()
    assert position is not None
    return position


@contextmanager
def another_folder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has folded the file, and holds it until a line comes, or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _FOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert _pipe(process.stdout).readline() == "folded\n"
            yield process
        finally:
            process.kill()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def content(path: Path) -> dict[str, bytes]:
    """The files of state.db but its shared memory, which says who reads."""
    return {one.name: one.read_bytes() for one in path.parent.glob("state.db*") if not one.name.endswith("-shm")}


# ---- the lock


def test_one_process_folds_at_a_time_and_the_other_is_named(path: Path, journal: FileJournal) -> None:
    filled(path, journal)
    with another_folder(path) as other:
        assert flock.holder(lock_path(path)) == other.pid
        with pytest.raises(StateLocked, match=f"folded by process {other.pid}") as caught:
            StateStore(path, journal, lock_s=0.1)
        assert caught.value.exit_code == 4
        assert str(other.pid) in caught.value.hint
        other.send_signal(signal.SIGKILL)
        other.wait(30)
        with StateStore(path, journal, lock_s=0) as store:
            assert store.catch_up() == journal.head().seq
            assert flock.holder(lock_path(path)) == os.getpid()
    assert flock.holder(lock_path(path)) is None
    assert lock_path(path).exists()


def test_who_ends_meanwhile_is_waited_for(path: Path, journal: FileJournal) -> None:
    filled(path, journal)
    with another_folder(path) as other:
        opened: list[StateStore] = []
        waiting = threading.Thread(target=lambda: opened.append(StateStore(path, journal, lock_s=60)))
        waiting.start()
        _pipe(other.stdin).write("end\n")
        _pipe(other.stdin).flush()
        waiting.join(60)
        assert other.wait(30) == 0
    with opened[0] as store:
        assert store.catch_up() == journal.head().seq


def test_a_command_that_is_started_meanwhile_holds_nothing(path: Path, journal: FileJournal) -> None:
    with StateStore(path, journal):
        command = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        StateStore(path, journal, lock_s=0).close()
    finally:
        command.kill()
        command.wait()


def test_the_lock_is_its_users_alone_and_free_where_the_file_could_not_be_opened(
    path: Path, journal: FileJournal
) -> None:
    path.mkdir()
    for _ in range(2):
        with pytest.raises(CovenqError, match="can't be opened"):
            StateStore(path, journal, lock_s=0)
    assert stat.S_IMODE(lock_path(path).stat().st_mode) == 0o600


@pytest.mark.parametrize("make", [lambda lock: lock.symlink_to("elsewhere"), lambda lock: lock.mkdir()])
def test_what_is_no_lock_is_one_sentence(path: Path, journal: FileJournal, make: Callable[[Path], None]) -> None:
    make(lock_path(path))
    with pytest.raises(CovenqError, match=r"state\.lock"):
        StateStore(path, journal)
    assert not path.exists() and not (path.parent / "elsewhere").exists()


def test_a_lock_that_was_replaced_meanwhile_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open and lock somebody removes the file: the one that has the name now is locked."""
    path, locks = tmp_path / "lock", []
    real = flock.fcntl.flock

    def locked(fd: int, how: int) -> None:
        if not locks:
            path.unlink()
        locks.append(os.fstat(fd).st_ino)
        real(fd, how)

    monkeypatch.setattr(flock.fcntl, "flock", locked)
    lock = flock.FileLock(path)
    assert len(locks) == 2 and locks[-1] == path.stat().st_ino
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_an_answer_without_a_daemon_needs_no_lock_and_leaves_the_file_to_its_owner(
    path: Path, journal: FileJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covenq.state.store.OVERLAY_LOCK_S", 0)
    filled(path, journal)
    with another_folder(path), closing(sqlite3.connect(path)) as conn:
        before = dump(conn)
        append(journal, received("late"))
        append(journal, received("later"))  # which says that the one before is durable
        with open_reader(tmp_path / "journal") as reader, overlay(path, reader, commit=True) as seen:
            assert query.delivery(seen, None, "late").state == "received"
        assert dump(conn) == before
    with open_reader(tmp_path / "journal") as reader, overlay(path, reader, commit=True):
        pass
    with closing(sqlite3.connect(path)) as conn:
        assert len(dump(conn)["webhook_deliveries"]) > 5


# ---- a second folder, where the lock failed


@pytest.mark.parametrize("after_a_batch", [False, True])
def test_who_finds_that_another_folded_the_file_touches_nothing_from_then_on(
    path: Path, journal: FileJournal, after_a_batch: bool
) -> None:
    filled(path, journal)
    append(journal, received("between"))
    with StateStore(path, journal) as stale:
        if after_a_batch:
            stale.catch_up()
        append(journal, received("late"), queued("late"), note("repeated", "late"))
        append(journal, received("more"))  # which says that those before are durable
        lock_path(path).unlink()  # as an operator may, who takes it for a leftover
        with another_folder(path), closing(sqlite3.connect(path)) as conn:
            left = dump(conn)
            append(journal, received("later"))
            for _ in range(2):
                with pytest.raises(StateTaken, match="was folded by another process meanwhile"):
                    stale.catch_up()
            with pytest.raises(StateTaken):
                stale.mark_for_rebuild()
            assert dump(conn) == left
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert query.task(stale.reader(), of("late")).state == "queued"
    with StateStore(path, journal) as store:
        assert store.folded == left["position"][0][2], "nothing was distrusted, nothing is made again"
        assert store.catch_up() == journal.head().seq


def test_a_file_that_another_marked_or_made_for_another_journal_is_not_marked(path: Path, journal: FileJournal) -> None:
    filled(path, journal)
    for change in (
        "UPDATE position SET journal = 'other'",
        "UPDATE position SET sum = 'other'",
        "PRAGMA user_version = 9",
    ):
        with StateStore(path, journal) as store, closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute(change)
            with pytest.raises(StateTaken):
                store.mark_for_rebuild()
            assert conn.execute("PRAGMA user_version").fetchone()[0] != 0
            with pytest.raises(StateTaken):
                store.catch_up()


# ---- a file that has to be as it was left


def test_a_file_at_or_past_what_was_seen_is_opened_as_it_is(path: Path, journal: FileJournal) -> None:
    seen = filled(path, journal)
    for witness in (seen, Witness(journal.id, 0, NO_SUM)):
        with StateStore(path, journal, at_least=witness) as store:
            assert store.folded == seen.seq
    append(journal, received("late"))
    with StateStore(path, journal, at_least=seen) as store:
        late = store.catch_up()
    with StateStore(path, journal, at_least=seen) as store:
        assert store.folded == late


def _executed(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute(statement)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Path.unlink, "is not there"),
        (lambda path: path.write_bytes(b""), "schema 0"),
        (lambda path: path.write_bytes(b"not a database" * 500), "can't be read"),
        (_executed("PRAGMA user_version = 7"), "schema 7"),
        (_executed("UPDATE position SET epoch = 'f00df00df00df00d'"), "epoch f00d"),
        (_executed("UPDATE position SET journal = 'other'"), "journal other"),
        (_executed("UPDATE position SET seq = 3"), "at record 3"),
        (_executed("UPDATE position SET sum = 'other'"), "at record 10"),
        (_executed("DELETE FROM position"), "at no record"),
    ],
)
def test_a_file_that_is_not_as_its_readers_saw_it_is_left_alone(
    path: Path, journal: FileJournal, change: Callable[[Path], None], said: str
) -> None:
    seen = filled(path, journal)
    change(path)
    before = content(path)
    with pytest.raises(StateNotAsLeft, match=said) as caught:
        StateStore(path, journal, at_least=seen)
    assert f"seen record {seen.seq}" in str(caught.value)
    assert "restart the daemon" in caught.value.hint
    assert content(path) == before


def test_another_record_than_was_seen_is_told(path: Path, journal: FileJournal) -> None:
    seen = filled(path, journal)
    append(journal, received("late"))
    with StateStore(path, journal) as store:
        store.catch_up()
    with pytest.raises(StateNotAsLeft):
        StateStore(path, journal, at_least=Witness(journal.id, seen.seq, "other"))
