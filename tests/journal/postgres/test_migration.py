"""A journal moves into a database and back: the same records, seqs and sums, whatever cuts the move short."""

from __future__ import annotations

from pathlib import Path

import pytest

from journal.errors import JournalDamaged, JournalLocked, JournalSealed, JournalUnavailable, MigrationRefused
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from journal.file.verify import verify as verify_files
from journal.interface import Engine
from journal.migration import DatabaseStore, FileStore, Migration
from journal.postgres import lease
from journal.postgres.connections import connect
from journal.postgres.lines import TableTarget
from journal.postgres.open import open_journal as open_database
from journal.postgres.verify import verify as verify_tables
from journal.records import Appended, Entry, Head, Record
from tests.support.journals import making
from tests.support.journals.entries import delivery
from tests.support.postgres.server import cluster

pytestmark = pytest.mark.postgres


@pytest.fixture
def url() -> str:
    servers = cluster(standby=False)
    servers.sql("DROP SCHEMA IF EXISTS covenq CASCADE")
    return servers.url


def fill(journal: Engine, start: int, count: int) -> None:
    for number in range(start, start + count):
        journal.append([delivery(number), Entry(f"task.t{number}", "task.queued", {"n": number}, expect=0)])


def erase(journal: Engine, low: int, high: int, *, about: bool) -> None:
    journal.erase([Entry("ops.redaction", "delivery.redacted", {"drops": [[low, high]], "about": about})])


def open_files(directory: Path) -> Engine:
    return open_journal(directory, force_filesystem=True, settings=WriteSettings(segment_bytes=20_000))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A journal of several segments, two epochs and two erasures."""
    directory = tmp_path / "data" / "journal"
    directory.parent.mkdir()
    with open_files(directory) as journal:  # type: ignore[attr-defined]
        fill(journal, 0, 30)
        erase(journal, 3, 8, about=False)
        erase(journal, 7, 12, about=True)
        journal.begin_epoch("0123456789abcdef")
        fill(journal, 30, 10)
    return directory


def contents(journal: Engine) -> list[Record]:
    return list(journal.read(0))


def read_files(directory: Path) -> list[Record]:
    with open_files(directory) as journal:  # type: ignore[attr-defined]
        return contents(journal)


def moved(url: str) -> tuple[list[Record], str]:
    with open_database(url) as journal:
        return contents(journal), journal.epoch


def test_there_and_back_every_record_is_as_it_was(files: Path, url: str) -> None:
    before = read_files(files)
    into = Migration(FileStore(files), DatabaseStore(url, "db"))
    head = into.finish()
    there, epoch = moved(url)
    assert there[: len(before)] == before
    assert there[len(before)].kind == "journal.sealed" and there[-1].sum == head.sum
    assert epoch not in {record.epoch for record in before}
    assert verify_tables(url).damage == []
    assert not files.exists() and verify_files(files.with_name("journal.sealed")).damage == []
    with open_database(url) as journal:
        fill(journal, 100, 5)
        erase(journal, 20, 22, about=True)
        assert journal.append([delivery(3)]) != Appended, "what came before the move is known after it"
        there = contents(journal)
    back = files.with_name("again")
    Migration(DatabaseStore(url, "db"), FileStore(back)).finish()
    again = read_files(back)
    assert again[: len(there)] == there
    assert verify_files(back).damage == []
    with pytest.raises(JournalSealed, match="moved to file:"):
        open_database(url)


def test_a_copy_goes_on_where_it_ended_while_the_journal_is_written(files: Path, url: str) -> None:
    move = Migration(FileStore(files), DatabaseStore(url, "db"))
    with open_files(files) as journal:  # type: ignore[attr-defined]
        assert move.estimate().copied == 0
        first = move.copy()
        with pytest.raises(JournalSealed, match="being copied"):
            open_database(url)
        erase(journal, 40, 45, about=True)
        fill(journal, 50, 8)
        with pytest.raises(JournalLocked):
            move.finish()
        second = move.copy()
        assert second.seq > first.seq
    head = move.finish()
    assert move_is_whole(url, head)
    there, _ = moved(url)
    assert all(record.payload is None and record.about is None for record in there if 40 <= record.seq <= 45)
    assert there[: head.seq] == read_files(files.with_name("journal.sealed"))[: head.seq]


def test_segments_that_begin_while_it_is_copied_are_left_to_the_next_copy(
    files: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FileStore(files)
    before = source.head()
    with open_files(files) as journal:  # type: ignore[attr-defined]
        fill(journal, 50, 40)
    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "head", lambda _: before)
        assert Migration(source, DatabaseStore(url, "db")).copy() == before[1]
    assert move_is_whole(url, Migration(source, DatabaseStore(url, "db")).finish())


def test_the_lease_of_a_move_that_was_killed_is_waited_for_and_that_of_a_daemon_is_not_taken(
    files: Path, url: str, tmp_path: Path
) -> None:
    Migration(FileStore(files), DatabaseStore(url, "db")).finish()
    back = Migration(DatabaseStore(url, "db"), FileStore(tmp_path / "back"))
    with open_database(url), pytest.raises(JournalLocked):
        back.finish()
    conn = connect(url)
    try:
        lease.take(conn, "0" * 32)
    finally:
        conn.close()
    head = back.finish()
    assert read_files(tmp_path / "back")[head.seq - 1].kind == "journal.sealed"


def move_is_whole(url: str, head: Head) -> bool:
    report = verify_tables(url)
    return report.ok and report.head == head


class Cut(Exception):
    pass


@pytest.mark.parametrize("step", range(5))
def test_cut_short_anywhere_it_is_finished_by_the_same_again(
    files: Path, url: str, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before = read_files(files)
    steps = ["copy", "_append_seal"]
    move = Migration(FileStore(files), DatabaseStore(url, "db"))

    def cut(*_: object, **__: object) -> None:
        raise Cut

    def cut_progress(done: int, total: int) -> None:
        raise Cut

    if step == 0:
        with pytest.raises(Cut):
            move.copy(cut_progress)
    elif step in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(Migration, steps[step - 1], cut)
            with pytest.raises(Cut):
                move.finish()
    elif step == 3:
        with monkeypatch.context() as patch:
            patch.setattr(FileStore, "seal", cut)
            with pytest.raises(Cut):
                move.finish()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(TableTarget, "finish", cut)
            with pytest.raises(Cut):
                move.finish()
    head = Migration(FileStore(files), DatabaseStore(url, "db")).finish()
    assert move_is_whole(url, head)
    assert moved(url)[0][: len(before)] == before


@pytest.mark.parametrize("back", [False, True])
def test_of_two_moves_at_once_one_is_refused(files: Path, url: str, tmp_path: Path, back: bool) -> None:
    """Whatever the one does meanwhile, from its first record on; and what it was refused for passes."""
    there, here = DatabaseStore(url, "db"), FileStore(files)
    if back:
        Migration(here, there).finish()
        here = FileStore(tmp_path / "back" / "journal")
    source, target = (there, here) if back else (here, there)
    refused = 0

    def meanwhile(done: int, total: int) -> None:
        nonlocal refused
        with pytest.raises(MigrationRefused, match="another `covenq migrate` copies into"):
            Migration(source, target).copy()
        with pytest.raises(JournalLocked):
            Migration(source, target).finish()
        refused += 1

    head = Migration(source, target).finish(meanwhile)
    assert refused
    report = verify_files(tmp_path / "back" / "journal") if back else verify_tables(url)
    assert report.ok and (back or report.head == head)


@pytest.mark.parametrize("back", [False, True])
def test_no_daemon_starts_between_the_copy_and_the_seal(files: Path, url: str, tmp_path: Path, back: bool) -> None:
    """As systemd would start it again: what it appended would be in neither place that is read."""
    there, here = DatabaseStore(url, "db"), FileStore(files)
    if back:
        Migration(here, there).finish()
        here = FileStore(tmp_path / "back" / "journal")
    source, target = (there, here) if back else (here, there)
    tried = 0

    def meanwhile(done: int, total: int) -> None:
        nonlocal tried
        with pytest.raises(JournalLocked):
            source.open()
        tried += 1

    Migration(source, target).finish(meanwhile)
    assert tried


def test_who_comes_late_does_not_open_a_journal_that_is_open(
    files: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one finished the move, and a daemon has gone on: its epoch and its segments stay as they are."""
    finish = TableTarget.finish

    def outrun(self: TableTarget, epoch: str, salt: str) -> None:
        finish(self, "0" * 16, "1" * 64)
        with open_database(url) as journal:
            fill(journal, 100, 2)
        finish(self, epoch, salt)

    monkeypatch.setattr(TableTarget, "finish", outrun)
    with pytest.raises(MigrationRefused, match="is open already"):
        Migration(FileStore(files), DatabaseStore(url, "db")).finish()
    assert verify_tables(url).ok
    with open_database(url) as journal:
        fill(journal, 102, 1)
    assert verify_tables(url).ok


def test_a_database_that_goes_away_is_told_in_words(files: Path, url: str) -> None:
    def cut(done: int, total: int) -> None:
        cluster(standby=False).sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'covenq'"
        )

    with pytest.raises(JournalUnavailable, match=r"terminating connection|closed"):
        Migration(FileStore(files), DatabaseStore(url, "db")).copy(cut)
    assert move_is_whole(url, Migration(FileStore(files), DatabaseStore(url, "db")).finish())


def test_another_journal_is_not_written_over(files: Path, url: str, tmp_path: Path) -> None:
    with open_database(url) as journal:
        journal.append([delivery(1)])
    with pytest.raises(MigrationRefused, match="another journal"):
        Migration(FileStore(files), DatabaseStore(url, "db")).estimate()
    with pytest.raises(MigrationRefused, match="holds journal"):
        Migration(FileStore(files), DatabaseStore(url, "db")).copy()
    with pytest.raises(MigrationRefused, match="holds a journal"):
        Migration(DatabaseStore(url, "db"), FileStore(files)).copy()
    with open_database(url) as journal:
        assert journal.append([delivery(2)]) == Appended((2,))
    with open_files(files) as here:  # type: ignore[attr-defined]
        assert here.head().seq > 80


def test_a_journal_that_is_damaged_is_not_moved(files: Path, url: str) -> None:
    segment = sorted(files.glob("*.jsonl"))[1]
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    with pytest.raises(JournalDamaged):
        Migration(FileStore(files), DatabaseStore(url, "db")).finish()
    assert files.exists()
    with pytest.raises(JournalSealed):
        open_database(url)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE covenq.content SET payload = 'x' || substr(payload, 2) WHERE seq = 31",
        "UPDATE covenq.record SET envelope = envelope || ' ' WHERE seq = 40",
        "DELETE FROM covenq.record WHERE seq = 40",
    ],
    ids=["payload", "record", "gap"],
)
def test_tables_that_are_damaged_are_not_moved(url: str, tmp_path: Path, damage: str) -> None:
    with open_database(url) as journal:
        fill(journal, 0, 30)
    cluster(standby=False).sql(damage)
    with pytest.raises(JournalDamaged):
        Migration(DatabaseStore(url, "db"), FileStore(tmp_path / "back")).finish()
    assert not (tmp_path / "back").exists()
    with open_database(url) as journal:
        assert isinstance(journal.append([delivery(99)]), Appended)


GOLDEN = Path(__file__).resolve().parents[1] / "file" / "golden"


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/expected.json")))
def test_a_journal_of_every_history_moves_there_and_back(case: str, url: str, tmp_path: Path) -> None:
    """Torn, rotated, erased, restored from a backup, salvaged with records left out."""
    directory = making.copy(GOLDEN / case / "journal", tmp_path / "journal")
    with open_journal(directory, force_filesystem=True) as journal:
        before = contents(journal)
    Migration(FileStore(directory), DatabaseStore(url, "db")).finish()
    assert verify_tables(url).damage == []
    there, _ = moved(url)
    assert there[: len(before)] == before
    with open_database(url) as journal:
        fill(journal, 1000, 2)
        there = contents(journal)
    Migration(DatabaseStore(url, "db"), FileStore(tmp_path / "back")).finish()
    assert verify_files(tmp_path / "back").damage == []
    assert read_files(tmp_path / "back")[: len(there)] == there


def test_a_journal_is_not_moved_onto_itself(files: Path, url: str, tmp_path: Path) -> None:
    """The same database under another name, and one that was moved away already."""
    alias = f"{url}&application_name=other"
    with open_database(url) as journal:
        id = journal.id
    onto = Migration(DatabaseStore(url, "db"), DatabaseStore(alias, "other"))
    for step in (onto.estimate, onto.copy, onto.finish):
        with pytest.raises(MigrationRefused, match="one place"):
            step()
    with open_database(url) as journal:
        assert journal.id == id and journal.append([delivery(1)]) == Appended((1,))
    Migration(DatabaseStore(url, "db"), FileStore(tmp_path / "new" / "journal")).finish()
    with pytest.raises(MigrationRefused, match="one place"):
        onto.finish()
    with pytest.raises(JournalSealed, match="moved to file:"):
        open_database(url)
    link = tmp_path / "link"
    link.symlink_to(files.parent)
    with pytest.raises(MigrationRefused, match="one place"):
        Migration(FileStore(files), FileStore(link / "journal")).finish()
    assert files.exists()


def test_files_of_somebody_elses_are_left_alone(url: str, tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / "diary.txt").write_text("dear")
    (directory / "lock").touch()
    with open_database(url) as journal:
        journal.append([delivery(1)])
    with pytest.raises(MigrationRefused, match="diary"):
        Migration(DatabaseStore(url, "db"), FileStore(directory)).copy()
    assert (directory / "diary.txt").read_text() == "dear"
    with open_database(url) as journal:
        assert journal.append([delivery(2)]) == Appended((2,))
    (directory / "diary.txt").unlink()
    Migration(DatabaseStore(url, "db"), FileStore(directory)).finish()
    assert [record.seq for record in read_files(directory) if record.kind == "delivery.received"] == [1, 2]


def test_what_an_earlier_move_left_is_found_before_the_journal_is_sealed(files: Path, url: str) -> None:
    sealed = files.with_name("journal.sealed")
    sealed.mkdir()
    with pytest.raises(MigrationRefused, match="sealed is there already"):
        Migration(FileStore(files), DatabaseStore(url, "db")).finish()
    assert all(record.kind != "journal.sealed" for record in read_files(files))
    sealed.rmdir()
    assert move_is_whole(url, Migration(FileStore(files), DatabaseStore(url, "db")).finish())
