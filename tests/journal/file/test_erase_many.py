"""Erasures by many records at once: each segment is written once, and each line names the record that took it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from journal.erasure import Erasure, ErasureLookup, seq_ranges
from journal.errors import ErasureFailed
from journal.file import engine
from journal.file.engine import FileJournal
from journal.file.files import OsFiles
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.file.verify import verify
from journal.records import Appended, Entry


def fill(journal: FileJournal, count: int) -> None:
    for number in range(1, count + 1):
        body = b'{"n":%d,"text":"personal %d"}' % (number, number)
        entry = Entry(f"delivery.9.d{number}", "delivery.received", {}, {"repo": f"o/r{number}"}, body, expect=0)
        assert isinstance(journal.append([entry]), Appended)


def naming(number: int, *, about: bool = True) -> Entry:
    return Entry(
        f"delivery.9.d{number}", "delivery.redacted", {"drops": [[number, number]], "about": about}, expect=number
    )


def test_many_records_rewrite_each_segment_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten: list[int] = []
    before = engine.rewrite_segment

    def counted(files: OsFiles, directory: Path, first: int, named: ErasureLookup) -> object:
        rewritten.append(first)
        return before(files, directory, first, named)

    with open_journal(tmp_path / "journal", settings=WriteSettings(segment_bytes=4000, idle_s=3600)) as journal:
        fill(journal, 40)
        monkeypatch.setattr(engine, "rewrite_segment", counted)
        answer, done = journal.erase([naming(number) for number in range(3, 31)])
        assert isinstance(answer, Appended)
        assert len(rewritten) == len(set(rewritten)) > 1
        assert done.parts == set(rewritten)
        for number in range(1, 41):
            record = journal.get(number)
            assert record is not None
            gone = 3 <= number <= 30
            assert (record.payload is None, record.about is None) == (gone, gone)
            assert record.dropped == (answer.seqs[number - 3] if gone else None)
    assert verify(tmp_path / "journal").ok


def test_of_several_records_that_name_a_seq_the_one_that_takes_more_is_named() -> None:
    named = ErasureLookup(
        [Erasure(50, ((1, 40),), False), Erasure(51, ((7, 7), (20, 22)), True), Erasure(52, ((7, 9),), True)]
    )
    assert [named.find(seq) for seq in (1, 7, 8, 20, 40, 41)] == [
        (50, False), (51, True), (52, True), (51, True), (50, False), None
    ]  # fmt: skip
    assert (named.newest, named.overlaps(41, 99), named.overlaps(40, 41), named.overlaps(0, 1)) == (
        40,
        False,
        True,
        True,
    )
    assert ErasureLookup([]).find(1) is None
    assert seq_ranges([5, 1, 2, 2, 9]) == [[1, 2], [5, 5], [9, 9]]


class NoRoom(OsFiles):
    """No new file finds room while `full`."""

    full = False

    def create(self, path: Path) -> int:
        if self.full and path.name.endswith(".jsonl.tmp"):
            raise OSError(errno.ENOSPC, "no space")
        return super().create(path)


def test_without_room_for_a_rewrite_the_log_opens_and_the_erasure_waits(tmp_path: Path) -> None:
    files = NoRoom()
    with open_journal(tmp_path / "journal", files=files, settings=WriteSettings(idle_s=3600)) as journal:
        fill(journal, 3)
        # The segment is cut before anything is rewritten, which needs room for a header.
        journal.erase([naming(1)])
        fill_after = Entry(
            "delivery.9.later", "delivery.received", {}, {"repo": "o/r"}, b'{"text":"personal"}', expect=0
        )
        appended = journal.append([fill_after])
        assert isinstance(appended, Appended)
        files.full = True
        with pytest.raises(ErasureFailed, match="no space") as failed:
            journal.erase([naming(2)])
        assert failed.value.recorded
        assert journal.erasing
    with open_journal(tmp_path / "journal", files=files, settings=WriteSettings(idle_s=3600)) as journal:
        assert journal.erasing
        record = journal.get(2)
        assert record is not None and record.payload is not None
        files.full = False
        journal.resume_erasure()
        assert not journal.erasing
        record = journal.get(2)
        assert record is not None and (record.payload, record.about) == (None, None)
    assert verify(tmp_path / "journal").ok
