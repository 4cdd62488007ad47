"""A reading without a daemon holds nothing that a daemon needs to start, or to fold."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from covenq.client.local_files import LocalFiles
from covenq.state import lock
from covenq.state.store import read_witness
from journal.file.lock import DirectoryLock, holder
from journal.file.open import open_journal
from journal.file.reader import JournalReader
from tests.support.records import queued, received

DELIVERIES = 40


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFiles:
    """A data directory whose state is to be folded from the start, in many batches."""
    monkeypatch.setattr("covenq.state.store.BATCH_RECORDS", 10)
    with open_journal(tmp_path / "journal") as journal:
        for n in range(DELIVERIES):
            journal.append([received(f"g{n}"), queued(f"g{n}")])
    return LocalFiles(tmp_path)


def deliveries(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM webhook_deliveries").fetchone()[0])


def test_while_it_lasts_a_daemon_can_open_the_journal(files: LocalFiles) -> None:
    with files.reading() as (conn, reader):
        assert holder(files.journal) is None
        with open_journal(files.journal) as journal:
            journal.append([received("new")])
        assert deliveries(conn) == DELIVERIES
        assert reader.get(1) is not None
    witness = read_witness(files.state)
    assert witness is not None and witness.seq >= 2 * DELIVERIES, "the file was caught up"


def test_it_stops_folding_into_the_file_where_a_daemon_takes_the_journal(
    files: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[DirectoryLock] = []
    unlock = JournalReader.unlock

    def unlocked(reader: JournalReader) -> None:
        unlock(reader)
        if not taken:
            taken.append(DirectoryLock(files.journal))

    monkeypatch.setattr(JournalReader, "unlock", unlocked)
    with files.reading() as (conn, _):
        assert not lock.is_held(files.state)
        assert read_witness(files.state) is None, "the rest is the daemon's to fold"
        assert deliveries(conn) == DELIVERIES
    taken[0].release()


def test_who_folds_the_file_does_not_wait_for_it(files: LocalFiles) -> None:
    with files.reading():
        pass
    with open_journal(files.journal) as journal:
        journal.append([received("new"), queued("new")])
    held = lock.take(files.state, 0)
    try:
        with files.reading() as (conn, _):
            with closing(sqlite3.connect(files.state, timeout=0)) as other, other:
                other.execute("BEGIN IMMEDIATE")
            assert deliveries(conn) == DELIVERIES + 1
    finally:
        held.release()
