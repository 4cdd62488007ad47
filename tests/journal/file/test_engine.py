"""What an append answers, and who may see what when."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journal.errors import (
    JournalError,
    JournalFull,
    JournalGone,
    JournalLocked,
    JournalPoisoned,
)
from journal.file.engine import FileJournal
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.file.segment import list_segments
from journal.file.verify import verify
from journal.records import Appended, Conflict, Entry
from tests.support.journals.entries import PAYLOADS, task
from tests.support.journals.explorer import Run
from tests.support.journals.simdisk import SimDisk
from tests.support.waiting import eventually

Opened = Callable[..., FileJournal]
A, B = "delivery.h.a", "delivery.h.b"


def entry(subject: str = A, expect: int | None = 0, **data: object) -> Entry:
    return Entry(subject, "delivery.received", data, None, b"{}", expect)


class Admission:
    """A hook that holds the next sync up until it is opened, and then lets it succeed or fail."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.error = 0

    def __call__(self, _disk: SimDisk, kind: str, _name: str, _size: int) -> None:
        if kind == "fdatasync" and not self.opened.is_set():
            self.reached.set()
            assert self.opened.wait(30)
            if self.error:
                raise OSError(self.error, os.strerror(self.error))

    def let_go(self, error: int = 0) -> None:
        self.error = error
        self.opened.set()


Gates = Callable[[], Admission]


@pytest.fixture
def gates(opened: Opened) -> Iterator[Gates]:
    """gates() → a Gate, open at the latest when the test has ended: a failed one must not keep the journal from closing."""
    made: list[Admission] = []

    def make() -> Admission:
        made.append(Admission())
        return made[-1]

    yield make
    for admission in made:
        admission.opened.set()


class Caller(threading.Thread):
    """One append in a thread of its own, and what came of it."""

    def __init__(self, journal: FileJournal, *entries: Entry) -> None:
        super().__init__(daemon=True)
        self.journal, self.entries = journal, entries
        self.answer: Appended | Conflict | JournalError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self.journal.append(self.entries)
        except JournalError as error:
            self.answer = error

    def result(self) -> Appended | Conflict | JournalError | None:
        self.join(30)
        assert not self.is_alive()
        return self.answer


def test_the_marker_of_another_form_in_about_does_not_hide_the_payload(opened: Opened) -> None:
    journal = opened()
    about = {"a": 1, "body64": "eA==", "body": "x", "payload": {}, "dropped": 7}
    for number, payload in enumerate(PAYLOADS):
        journal.append([Entry(f"delivery.h.m{number}", "delivery.received", {}, about, payload, 0)])
    journal.close()
    journal = opened()
    assert [record.payload for record in journal.read(0)][: len(PAYLOADS)] == PAYLOADS
    assert verify(journal.directory).ok


# ---- group commit


def test_nothing_un_synced_is_seen_by_anyone(root: Path, opened: Opened, gates: Gates) -> None:
    disk, admission = SimDisk(root), gates()
    journal = opened(files=disk)
    journal.append([entry(A)])
    head = journal.head()
    disk.hook = admission
    first = Caller(journal, entry(A, 1), entry(B))
    assert admission.reached.wait(30)
    assert b'"subject":"delivery.h.b"' in disk.image()["journal/00000000000000000001.jsonl"], "it is written"
    assert journal.head() == head
    assert journal.get(2) is None
    assert journal.last(A) == journal.get(1)
    assert journal.last(B) is None
    assert [record.seq for record in journal.read(0)] == [1]
    assert not journal.wait(1, 0.01)
    assert first.is_alive(), "nobody is answered before the sync"
    admission.let_go()
    assert first.result() == Appended((2, 3))
    assert journal.wait(1, 30)
    assert journal.last(A) == journal.get(2)


@pytest.mark.parametrize("failing", [False, True])
def test_a_duplicate_of_an_append_in_flight_shares_its_fate(
    root: Path, opened: Opened, gates: Gates, failing: bool
) -> None:
    disk, admission = SimDisk(root), gates()
    journal = opened(files=disk)
    disk.hook = admission
    first = Caller(journal, entry(A))
    assert admission.reached.wait(30)
    duplicates = [Caller(journal, entry(A)), Caller(journal, entry(B), entry(A))]
    eventually(lambda: len(journal._committer._queue) == 2)
    assert all(one.is_alive() for one in (first, *duplicates))
    admission.let_go(errno.EIO if failing else 0)
    if failing:
        answers = [one.result() for one in (first, *duplicates)]
        assert all(isinstance(answer, JournalPoisoned) for answer in answers)
        assert journal.head().seq == 0
    else:
        assert first.result() == Appended((1,))
        assert [one.result() for one in duplicates] == [Conflict(A, 1)] * 2


@pytest.mark.parametrize("failing", [False, True])
def test_a_conflict_within_a_batch_waits_for_its_sync(root: Path, opened: Opened, gates: Gates, failing: bool) -> None:
    disk, admission = SimDisk(root), gates()
    journal = opened(files=disk)
    journal.append([entry("ops.before")])
    disk.hook = admission
    held = Caller(journal, entry("ops.held"))
    assert admission.reached.wait(30)
    callers = []
    for queued, entries in enumerate(([entry(A)], [entry(A)], [entry("ops.before")], [entry(B)]), 1):
        callers.append(Caller(journal, *entries))
        eventually(lambda queued=queued: len(journal._committer._queue) == queued)
    second = gates()
    disk.hook = second
    admission.let_go()
    assert held.result() == Appended((2,))
    assert second.reached.wait(30)
    assert callers[0].is_alive() and callers[1].is_alive()
    second.let_go(errno.EIO if failing else 0)
    answers = [one.result() for one in callers]
    if failing:
        assert [type(answer) for answer in answers] == [JournalPoisoned, JournalPoisoned, Conflict, JournalPoisoned]
    else:
        assert answers[:2] == [Appended((3,)), Conflict(A, 3)]
        assert answers[3] == Appended((4,))
    assert answers[2] == Conflict("ops.before", 1), "this one rests on what was durable before"


def test_last_never_misses_a_subject_between_noting_and_publishing(root: Path, opened: Opened) -> None:
    journal = opened(files=SimDisk(root))
    journal.append([entry(A)])
    publish, reached, go = journal._committer._publish, threading.Event(), threading.Event()

    def late(*arguments: Any) -> None:
        reached.set()
        assert go.wait(30)
        publish(*arguments)

    journal._committer._publish = late
    caller = Caller(journal, entry(A, 1))
    assert reached.wait(30)
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(journal.last(A)), daemon=True)
    reader.start()
    go.set()
    reader.join(30)
    assert caller.result() == Appended((2,))
    assert found and found[0] is not None


def test_the_proof_is_closed_once_and_never_after_itself(root: Path, opened: Opened) -> None:
    journal = opened(files=SimDisk(root), idle_s=0.0)
    journal.append([entry(A)])
    assert journal.wait(1, 30)
    assert not journal.wait(2, 0.2), "nothing follows a journal.synced by itself"
    journal.close()
    kinds = []
    for _ in range(3):
        journal = opened(files=journal.files)
        kinds = [record.kind for record in journal.read(0)]
        journal.close()
    assert kinds == ["delivery.received", "journal.synced"]


def test_a_clean_close_closes_the_proof_and_leaves_its_mark(root: Path, opened: Opened) -> None:
    disk = SimDisk(root)
    journal = opened(files=disk)
    journal.append([entry(A)])
    journal.close()
    assert "journal/closed.json" in disk.image()
    journal = opened(files=disk)
    found = list(journal.read(0))
    assert [(record.kind, record.synced) for record in found] == [("delivery.received", 0), ("journal.synced", 1)]


def test_many_threads_many_batches(opened: Opened) -> None:
    journal = opened(segment_bytes=20_000)
    answers: dict[str, list[Any]] = {}

    def work(worker: int) -> None:
        for number in range(40):
            subject = f"delivery.h.{number}"
            answers.setdefault(subject, []).append(journal.append([entry(subject), task(worker * 1000 + number)]))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 40
    for subject, given in answers.items():
        won = [answer.seqs[0] for answer in given if isinstance(answer, Appended)]
        assert len(won) == 1, "one append wins"
        assert given.count(Conflict(subject, won[0])) == 7, "and all others are told of it"
    assert len(list_segments(journal.files, journal.directory)) > 1
    assert [record.seq for record in journal.read(0)] == list(range(1, 81))
    assert verify(journal.directory, upto=80).ok


# ---- the directory


def _try_lock(directory: Path, answers: Any) -> None:
    try:
        open_journal(directory, force_filesystem=True).close()
        answers.put("opened")
    except JournalLocked as error:
        answers.put(str(error))


def test_a_second_process_is_locked_out(opened: Opened) -> None:
    journal = opened()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()

    def second() -> str:
        process = context.Process(target=_try_lock, args=(journal.directory, answers))
        process.start()
        process.join(60)
        return str(answers.get(timeout=30))

    assert f"process {os.getpid()}" in second()
    journal.close()
    assert second() == "opened"
    answers.close()


def test_a_replaced_segment_is_noticed_before_anything_is_promised(opened: Opened) -> None:
    journal = opened()
    journal.append([entry(A)])
    path = journal.directory / "00000000000000000001.jsonl"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(JournalGone):
        journal.append([entry(B)])
    with pytest.raises(JournalGone):
        journal.append([entry(B)])
    assert journal.head().seq == 1


def test_every_missing_directory_is_synced_into_its_parent(tmp_path: Path) -> None:
    synced: list[Path] = []

    class Noting(OsFiles):
        def fsync_dir(self, path: Path) -> None:
            synced.append(path)
            super().fsync_dir(path)

    with open_journal(tmp_path / "a" / "b" / "journal", files=Noting(), force_filesystem=True):
        assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(synced)


def test_the_simulated_disk_holds_what_the_real_one_would(root: Path) -> None:
    """The same workload over the real calls gives the same bytes under the same names."""
    from tests.support.journals.workloads import rotation

    simulated = Run(root)
    rotation(simulated)
    image = simulated.disk.image()

    for path in (root / "journal").iterdir():
        path.unlink()
    real = Run(root)
    real.disk = Notes()  # type: ignore[assignment]
    rotation(real)
    found = {f"journal/{path.name}": path.read_bytes() for path in (root / "journal").iterdir()}
    assert {name: content for name, content in found.items() if name in image} == image
    assert {name for name in found if name not in image} <= {"journal/lock", "journal/index.sqlite"}


class Notes(OsFiles):
    """The real calls, with a place for a workload's notes."""

    def note(self, *_what: object) -> None:
        pass

    def aside(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()


def test_a_full_disk_is_told_and_forgotten(root: Path, opened: Opened) -> None:
    disk = SimDisk(root)
    journal = opened(files=disk)
    journal.append([entry(A)])

    def full(_disk: SimDisk, kind: str, _name: str, _size: int) -> int | None:
        if kind == "pwrite":
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return None

    disk.hook = full
    with pytest.raises(JournalFull):
        journal.append([entry(B)])
    assert journal.health().full
    disk.hook = None
    assert journal.append([entry(B)]) == Appended((2,))
    assert journal.health().full is None
    assert journal.measurements()["bytes"] == len(disk.image()["journal/00000000000000000001.jsonl"])
