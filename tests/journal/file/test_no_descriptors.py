"""A process without descriptors can begin no segment: the append fails, and the journal goes on when there are some."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from journal.errors import JournalError, may_pass
from journal.file.files import OsFiles
from journal.records import Appended, Entry
from tests.support.journals import making


class ShortFiles(OsFiles):
    """The real files of a process that may have no descriptors left."""

    short = False

    def open(self, path: Path, *, write: bool = False) -> int:
        return super().open(self._checked(path), write=write)

    def create(self, path: Path) -> int:
        return super().create(self._checked(path))

    def listdir(self, path: Path) -> list[str]:
        return super().listdir(self._checked(path))

    def _checked(self, path: Path) -> Path:
        if self.short:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return path


def test_a_segment_that_can_not_be_begun_fails_the_append_and_not_the_journal(tmp_path: Path) -> None:
    files = ShortFiles()
    with making.opened(tmp_path / "journal", files=files, segment_bytes=5000) as journal:
        made = 0

        def append() -> None:
            nonlocal made
            entry = Entry(
                f"delivery.1.n{made}", "delivery.received", {"n": made}, {}, b'{"x":"%s"}' % (b"y" * 900), expect=0
            )
            assert isinstance(journal.append([entry]), Appended)
            made += 1

        append()
        files.short = True
        with pytest.raises(JournalError) as raised:
            for _ in range(20):
                append()
        assert may_pass(raised.value)
        assert journal.health().poisoned is None
        files.short = False
        for _ in range(10):
            append()
        assert sum(record.subject.startswith("delivery.") for record in journal.read(0)) == made
        assert len(list((tmp_path / "journal").glob("*.jsonl"))) > 1
