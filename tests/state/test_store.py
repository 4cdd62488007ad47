"""state.db over a real journal: caught up, made again, followed live, completed in memory."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from covenq.errors import CovenqError
from covenq.filter.grammar import parse
from covenq.state import query
from covenq.state import store as store_module
from covenq.state.store import StateStore, overlay, read_witness
from journal.errors import JournalDamaged
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.reader import open_reader
from journal.file.settings import WriteSettings
from journal.records import Appended, Entry
from tests.support.fold_thread import FoldThread
from tests.support.records import dump, moved, note, of, queued, received
from tests.support.waiting import eventually


def opened(directory: Path) -> FileJournal:
    """A journal that adds no records of its own while tests count them."""
    return open_journal(directory, settings=WriteSettings(idle_s=3600))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    with opened(tmp_path / "journal") as one:
        yield one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def append(journal: FileJournal, *entries: Entry) -> int:
    answer = journal.append(entries)
    assert isinstance(answer, Appended)
    return answer.seqs[-1]


def history(journal: FileJournal, first: int, end: int) -> int:
    """Deliveries of every fate, a batch each."""
    seq = 0
    for n in range(first, end):
        guid, task = f"g{n}", of(f"g{n}")
        if n % 5 == 0:
            seq = append(journal, received(guid), note("ignored", guid, reason="no_route"))
            continue
        seq = append(journal, received(guid, payload=b"x" * n), queued(guid))
        if n % 5 == 1:
            continue
        claim = append(journal, moved("claimed", task, attempt=1, worker="w"))
        seq = append(journal, moved("phase", task, attempt=1, claim=claim, phase="started"))
        if n % 5 == 3:
            seq = append(journal, moved("failed", task, attempt=1, claim=claim, category="exit", exit_code=1))
        if n % 5 == 4:
            seq = append(journal, moved("completed", task, attempt=1, claim=claim, exit_code=0))
    return seq


def rows_of(path: Path) -> Mapping[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as conn:
        return dump(conn)


def answers(conn: sqlite3.Connection) -> list[Any]:
    every = parse("")
    tasks = query.tasks(conn, every, 0).items
    return [query.deliveries(conn, every, 0), tasks, [query.attempts(conn, t.id) for t in tasks], query.counts(conn)]


# ---- the store


def test_it_folds_to_the_head_and_goes_on_from_there(path: Path, journal: FileJournal) -> None:
    history(journal, 0, 10)
    with StateStore(path, journal) as store:
        assert store.folded == 0
        assert store.catch_up() == journal.head().seq == store.folded
        assert store.catch_up() == journal.head().seq
        position = store.position()
        assert position is not None
        assert (position.journal, position.seq, position.sum) == (journal.id, journal.head().seq, journal.head().sum)
    history(journal, 10, 20)
    with StateStore(path, journal) as store:
        assert store.folded == position.seq
        seen: list[int] = []
        store.catch_up(seen.append)
        assert seen == [journal.head().seq]
        assert len(query.deliveries(store.reader(), parse(""), 0).items) == 20


def test_a_rebuilt_file_answers_the_same(path: Path, journal: FileJournal) -> None:
    for end in range(5, 40, 5):  # folded in parts, each opening the file again
        history(journal, end - 5, end)
        with StateStore(path, journal) as store:
            store.catch_up()
            before = answers(store.reader())
    rows = rows_of(path)
    for left in path.parent.glob("state.db*"):
        left.unlink()
    with StateStore(path, journal) as store:
        store.catch_up()
        assert answers(store.reader()) == before
    assert rows_of(path) == rows


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 200, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_made_again(path: Path, journal: FileJournal, content: bytes) -> None:
    history(journal, 0, 5)
    path.write_bytes(content)
    assert read_witness(path) is None
    with StateStore(path, journal) as store:
        assert store.catch_up() == journal.head().seq
        assert len(query.deliveries(store.reader(), parse(""), 0).items) == 5


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 99",
        "UPDATE position SET epoch = 'f00df00df00df00d'",
        "UPDATE position SET journal = 'other'",
        "DELETE FROM position",
    ],
)
def test_a_file_of_another_schema_epoch_or_journal_is_made_again(path: Path, journal: FileJournal, change: str) -> None:
    history(journal, 0, 5)
    with StateStore(path, journal) as store:
        store.catch_up()
    rows = rows_of(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE left_over (x)")
        conn.execute("DELETE FROM tasks")
        conn.execute(change)
    with StateStore(path, journal) as store:
        assert store.folded == 0
        store.catch_up()
        assert store.reader().execute("SELECT count(*) FROM sqlite_master WHERE name = 'left_over'").fetchone()[0] == 0
    assert rows_of(path) == rows


def test_a_file_that_saw_more_than_the_journal_has_is_damage(path: Path, tmp_path: Path, journal: FileJournal) -> None:
    history(journal, 0, 5)
    with StateStore(path, journal) as store:
        store.catch_up()
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("UPDATE position SET seq = seq + 10")
    with pytest.raises(JournalDamaged, match="shorter than its caches"):
        StateStore(path, journal)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("UPDATE position SET seq = 3")
    with pytest.raises(JournalDamaged, match="another record"):
        StateStore(path, journal)
    assert path.exists()


def test_the_witness_keeps_a_shortened_journal_from_opening(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal:
        history(journal, 0, 3)
    shutil.copytree(tmp_path / "journal", tmp_path / "older")
    assert read_witness(path) is None
    with opened(tmp_path / "journal") as journal:
        history(journal, 3, 6)
        with StateStore(path, journal) as store:
            assert read_witness(path) is None  # nothing folded yet
            store.catch_up()
            assert read_witness(path) == store.position()
    witness = read_witness(path)
    assert witness is not None
    with pytest.raises(JournalDamaged):
        open_journal(tmp_path / "older", witnesses=[witness])


def test_position_and_rows_change_together(path: Path, journal: FileJournal) -> None:
    """Whatever happens in the middle of a batch, the file is that of the batch before."""
    seq = history(journal, 0, 5)
    with StateStore(path, journal) as store:
        store.catch_up()
        before = rows_of(path)
        history(journal, 5, 10)
        pages = store._conn.execute("PRAGMA page_count").fetchone()[0]
        store._conn.execute(f"PRAGMA max_page_count = {pages}")
        append(journal, *(received(f"big{n}", about={"title": "x" * 256}) for n in range(100)))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.catch_up()
        assert store.folded == seq
        assert rows_of(path) == before
        store._conn.execute(f"PRAGMA max_page_count = {1 << 30}")
        assert store.catch_up() == journal.head().seq
        assert len(query.deliveries(store.reader(), parse(""), 0).items) == 110


def test_batches_are_bounded_by_records_and_by_payloads(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covenq.state.store.BATCH_RECORDS", 4)
    monkeypatch.setattr("covenq.state.store.BATCH_BYTES", 1000)
    append(journal, *(received(f"g{n}", payload=b"{}") for n in range(6)))
    append(journal, *(received(f"big{n}", payload=b"x" * 600) for n in range(4)))
    with StateStore(path, journal) as store:
        seen: list[int] = []
        store.catch_up(seen.append)
    assert seen == [4, 8, 10]


def test_each_thread_has_its_own_connection_that_can_not_write(path: Path, journal: FileJournal) -> None:
    with StateStore(path, journal) as store:
        mine = store.reader()
        assert store.reader() is mine
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            mine.execute("DELETE FROM tasks")
        others: list[sqlite3.Connection] = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: others.append(store.reader()))
            thread.start()
            thread.join()
        assert len({id(conn) for conn in (mine, *others)}) == 3
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):  # its thread is gone, so it was closed
            others[0].execute("SELECT 1")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        mine.execute("SELECT 1")


def test_a_place_that_can_not_be_opened_is_one_sentence(tmp_path: Path, journal: FileJournal) -> None:
    with pytest.raises(CovenqError, match="can't be opened"):
        StateStore(tmp_path / "missing" / "state.db", journal)


def test_an_sqlite_that_is_too_old_is_named(path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    for reading in (lambda: StateStore(path, journal), lambda: overlay(path, journal).__enter__()):
        with pytest.raises(CovenqError, match=r"SQLite is .*, and covenq needs 3\.35"):
            reading()


# ---- the fold thread


@pytest.fixture
def store(path: Path, journal: FileJournal) -> Iterator[StateStore]:
    with StateStore(path, journal) as one:
        yield one


@pytest.fixture
def fold_thread(store: StateStore, journal: FileJournal) -> Iterator[FoldThread]:
    started = FoldThread(store, journal, retry_s=0.01)
    started.start()
    yield started
    started.stop()
    assert not started.is_alive()


def test_a_reader_that_waits_for_an_append_sees_it(
    store: StateStore, fold_thread: FoldThread, journal: FileJournal
) -> None:
    for n in range(20):
        seq = append(journal, received(f"g{n}"))
        assert fold_thread.wait_for(seq, 10)
        assert query.delivery(store.reader(), "9", f"g{n}").seq == seq
    assert fold_thread.folded >= seq
    assert not fold_thread.wait_for(seq + 100, 0.01)


def test_readers_in_many_threads_see_their_own_appends(
    store: StateStore, fold_thread: FoldThread, journal: FileJournal
) -> None:
    failures: list[object] = []

    def work(name: int) -> None:
        for n in range(20):
            guid = f"g{name}-{n}"
            seq = append(journal, received(guid), queued(guid))
            if not fold_thread.wait_for(seq, 10):
                failures.append(seq)
                return
            row = query.delivery(store.reader(), "9", guid)
            if (row.state, row.tasks) != ("queued", [of(guid)]):
                failures.append(row)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_subscribers_hear_of_every_fold(fold_thread: FoldThread, journal: FileJournal) -> None:
    heard: list[int] = []
    fold_thread.subscribe(heard.append)
    seq = history(journal, 0, 10)
    assert fold_thread.wait_for(seq, 10)
    eventually(lambda: heard and heard[-1] == seq)
    assert heard == sorted(set(heard))


def test_a_fold_that_is_far_behind_does_not_hold_up_the_end_and_goes_on_at_the_next_start(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BATCH_RECORDS", 1)
    head, now = history(journal, 0, 30), 0.0
    with StateStore(path, journal) as store:
        thread = FoldThread(store, journal, monotonic=lambda: now)

        def pass_time(seq: int) -> None:
            nonlocal now
            now += 1.0
            if seq == 10:
                threading.Thread(target=thread.stop).start()
                eventually(thread._fold_loop._stopping.is_set)

        thread.subscribe(pass_time)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        reached = store.folded
    assert 10 <= reached <= 16 < head, "half of ten seconds, and a batch"
    with StateStore(path, journal) as store:
        assert store.folded == reached
        assert store.catch_up() == head


def test_long_work_of_sqlite_gives_signs_of_life(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "STEPS", 100)
    signs: list[int] = []
    head = history(journal, 0, 30)
    with StateStore(path, journal, working=lambda: signs.append(1)) as store:
        assert store.catch_up() == head
    assert len(signs) > 10


def test_a_full_disk_stops_the_fold_only_while_it_is_full(
    store: StateStore, fold_thread: FoldThread, journal: FileJournal
) -> None:
    assert fold_thread.wait_for(history(journal, 0, 5), 10)
    assert fold_thread.error is None
    pages = store._conn.execute("PRAGMA page_count").fetchone()[0]
    store._conn.execute(f"PRAGMA max_page_count = {pages}")
    seq = append(journal, *(received(f"big{n}", about={"title": "x" * 256}) for n in range(100)))
    eventually(lambda: fold_thread.error is not None)
    assert fold_thread.error is not None and "full" in fold_thread.error
    assert fold_thread.lag == 100
    assert not fold_thread.wait_for(seq, 0.05)
    assert fold_thread.is_alive()
    with store._writing:
        store._conn.execute(f"PRAGMA max_page_count = {1 << 30}")
    assert fold_thread.wait_for(seq, 10)
    eventually(lambda: fold_thread.error is None)
    assert fold_thread.lag == 0


def test_an_error_is_over_with_the_first_batch_that_is_folded(
    path: Path, store: StateStore, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BATCH_RECORDS", 10)
    fold_thread = FoldThread(store, journal)
    history(journal, 0, 60)
    fold_thread.failed("database is locked")
    seen = []
    fold_thread.subscribe(lambda seq: seen.append((seq, fold_thread.error)))
    fold_thread._fold_loop._catch_up()
    assert len(seen) > 3
    assert [error for _, error in seen[1:]] == [None] * (len(seen) - 1)


def test_a_file_with_ruined_pages_is_made_again(path: Path, store: StateStore, journal: FileJournal) -> None:
    history(journal, 0, 200)
    store.catch_up()
    store.close()
    with path.open("r+b") as file:  # everything but the header page
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with closing(sqlite3.connect(path)) as conn, pytest.raises(sqlite3.DatabaseError):
        conn.execute("SELECT * FROM position").fetchall()
    with StateStore(path, journal) as again:
        assert again.catch_up() == journal.head().seq
        assert len(query.deliveries(again.reader(), parse(""), 0).items) == 200


def test_damage_met_while_folding_is_told_and_mended_by_the_next_start(path: Path, journal: FileJournal) -> None:
    history(journal, 0, 200)
    with StateStore(path, journal) as store:
        store.catch_up()
        root = store._conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'deliveries_id'").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with StateStore(path, journal) as store:
        fold_thread = FoldThread(store, journal, retry_s=0.01)
        fold_thread.start()
        append(journal, received("late"))
        eventually(lambda: fold_thread.error is not None)
        assert fold_thread.error is not None and "damaged" in fold_thread.error
        fold_thread.stop()
    with StateStore(path, journal) as store:
        assert store.folded == 0
        store.catch_up()
        assert query.delivery(store.reader(), None, "late").state == "received"


def rot(path: Path, column: str, guid: str) -> None:
    """Have a text of a delivery be no UTF-8, as one changed bit does."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(f"UPDATE webhook_deliveries SET {column} = CAST(x'ff41' AS TEXT) WHERE guid = ?", [guid])


def test_text_that_has_rotted_is_damage_to_the_fold(path: Path, journal: FileJournal) -> None:
    with StateStore(path, journal) as store:
        history(journal, 0, 20)
        store.catch_up()
    rot(path, "title", "g3")
    with StateStore(path, journal) as store:
        fold_thread = FoldThread(store, journal, retry_s=0.01)
        fold_thread.start()
        append(journal, note("repeated", "g3"))
        eventually(lambda: fold_thread.error is not None)
        assert fold_thread.error is not None and "damaged" in fold_thread.error
        fold_thread.stop()
    with StateStore(path, journal) as store:
        assert store.folded == 0
        store.catch_up()
        assert query.delivery(store.reader(), None, "g3").duplicates == 1


def test_text_that_has_rotted_is_damage_to_a_reader_without_a_daemon(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal, StateStore(path, journal) as store:
        history(journal, 0, 20)
        store.catch_up()
    rot(path, "title", "g3")
    with open_reader(tmp_path / "journal") as reader:
        with pytest.raises(sqlite3.DatabaseError), overlay(path, reader, commit=True) as conn:
            query.delivery(conn, None, "g3")
        with overlay(path, reader, commit=True) as conn:
            assert query.delivery(conn, None, "g3").guid == "g3"


def test_who_waits_for_the_fold_hears_at_once_of_the_damage_that_it_comes_upon(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal:
        history(journal, 0, 10)
    with open_journal(tmp_path / "journal", settings=WriteSettings(segment_bytes=1)) as journal:
        seq = append(journal, received("late"))
        first = min((tmp_path / "journal").glob("*.jsonl"))
        whole = first.read_bytes()
        first.write_bytes(whole.replace(b'"guid":"g3"', b'"guid":"gX"', 1))
        with StateStore(path, journal) as store, ThreadPoolExecutor(1) as pool:
            fold_thread = FoldThread(store, journal, retry_s=0.01)
            asked = pool.submit(fold_thread.reach, seq, 60)
            eventually(lambda: fold_thread.awaited == seq, 30, "it waits")
            fold_thread.start()
            with pytest.raises(JournalDamaged) as caught:
                asked.result(30)
            assert caught.value.damage[0].segment == first.name
            with pytest.raises(JournalDamaged):
                fold_thread.reach(seq, 60)
            assert not fold_thread.wait_for(seq, 0)
            first.write_bytes(whole)
            assert fold_thread.wait_for(seq, 30)
            assert fold_thread.reach(seq, 0)
            fold_thread.stop()


def test_stop_folds_what_is_there(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal, StateStore(path, journal) as store:
        fold_thread = FoldThread(store, journal)
        fold_thread.start()
        seq = history(journal, 0, 10)
        journal.close()
        fold_thread.stop()
        assert store.folded >= seq
        assert not fold_thread.wait_for(seq + 100, 10)  # at once: nothing will come


# ---- without a daemon


def test_an_overlay_sees_the_missing_tail_and_leaves_the_file_alone(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal:
        history(journal, 0, 10)
        with StateStore(path, journal) as store:
            store.catch_up()
        history(journal, 10, 20)
    before = rows_of(path)
    with open_reader(tmp_path / "journal") as reader:
        for _ in range(2):
            with overlay(path, reader) as conn:
                assert len(query.deliveries(conn, parse(""), 0).items) == 20
                assert query.task(conn, of("g19")).state == "completed"
                with pytest.raises(sqlite3.OperationalError):
                    conn.execute("DELETE FROM tasks")
            assert rows_of(path) == before
        with overlay(path, reader, commit=True) as conn:
            assert len(query.deliveries(conn, parse(""), 0).items) == 20
    assert len(rows_of(path)["webhook_deliveries"]) == 20


@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 1000])
def test_an_overlay_needs_no_file(path: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)
    with opened(tmp_path / "journal") as journal:
        history(journal, 0, 10)
    with open_reader(tmp_path / "journal") as reader, overlay(path, reader) as conn:
        assert len(query.deliveries(conn, parse(""), 0).items) == 10
    assert path.exists() is (content is not None)
    assert content is None or path.read_bytes() == content


def test_an_overlay_of_a_file_locked_by_another_process_uses_none_of_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covenq.state.readers.BUSY_S", 0.01)
    with opened(tmp_path / "journal") as journal:
        history(journal, 0, 5)
        with StateStore(path, journal) as store:
            store.catch_up()
        history(journal, 5, 10)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with open_reader(tmp_path / "journal") as reader, overlay(path, reader) as conn:
            assert len(query.deliveries(conn, parse(""), 0).items) == 10


def test_an_overlay_of_another_epochs_file_folds_everything(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal:
        history(journal, 0, 10)
        with StateStore(path, journal) as store:
            store.catch_up()
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("UPDATE position SET epoch = 'f00df00df00df00d'")
        conn.execute("UPDATE webhook_deliveries SET state = 'failed'")
    before = rows_of(path)
    with open_reader(tmp_path / "journal") as reader, overlay(path, reader) as conn:
        assert query.counts(conn)["deliveries"]["failed"] == 2
    assert rows_of(path) == before


def test_reads_with_and_without_a_daemon_are_the_same(path: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal, StateStore(path, journal) as store:
        history(journal, 0, 12)
        store.catch_up()
        live = answers(store.reader())
    shutil.copytree(tmp_path / "journal", tmp_path / "copy")
    with open_reader(tmp_path / "copy") as reader, overlay(tmp_path / "nothing.db", reader) as conn:
        assert answers(conn) == live
