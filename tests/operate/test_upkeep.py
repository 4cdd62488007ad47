"""Upkeep in the daemon: the ballast, allocated, released when the disk is full, allocated again; and its compaction."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from covenq.config.retention import Retention
from covenq.intake.admission import Admission, poisoned_sentence
from covenq.operate.maintain.upkeep import Upkeep
from covenq.operate.maintain.upkeep_work import compact
from covenq.operate.parameters import Compact
from covenq.state.store import StateStore
from journal.file.files import OsFiles
from journal.file.reserve import Reserve, ballast_of, threshold_of
from journal.health import Health, Room
from tests.support.daemon import Daemon
from tests.support.fold_thread import FoldThread
from tests.support.journals.chosen import open_chosen
from tests.support.records import note, received
from tests.support.requests import issue
from tests.support.waiting import eventually

Make = Callable[..., Daemon]


@pytest.mark.files("calls of the disk fail")
def test_a_daemon_lays_the_ballast_and_gives_it_to_the_end_of_what_runs(
    make_daemon: Make, faults: Path, tmp_path: Path
) -> None:
    started, go_on, ended = (tmp_path / name for name in ("started", "go_on", "ended"))
    script = f"touch {started}; while ! test -e {go_on}; do sleep 0.02; done; touch {ended}"
    route = f'[[route]]\nname = "all"\nmatch = "event:issues"\nrun = ["sh", "-c", "{script}"]\n'
    daemon = make_daemon(route, faults=faults)
    ballast = daemon.data / "journal" / "ballast"
    eventually(ballast.exists, 30, "it is laid")
    found = os.statvfs(daemon.data)
    eventually(lambda: ballast.stat().st_size == ballast_of(found.f_blocks * found.f_frsize), 30, "all of it")
    assert daemon.post("issues", issue()).status == 202
    eventually(started.exists, 30, "it runs")

    (faults / "pwrite").write_text("ENOSPC")
    go_on.touch()
    eventually(ended.exists, 30, "the command ended")
    eventually(lambda: "ballast was released" in daemon.log_tail(), 30, "its end found no space")
    (faults / "pwrite").unlink()
    assert list(daemon.wait_all_done().values()) == [["task.completed"]]
    eventually(ballast.exists, 30, "it is laid again")
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("total", "ballast", "threshold"),
    [(1 << 41, 16 << 20, 64 << 20), (256 << 20, (256 << 20) // 100, (256 << 20) // 20), (1 << 20, 64 << 10, 256 << 10)],
)
def test_what_is_kept_back_shrinks_with_the_disk(total: int, ballast: int, threshold: int) -> None:
    assert (ballast_of(total), threshold_of(total)) == (ballast, threshold)


def test_the_gate_opens_again_only_with_room_for_the_ballast(tmp_path: Path) -> None:
    kept, missing = 64 << 20, 16 << 20
    room = Room(kept - 1, kept, missing=missing)
    with open_chosen(tmp_path) as journal:
        admission = Admission(journal, lambda: Health(room=room))
        admission.check()
        assert [one.word for one in admission.reasons()] == ["disk_low"]
        room = Room(kept + 1, kept, missing=missing)
        admission.check()
        assert [one.word for one in admission.reasons()] == ["disk_low"], "not at the first byte"
        room = Room(kept * 3 // 2 + missing, kept, missing=missing)
        admission.check()
        assert admission.reasons() == []
        room = Room(kept + 1, kept, missing=missing)
        assert admission.reasons() == []


def test_an_engine_without_bounds_is_open_and_one_that_can_t_be_asked_is_not(tmp_path: Path) -> None:
    health = Health()
    with open_chosen(tmp_path) as journal:
        admission = Admission(journal, lambda: health)
        assert admission.intake(1 << 60) is None and admission.has_space() and admission.room() is None
        for word, is_database in (("disk_unknown", False), ("database_away", True)):
            health = Health(unreachable="it does not answer", database=is_database)
            reason = admission.intake()
            assert reason is not None and (reason.word, reason.sentence) == (word, "It does not answer.")
            assert not admission.has_space(), "what is begun could not be recorded"
            assert admission.keeps_refusals() == is_database, "which is on no disk that is full or can't be asked"


def test_a_journal_that_is_poisoned_says_whether_the_disk_failed_or_what_became_of_the_database() -> None:
    assert "disk" in poisoned_sentence(Health(poisoned="the sync of 1 failed"))
    taken = poisoned_sentence(Health(poisoned="another process has taken the journal", database=True))
    assert taken == "Nothing more is recorded in the database by this process: another process has taken the journal."


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """A file that not even root can remove."""
    subprocess.run(["chattr", "+i", path], check=True, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=False, stderr=subprocess.DEVNULL)


def can_be_made_immutable() -> bool:
    try:
        with tempfile.NamedTemporaryFile() as file, immutable(Path(file.name)):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def opened_upkeep(data: Path) -> Iterator[Upkeep]:
    """Upkeep over a data directory, not started; stopped in the end."""
    with open_chosen(data) as journal, StateStore(data / "state.db", journal) as store:
        fold_thread = FoldThread(store, journal)
        fold_thread.start()
        upkeep = Upkeep(journal, store, fold_thread, data, Retention, truncate_wal=store.truncate_wal)
        try:
            yield upkeep
        finally:
            upkeep.stop(30.0)
            fold_thread.stop()


@pytest.mark.parametrize("all", [True, False])
def test_a_dry_run_plans_what_the_compaction_drops(tmp_path: Path, all: bool) -> None:
    """Of the segment that is written, the daily run leaves a small part alone; an operator's compaction takes it."""
    kept = received("kept", payload=b'{"a": "%s"}' % (b"x" * 10_000))
    with (
        open_chosen(tmp_path) as journal,
        StateStore(tmp_path / "state.db", journal) as store,
    ):
        fold_thread = FoldThread(store, journal)
        fold_thread.start()
        try:
            journal.append([received("done"), note("ignored", "done", reason="no_route"), kept])
            policy, later = Retention(payloads_s=3600.0), time.time() + 5400  # past the age, and not overdue
            upkeep = Upkeep(
                journal,
                store,
                fold_thread,
                tmp_path,
                lambda: policy,
                truncate_wal=store.truncate_wal,
                clock=lambda: later,
            )
            answers = []
            for dry_run in (True, False):
                with upkeep.compacting(dry_run=dry_run) as (files, progress):
                    answers.append(compact(files, progress, Compact(dry_run=dry_run), all=all))
        finally:
            fold_thread.stop()
    assert [answer.deliveries for answer in answers] == [1 if all else 0] * 2


@pytest.mark.skipif(not can_be_made_immutable(), reason="no file can be made immutable here")
def test_what_could_not_be_removed_is_said_and_tried_again(make_daemon: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One directory's trouble is that one's alone, and the erasure is complete once it has passed."""
    daemon = make_daemon('[[route]]\nname = "all"\nmatch = "event:issues"\nrun = ["touch", "mine"]\n')
    answers = [daemon.post("issues", issue(number)).json for number in range(3)]
    daemon.wait_all_done()
    attempts = daemon.data / "attempts"
    assert len(list(attempts.iterdir())) == 3
    stubborn = attempts / answers[1]["tasks"][0] / "1" / "mine"
    with immutable(stubborn):
        done = daemon.cli("redact", *(one["delivery"] for one in answers), "--yes", exit_code=1)
        assert str(stubborn) in done.stderr.decode()
        assert [path.name for path in attempts.iterdir()] == answers[1]["tasks"]
        upkeep = eventually(lambda: daemon.cli_json("status")["upkeep"]["error"], 30, "the status says it")
        assert upkeep == f"files of erased deliveries can't be removed: {stubborn}"
        assert list(stubborn.parent.iterdir()) == [stubborn], "it is no longer in the company of what could be removed"
        assert daemon.stop() == 0
        monkeypatch.setattr("covenq.operate.maintain.upkeep.RETRY_S", 0.1)
        with opened_upkeep(daemon.data) as upkeep_here:
            upkeep_here.start()
            eventually(lambda: upkeep_here.error, 30, "it is tried, and fails")
            subprocess.run(["chattr", "-i", stubborn], check=True)
            eventually(lambda: not list(attempts.iterdir()), 30, "it is tried again, and is gone")
            eventually(lambda: upkeep_here.error is None, 30, "that is known")


class SmallDisk(OsFiles):
    def space(self, path: Path) -> tuple[int, int]:
        return super().space(path)[0], 1 << 20


def test_a_release_is_one_thread_s(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, files=SmallDisk())
    assert reserve.allocate() and reserve.allocate()
    assert (reserve.room().missing, reserve.path.stat().st_size) == (0, reserve.ballast)
    assert [reserve.release(), reserve.release()] == [True, False]
    assert reserve.room().missing == reserve.ballast
    reserve.path.write_bytes(b"what a crash left of it")
    assert reserve.room().missing == reserve.ballast
    assert reserve.allocate()
    assert reserve.path.stat().st_size == reserve.ballast
