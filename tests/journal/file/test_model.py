"""The file engine against a dictionary: also when it crashes, loses its index, erases, and is read by another process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from journal.file.engine import FileJournal
from journal.file.open import drop_index, open_journal
from journal.file.reader import open_reader
from journal.file.settings import WriteSettings
from journal.file.verify import verify
from journal.records import Appended, Entry, Witness
from tests.support.journals.explorer import NEVER_S
from tests.support.journals.model import CHECKS, JournalModel


class FileModel(JournalModel):
    """Each crash goes on in a directory of the next `generation`."""

    journal: FileJournal

    def __init__(self) -> None:
        self.generation = 0
        super().__init__(self.open_file)

    @property
    def directory(self) -> Path:
        return self.root / str(self.generation)

    def open_file(self, _root: Path) -> FileJournal:
        witnesses = []
        if self.records:
            newest = self.records[max(self.records)]
            witnesses = [Witness(self.journal.id, newest.seq, newest.sum)]
        journal = open_journal(
            self.directory,
            witnesses=witnesses,
            force_filesystem=True,
            settings=WriteSettings(segment_bytes=3000, idle_s=NEVER_S),
        )
        assert journal.recovery.torn is None
        return journal

    def teardown(self) -> None:
        self.journal.close()
        assert verify(self.directory).ok
        super().teardown()

    @rule()
    def close_and_open_without_index(self) -> None:
        had = len(self.records)
        self.journal.close()
        drop_index(self.directory)
        self.open_again()
        assert len(self.records) <= had + 1

    @rule(indexed=st.booleans())
    def crash(self, indexed: bool) -> None:
        """What is on the disk right now goes on under another name, as after a kill; the index as far as it has come."""
        names = [path for path in self.directory.iterdir() if path.is_file() and path.name != "lock"]
        old, self.generation = self.directory, self.generation + 1
        self.directory.mkdir()
        for path in sorted(names, key=lambda path: "index" not in path.name):  # the index first: it may only be behind
            if (indexed and "index" in path.name) or "index" not in path.name:
                shutil.copyfile(path, self.directory / path.name)
        if indexed:
            for name in ("index.sqlite-wal", "index.sqlite-shm"):
                (self.directory / name).unlink(missing_ok=True)
        dying = self.journal
        self.journal = self.open()
        dying.close()
        shutil.rmtree(old)
        self.own()

    @precondition(lambda self: self.records)
    @rule()
    def erase(self) -> None:
        seq = min(self.records)
        entry = Entry("ops.erase", "model.erased", {"drops": [[seq, seq]], "about": True})
        answer, _ = self.journal.erase([entry])
        assert isinstance(answer, Appended)
        for changed in (seq, *answer.seqs):
            found = self.journal.get(changed)
            assert found is not None
            if changed == seq:
                assert found.payload is None and found.about is None
                old = self.records[seq]
                if old.payload is not None or old.about is not None:
                    assert found.dropped == answer.seqs[0]
            self.records[changed] = found
        self.newest["ops.erase"] = answer.seqs[0]

    @rule()
    def another_process_reads(self) -> None:
        with open_reader(self.directory, upto=self.journal.head().seq) as reader:
            assert list(reader.read(0)) == [self.records[seq] for seq in sorted(self.records)]
            for subject, seq in self.newest.items():
                assert reader.last(subject) == self.records[seq]


class TestFileModel(FileModel.TestCase):
    settings = settings(max_examples=25, stateful_step_count=25, suppress_health_check=CHECKS)


@pytest.mark.deep
class TestFileModelAtLength(FileModel.TestCase):
    settings = settings(max_examples=1500, stateful_step_count=60, suppress_health_check=CHECKS)
