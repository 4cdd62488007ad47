"""Appends that nobody waits for: told once, in the right words, and never before the sync."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from journal.errors import EntryRefused, JournalClosed, JournalError, JournalFull, JournalPoisoned
from journal.file.codec import parse, payload_form, prepare
from journal.file.engine import FileJournal
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.records import Appended, Conflict, Entry

HANG_S = 60.0


class Disk(OsFiles):
    """Files whose syncs wait while `hold` is set, and whose calls fail where a test says so."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.syncing = threading.Event()
        self.syncs = 0
        self.fail_sync = False
        self.fail_write = False

    def fdatasync(self, fd: int) -> None:
        self.syncing.set()
        assert self.go.wait(HANG_S)
        self.syncs += 1
        if self.fail_sync:
            raise OSError(errno.EIO, "Input/output error")
        super().fdatasync(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if self.fail_write:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().pwrite(fd, data, offset)

    def hold(self) -> None:
        self.syncing.clear()
        self.go.clear()


class Told:
    """What was told, in order, with `after` among it."""

    def __init__(self) -> None:
        self.words: list[tuple[str, object]] = []
        self._new = threading.Condition()

    def done(self, name: str) -> Callable[[object], None]:
        return lambda answer: self._add(name, answer)

    def after(self) -> None:
        self._add("after", None)

    def _add(self, name: str, answer: object) -> None:
        with self._new:
            self.words.append((name, answer))
            self._new.notify_all()

    def wait(self, count: int) -> list[tuple[str, object]]:
        with self._new:
            assert self._new.wait_for(lambda: len(self.words) >= count, HANG_S), self.words
            return list(self.words)


def entry(number: int, *, expect: int | None = 0) -> Entry:
    return Entry(f"delivery.1.g{number}", "delivery.received", {"n": number}, {"repo": "a/b"}, b'{"a":1}', expect)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def journal(tmp_path: Path, disk: Disk) -> Iterator[FileJournal]:
    opened = open_journal(tmp_path / "journal", files=disk, force_filesystem=True, idle_s=3600)
    disk.syncs = 0  # those of the opening
    yield opened
    disk.go.set()
    opened.close()


def test_nobody_is_told_before_the_sync_and_everybody_once_after_it(journal: FileJournal, disk: Disk) -> None:
    told = Told()
    disk.hold()
    for number in range(3):
        journal.submit([entry(number)], told.done(f"s{number}"), told.after)
    journal.start_batch()
    assert disk.syncing.wait(HANG_S)
    assert told.words == [] and journal.head().seq == 0, "written, and not yet synced: no one may know"
    disk.go.set()
    assert told.wait(4) == [(f"s{number}", Appended((number + 1,))) for number in range(3)] + [("after", None)]
    assert disk.syncs == 1
    assert journal.head().seq == 3


def test_who_is_told_finds_the_record_in_the_journal(journal: FileJournal) -> None:
    seen: list[int] = []
    settled = threading.Event()
    journal.submit([entry(1), entry(2)], lambda answer: seen.append(journal.head().seq), settled.set)
    journal.start_batch()
    assert settled.wait(HANG_S)
    assert seen == [2]


def test_what_was_submitted_goes_with_the_next_append_that_is_waited_for(journal: FileJournal, disk: Disk) -> None:
    told = Told()
    journal.submit([entry(1)], told.done("submitted"), told.after)
    assert journal.append([entry(2)]) == Appended((2,))
    assert told.wait(2) == [("submitted", Appended((1,))), ("after", None)]
    assert disk.syncs == 1


def test_conflicts_are_told_and_those_within_a_batch_after_its_sync(journal: FileJournal, disk: Disk) -> None:
    journal.append([entry(1)])
    told = Told()
    disk.hold()
    for name, number in (("old", 1), ("first", 2), ("second", 2)):
        journal.submit([entry(number)], told.done(name))
    journal.start_batch()
    assert disk.syncing.wait(HANG_S)
    assert ("second", Conflict("delivery.1.g2", 2)) not in told.words
    disk.go.set()
    assert dict(told.wait(3)) == {
        "old": Conflict("delivery.1.g1", 1),
        "first": Appended((2,)),
        "second": Conflict("delivery.1.g2", 2),
    }


def test_a_failed_sync_is_told_to_all_and_to_whoever_comes_later(journal: FileJournal, disk: Disk) -> None:
    told = Told()
    disk.hold()
    disk.fail_sync = True
    journal.submit([entry(1)], told.done("in the batch"), told.after)
    journal.start_batch()
    assert disk.syncing.wait(HANG_S)
    journal.submit([entry(2)], told.done("behind it"), told.after)
    disk.go.set()
    words = told.wait(4)
    assert {name for name, answer in words if isinstance(answer, JournalPoisoned)} == {"in the batch", "behind it"}
    assert words[-1] == ("after", None)
    with pytest.raises(JournalPoisoned):
        journal.submit([entry(3)], told.done("too late"))
    assert len(told.words) == len(words) and disk.syncs == 1


def test_a_full_disk_is_told_and_the_journal_goes_on_when_there_is_space(journal: FileJournal, disk: Disk) -> None:
    told = Told()
    disk.fail_write = True
    journal.submit([entry(1)], told.done("no space"), told.after)
    journal.start_batch()
    assert isinstance(told.wait(2)[0][1], JournalFull)
    disk.fail_write = False
    journal.submit([entry(1)], told.done("space"), told.after)
    journal.start_batch()
    assert told.wait(4)[2] == ("space", Appended((1,)))


def test_what_can_not_be_recorded_is_said_at_once(journal: FileJournal) -> None:
    told = Told()
    with pytest.raises(EntryRefused):
        journal.submit([Entry("nothing", "delivery.received", {})], told.done("refused"), told.after)
    journal.append([entry(1)])
    assert told.words == []


def test_closing_answers_what_was_submitted_and_takes_no_more(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path / "journal", files=disk, force_filesystem=True)
    told = Told()
    for number in range(10):
        journal.submit([entry(number)], told.done(f"s{number}"), told.after)
    journal.close()
    assert told.words == [(f"s{number}", Appended((number + 1,))) for number in range(10)] + [("after", None)]
    with pytest.raises(JournalClosed):
        journal.submit([entry(11)], told.done("too late"))
    with open_journal(tmp_path / "journal", force_filesystem=True) as again:
        assert [record.subject for record in again.read(0)][:10] == [entry(number).subject for number in range(10)]


def test_many_submitters_are_all_told_what_is_in_the_log(journal: FileJournal) -> None:
    told: dict[str, Appended | Conflict | JournalError] = {}
    left = threading.Semaphore(0)

    def work(start: int) -> None:
        for number in range(start, start + 50):
            one = entry(number % 150)  # a quarter of them are there already
            key = f"{number}"
            journal.submit([one], lambda answer, key=key: (told.__setitem__(key, answer), left.release()))
            journal.start_batch()

    threads = [threading.Thread(target=work, args=(50 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(200):
        assert left.acquire(timeout=HANG_S)
    assert sum(isinstance(answer, Conflict) for answer in told.values()) == 50
    for key, answer in told.items():
        seq = answer.seqs[0] if isinstance(answer, Appended) else answer.last  # type: ignore[union-attr]
        record = journal.get(seq)
        assert record is not None and record.subject == entry(int(key) % 150).subject


def test_a_proof_spares_the_parse_and_changes_no_byte() -> None:
    body = b'{"a":[1,{"b":"c"}]}'
    value, proof = parse(body)
    assert value == {"a": [1, {"b": "c"}]}
    assert proof.payload is body
    for payload in (body, b"[1]", b'{"a":\n1}', b'{"d":' * 129 + b"[]" + b"}" * 129):
        _, proof = parse(payload)
        proven, unproven = (
            Entry("delivery.1.x", "delivery.received", {}, None, payload, 0, one) for one in (proof, None)
        )
        assert prepare(proven).tail == prepare(unproven).tail
        assert b"".join(prepare(proven).tail) == b'"' + payload_form(payload) + b"}\n"


def test_a_proof_of_other_bytes_proves_nothing(journal: FileJournal) -> None:
    _, proof = parse(b'{"a":1}')
    broken = b'{"a":}'
    journal.append([Entry("delivery.1.x", "delivery.received", {}, None, broken, 0, proof)])
    record = journal.get(1)
    assert record is not None and record.payload == broken
    journal.close()
    line = next((journal.directory).glob("*.jsonl")).read_bytes().splitlines()[2]
    assert line.endswith(b',"body":"{\\"a\\":}"}')
