"""Opening a journal by its address, without naming its engine."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal.errors import EngineUnknown, JournalClosed, JournalGone
from journal.file.open import open_journal
from journal.records import Entry


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "a journal"
    with open_journal(made, force_filesystem=True) as opened:
        opened.append([Entry("task.t", "task.queued", {})])
    return made


@pytest.mark.parametrize(
    "address_of",
    [
        lambda path: path,
        lambda path: str(path),
        lambda path: path.as_uri(),
        lambda path: f"FILE://localhost{path.as_uri().removeprefix('file://')}",
        lambda path: f"file:{path}",
    ],
)
def test_a_directory_is_read_by_its_path_and_by_its_url(
    directory: Path, address_of: Callable[[Path], Path | str]
) -> None:
    with journal.open_reader(address_of(directory)) as reader:
        assert [record.kind for record in reader.read(0)][0:1] == ["task.queued"]
        assert reader.damage == ()
        with pytest.raises(JournalClosed):
            reader.append([Entry("task.t", "task.claimed", {})])


@pytest.mark.parametrize("address", ["redis://there/db", "nats:x", "file://elsewhere/srv/journal"])
def test_an_address_of_no_engine_is_refused(address: str) -> None:
    with pytest.raises(EngineUnknown) as refused:
        journal.open_reader(address)
    assert refused.value.exit_code == 2 and refused.value.hint


def test_a_path_with_a_colon_in_a_directory_is_a_path(tmp_path: Path) -> None:
    with pytest.raises(JournalGone):
        journal.open_reader(f"{tmp_path}/no:such")


def test_a_reader_of_what_a_running_writer_says_is_there(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path / "j", force_filesystem=True) as opened,
        journal.open_reader(tmp_path / "j", upto=0) as reader,
    ):
        assert (reader.id, reader.epoch, reader.head()) == (opened.id, opened.epoch, opened.head())
        opened.append([Entry("task.t", "task.queued", {}), Entry("task.u", "task.queued", {})])
        assert list(reader.read(0)) == []
        reader.advance(1)
        assert [record.subject for record in reader.read(0)] == ["task.t"]
        with journal.open_reader(tmp_path / "j", upto=2) as another:
            assert another.head() == opened.head()
            assert list(another.read(0)) == list(opened.read(0))


def test_the_package_brings_no_engine_with_it() -> None:
    loaded = "import journal, sys; print([name for name in sys.modules if name.startswith('journal.')])"
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(told) == ["journal.errors", "journal.engines"]
