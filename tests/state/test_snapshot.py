"""Snapshots of state.db: what one has, and everything for which another node's is not used."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from covenq.errors import SnapshotUnusable, StateBehind
from covenq.state import schema, seen, snapshot
from covenq.state.store import StateStore
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.settings import WriteSettings
from tests.support.records import queued, received
from tests.support.same_state import rows_of


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    with open_journal(tmp_path / "journal", settings=WriteSettings(idle_s=3600)) as one:
        for n in range(20):
            one.append([received(f"g{n}"), queued(f"g{n}")])
        yield one


@pytest.fixture
def state(tmp_path: Path, journal: FileJournal) -> Path:
    path = tmp_path / "state.db"
    with StateStore(path, journal) as store:
        store.catch_up()
    return path


@pytest.fixture
def made(state: Path, tmp_path: Path) -> Path:
    to = tmp_path / "other" / "state.fetched"
    to.parent.mkdir()
    snapshot.make(state, to, lambda: False)
    return to


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def check(path: Path, journal: FileJournal) -> schema.Position:
    return snapshot.check(path, journal, lambda: False)


def test_it_has_the_rows_and_the_witness_and_is_its_user_s_alone(state: Path, made: Path, journal: FileJournal) -> None:
    head = journal.head()
    assert rows_of(made) == rows_of(state)
    found = check(made, journal)
    assert (found.witness.journal, found.witness.seq, found.witness.sum) == (journal.id, head.seq, head.sum)
    assert made.stat().st_mode & 0o777 == 0o600 and names(made.parent) == [made.name]
    about = snapshot.about(state)
    assert about.position == found and about.bytes >= made.stat().st_size


def test_the_fold_goes_on_from_one_that_is_installed(made: Path, state: Path, journal: FileJournal) -> None:
    journal.append([received("later")])
    place = made.with_name("state.db")
    place.write_bytes(b"of another schema")
    place.with_name("state.db-wal").write_bytes(b"its log")
    snapshot.install(made, place, 1.0)
    assert names(made.parent) == ["state.db", "state.lock"]
    assert snapshot.is_usable(place, journal)
    for path in (place, state):
        with StateStore(path, journal) as store:
            assert store.catch_up() == journal.head().seq
    assert rows_of(place) == rows_of(state)


def test_one_that_ends_early_leaves_nothing(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "STEPS", 1)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        snapshot.make(state, tmp_path / "state.snapshot", lambda: True)
    assert not list(tmp_path.glob("state.snapshot*"))


def test_none_is_made_of_a_file_that_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as conn:
        schema.create(conn, indexes=False)
        seen.start(conn)
        schema.set_position(conn, schema.Witness("j" * 32, 3, "s"), "e" * 16)
        conn.commit()
    for ask in (lambda: snapshot.about(path), lambda: snapshot.make(path, tmp_path / "to", lambda: False)):
        with pytest.raises(StateBehind, match="being made anew"):
            ask()
    assert not (tmp_path / "to").exists()


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    for name in ("state.snapshot", "state.snapshot-journal", "state.fetched", "state.fetched-wal", "state.db"):
        (tmp_path / name).touch()
    snapshot.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["state.db"]


def changed(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for statement in statements:
            conn.execute(statement)


def zeroed(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\0" * 4096)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_bytes(b"x" * 5000), "not a database"),
    "empty": (lambda path: path.write_bytes(b""), "has the schema 0"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2), "malformed|damaged"),
    "a page of zeros": (zeroed, "pages are damaged|malformed"),
    "another schema": (lambda path: changed(path, "PRAGMA user_version = 99"), "has the schema 99"),
    "a trigger": (
        lambda path: changed(path, "CREATE TRIGGER t AFTER INSERT ON tasks BEGIN DELETE FROM tasks; END"),
        "not those that covenq makes",
    ),
    "a view": (lambda path: changed(path, "CREATE VIEW v AS SELECT 1"), "not those that covenq makes"),
    "an index that is missing": (lambda path: changed(path, "DROP INDEX tasks_id"), "not those that covenq makes"),
    "a table that is another": (
        lambda path: changed(path, "DROP TABLE position", "CREATE VIEW position AS SELECT 'x', 1, 'y', 'z'"),
        "not those that covenq makes",
    ),
    "a long statement": (lambda path: changed(path, f"CREATE VIEW v AS SELECT '{'x' * (2 << 20)}'"), "can't be read"),
    "no position": (lambda path: changed(path, "DELETE FROM position"), "no position"),
    "a position that is none": (
        lambda path: changed(path, "UPDATE position SET seq = -1"),
        "record -1, which the jour",
    ),
    "a position of words": (lambda path: changed(path, "UPDATE position SET seq = 'x'"), "can't be read"),
    "past the head": (
        lambda path: changed(path, "UPDATE position SET seq = 1000000"),
        "record 1000000, which the jour",
    ),
    "another history": (lambda path: changed(path, "UPDATE position SET sum = 'x'"), "seen another record"),
    "another journal": (lambda path: changed(path, "UPDATE position SET journal = 'x'"), "of another journal"),
    "another epoch": (lambda path: changed(path, "UPDATE position SET epoch = 'x'"), "of another epoch"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_is_sent_is_not_used_unless_the_fold_can_go_on_from_it(
    made: Path, journal: FileJournal, what: str
) -> None:
    change, words = UNUSABLE[what]
    change(made)
    with pytest.raises(SnapshotUnusable, match=words):
        check(made, journal)


def test_one_that_was_left_as_it_is_worked_on_is_used_as_well(made: Path, journal: FileJournal) -> None:
    changed(made, "PRAGMA journal_mode = WAL")
    assert check(made, journal).witness.seq == journal.head().seq and names(made.parent) == [made.name]


def test_checking_one_ends_in_time(made: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "STEPS", 1)
    with pytest.raises(SnapshotUnusable, match="took too long"):
        snapshot.check(made, journal, lambda: True)


def test_which_state_a_node_goes_on_with(state: Path, journal: FileJournal, tmp_path: Path) -> None:
    assert snapshot.is_usable(state, journal)
    assert not snapshot.is_usable(tmp_path / "none.db", journal)
    changed(state, f"PRAGMA user_version = {schema.VERSION + 1}")
    assert not snapshot.is_usable(state, journal)
    changed(state, f"PRAGMA user_version = {schema.VERSION}", "UPDATE position SET journal = 'x'")
    assert not snapshot.is_usable(state, journal)
    state.write_bytes(b"no database at all" * 300)
    assert not snapshot.is_usable(state, journal)


def test_room_is_left_to_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert snapshot.has_room(tmp_path, free - snapshot.KEPT_BYTES)
    assert not snapshot.has_room(tmp_path, free - snapshot.KEPT_BYTES + 1)
