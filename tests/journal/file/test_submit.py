"""Appends that nobody waits for: told once, in the right words, and never before the sync."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.errors import JournalFull, JournalPoisoned
from journal.file.engine import FileJournal
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.format.codec import payload_form, prepare
from journal.payload import parse
from journal.records import Appended, Conflict, Entry
from tests.support.journals.submissions import HANG_S, Answers, submission


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


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def journal(tmp_path: Path, disk: Disk) -> Iterator[FileJournal]:
    opened = open_journal(tmp_path / "journal", files=disk, force_filesystem=True, settings=WriteSettings(idle_s=3600))
    disk.syncs = 0  # those of the opening
    yield opened
    disk.go.set()
    opened.close()


def test_closing_answers_in_the_order_of_the_records(journal: FileJournal) -> None:
    told = Answers()
    for number in range(10):
        journal.submit([submission(number)], told.done(f"s{number}"), told.after)
    journal.close()
    assert told.given == [(f"s{number}", Appended((number + 1,))) for number in range(10)] + [("after", None)]
    with open_journal(journal.directory, force_filesystem=True) as again:
        subjects = [record.subject for record in again.read(0)][:10]
    assert subjects == [submission(number).subject for number in range(10)]


def test_nobody_is_told_before_the_sync_and_everybody_once_after_it(journal: FileJournal, disk: Disk) -> None:
    told = Answers()
    disk.hold()
    for number in range(3):
        journal.submit([submission(number)], told.done(f"s{number}"), told.after)
    journal.start_batch()
    assert disk.syncing.wait(HANG_S)
    assert told.given == [] and journal.head().seq == 0, "written, and not yet synced: no one may know"
    disk.go.set()
    assert told.wait(4) == [(f"s{number}", Appended((number + 1,))) for number in range(3)] + [("after", None)]
    assert disk.syncs == 1
    assert journal.head().seq == 3


def test_what_was_submitted_goes_with_the_next_append_that_is_waited_for(journal: FileJournal, disk: Disk) -> None:
    told = Answers()
    journal.submit([submission(1)], told.done("submitted"), told.after)
    assert journal.append([submission(2)]) == Appended((2,))
    assert told.wait(2) == [("submitted", Appended((1,))), ("after", None)]
    assert disk.syncs == 1


def test_conflicts_are_told_and_those_within_a_batch_after_its_sync(journal: FileJournal, disk: Disk) -> None:
    journal.append([submission(1)])
    told = Answers()
    disk.hold()
    for name, number in (("old", 1), ("first", 2), ("second", 2)):
        journal.submit([submission(number)], told.done(name))
    journal.start_batch()
    assert disk.syncing.wait(HANG_S)
    assert ("second", Conflict("delivery.1.g2", 2)) not in told.given
    disk.go.set()
    assert dict(told.wait(3)) == {
        "old": Conflict("delivery.1.g1", 1),
        "first": Appended((2,)),
        "second": Conflict("delivery.1.g2", 2),
    }


def test_a_failed_sync_is_told_to_all_and_to_whoever_comes_later(journal: FileJournal, disk: Disk) -> None:
    told = Answers()
    disk.hold()
    disk.fail_sync = True
    journal.submit([submission(1)], told.done("in the batch"), told.after)
    journal.start_batch()
    assert disk.syncing.wait(HANG_S)
    journal.submit([submission(2)], told.done("behind it"), told.after)
    disk.go.set()
    words = told.wait(4)
    assert {name for name, answer in words if isinstance(answer, JournalPoisoned)} == {"in the batch", "behind it"}
    assert words[-1] == ("after", None)
    with pytest.raises(JournalPoisoned):
        journal.submit([submission(3)], told.done("too late"))
    assert len(told.given) == len(words) and disk.syncs == 1


def test_a_full_disk_is_told_and_the_journal_goes_on_when_there_is_space(journal: FileJournal, disk: Disk) -> None:
    told = Answers()
    disk.fail_write = True
    journal.submit([submission(1)], told.done("no space"), told.after)
    journal.start_batch()
    assert isinstance(told.wait(2)[0][1], JournalFull)
    disk.fail_write = False
    journal.submit([submission(1)], told.done("space"), told.after)
    journal.start_batch()
    assert told.wait(4)[2] == ("space", Appended((1,)))


def test_a_proof_spares_the_parse_and_changes_no_byte() -> None:
    body = b'{"a":[1,{"b":"c"}]}'
    value, parsed_json = parse(body)
    assert value == {"a": [1, {"b": "c"}]}
    assert parsed_json.payload is body
    for payload in (body, b"[1]", b'{"a":\n1}', b'{"d":' * 129 + b"[]" + b"}" * 129):
        _, parsed_json = parse(payload)
        proven, unproven = (
            Entry("delivery.1.x", "delivery.received", {}, None, payload, 0, one) for one in (parsed_json, None)
        )
        assert prepare(proven).tail == prepare(unproven).tail
        assert b"".join(prepare(proven).tail) == b'"' + payload_form(payload) + b"}\n"


def test_a_proof_of_other_bytes_proves_nothing(journal: FileJournal) -> None:
    _, parsed_json = parse(b'{"a":1}')
    broken = b'{"a":}'
    journal.append([Entry("delivery.1.x", "delivery.received", {}, None, broken, 0, parsed_json)])
    record = journal.get(1)
    assert record is not None and record.payload == broken
    journal.close()
    line = next((journal.directory).glob("*.jsonl")).read_bytes().splitlines()[2]
    assert line.endswith(b',"body":"{\\"a\\":}"}')
