"""state.db built anew from a long journal: the same rows as record by record, whatever happens in the middle."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from covenq.errors import StateNotAsLeft
from covenq.filter.grammar import parse
from covenq.state import opening, query, seen
from covenq.state import store as store_module
from covenq.state.building import Building
from covenq.state.fold import fold
from covenq.state.store import StateStore, overlay
from journal.file.engine import FileJournal
from journal.file.open import open_journal
from journal.file.reader import open_reader
from journal.file.settings import WriteSettings
from journal.interface import Reading
from journal.records import Entry
from tests.support.checkout import ROOT
from tests.support.records import (
    as_records,
    dump_all,
    empty_built_state,
    empty_state,
    moved,
    note,
    of,
    queued,
    received,
)


def history(deliveries: int) -> Iterator[Entry]:
    """Deliveries of every fate, some of which go on long after they came, or have a body or a name that others have."""
    later: list[Entry] = []
    for n in range(deliveries):
        guid, task = f"g{n}", of(f"g{n}")
        if n % 13 == 5:  # a salvage may have lost the delivery's record, or found it later
            later.append(received(guid, payload=b"late"))
        else:
            yield received(guid, payload=b"x" * (n % 7 if n % 3 else n))
        yield queued(guid)
        if n % 4 == 0:
            later.append(note("repeated", guid))
        yield moved("claimed", task, attempt=1, worker="w")
        yield moved("phase", task, attempt=1, phase="prepared")
        end = moved("failed" if n % 5 == 0 else "completed", task, attempt=1, category="exit" if n % 5 == 0 else None)
        if n % 6 == 0:
            later.append(end)
        else:
            yield end
        if n % 10 == 0:
            later += [moved("requeued", task), moved("claimed", task, attempt=1 + n % 3), moved("retry", task)]
        if n % 17 == 3:
            later.append(note("redacted", guid, drops=[[max(1, n - 5), n]], about=True))
        if n % 23 == 7:
            later.append(Entry("ops.pauses", "ops.paused", {"what": "route", "name": f"r{n}", "by": "me"}))
        if len(later) > 40:
            yield from later[:20]
            del later[:20]
    yield from later


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileJournal]:
    """A journal that is long, for what is taken for long here."""
    monkeypatch.setattr(opening, "BUILT_RECORDS", 100)
    monkeypatch.setattr(store_module, "BATCH_RECORDS", 30)
    with open_journal(tmp_path / "journal", settings=WriteSettings(idle_s=3600)) as one:
        one.append(list(history(120)))
        yield one


def expected(journal: Reading) -> Mapping[str, list[tuple[Any, ...]]]:
    """The rows as folded in the same batches into tables that have their indexes; but for the position, which it has not."""
    with empty_state() as conn:
        records = list(journal.read(0))
        for start in range(0, len(records), 30):
            fold(conn, records[start : start + 30])
        return {**dump_all(conn), "position": []}


def rows_of(path: Path) -> Mapping[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {**dump_all(conn), "position": []}


def test_a_file_that_is_built_anew_is_that_of_the_fold(tmp_path: Path, journal: FileJournal) -> None:
    path = tmp_path / "state.db"
    with StateStore(path, journal) as store:
        assert store.building and store.folded == 0
        told: list[int] = []
        head = journal.head().seq
        assert store.catch_up(told.append) == head == store.folded
        assert not store.building
        assert told == sorted(told) and told[-1] == head
        assert len(query.deliveries(store.reader(), parse("repo:octo/hello"), 0).items) > 0
    assert rows_of(path) == expected(journal)


def test_who_waits_for_what_the_journal_had_meets_no_table_without_its_indexes(
    tmp_path: Path, journal: FileJournal
) -> None:
    with StateStore(tmp_path / "state.db", journal) as store:
        head = journal.head().seq
        journal.append([received("late")])  # while it is built

        def look(seq: int) -> None:
            missing = "deliveries_id" not in {
                row[0] for row in store.reader().execute("SELECT name FROM sqlite_master")
            }
            assert store.folded == seq
            assert seq < head or not (missing or store.building)

        assert store.catch_up(look) == head + 1


def test_a_short_journal_has_its_indexes_from_the_start(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal") as journal, StateStore(tmp_path / "state.db", journal) as store:
        assert not store.building
        assert query.deliveries(store.reader(), parse("repo:octo/hello"), 0).items == []


def test_it_goes_on_from_any_stop(tmp_path: Path, journal: FileJournal) -> None:
    """Stopped after each step once, between two indexes too; and what comes meanwhile is folded first."""
    path, stops = tmp_path / "state.db", 0
    while True:
        with StateStore(path, journal) as store:
            store.catch_up(None, iter([False, True]).__next__)
            if not store.building:
                break
            assert store.folded < journal.head().seq
        stops += 1
        if stops % 10 == 0:
            journal.append([received(f"late{stops}"), queued(f"late{stops}")])
    assert stops > len(list(journal.read(0))) // 30 + 15
    with StateStore(path, journal) as store:
        store.catch_up()
    found, wanted = rows_of(path), expected(journal)
    assert {name: rows for name, rows in found.items() if name != "ended"} == {
        name: rows for name, rows in wanted.items() if name != "ended"
    }


def test_an_answer_without_a_daemon_has_the_rows_and_the_indexes_of_a_half_built_file(
    tmp_path: Path, journal: FileJournal
) -> None:
    path = tmp_path / "state.db"
    with StateStore(path, journal) as store:
        store.catch_up(None, iter([False] * 5 + [True]).__next__)
    before = rows_of(path)
    journal.append([received("late")])
    journal.close()
    for file in (path, tmp_path / "nothing.db"):
        with open_reader(tmp_path / "journal") as reader, overlay(file, reader) as conn:
            assert query.delivery(conn, None, "late").state == "received"
            assert {**dump_all(conn), "position": []} == expected(reader)
    assert rows_of(path) == before


def test_a_half_built_file_that_is_ruined_is_made_again_unless_readers_have_seen_it(
    tmp_path: Path, journal: FileJournal
) -> None:
    path = tmp_path / "state.db"
    with StateStore(path, journal) as store:
        store.catch_up(None, iter([False] * 5 + [True]).__next__)
        seen_so_far = store.position()
        name, root = store._conn.execute(
            "SELECT name, rootpage FROM sqlite_master WHERE name GLOB 'seen_[0-9]*'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with closing(sqlite3.connect(path)) as conn, pytest.raises(sqlite3.DatabaseError):
        conn.execute(f"SELECT * FROM {name}").fetchall()
    with pytest.raises(StateNotAsLeft):
        StateStore(path, journal, at_least=seen_so_far)
    with StateStore(path, journal, lock_s=0) as store:
        assert store.folded == 0 and store.building
        store.catch_up()
    assert rows_of(path) == expected(journal)


_BUILDER = """
import sys
from pathlib import Path
from covenq.state import opening, store
from journal.file.reader import open_reader

opening.BUILT_RECORDS, store.BATCH_RECORDS = 100, 30
path = Path(sys.argv[1])
with open_reader(path.parent / "journal") as reader, store.StateStore(path, reader) as one:
    print("opened", flush=True)
    one.catch_up(lambda seq: (print(seq, flush=True), sys.stdin.readline()))
    print("done", flush=True)
"""
"""Goes no further than one step beyond what it was told to."""


def test_a_process_that_is_killed_at_any_point_loses_nothing(tmp_path: Path, journal: FileJournal) -> None:
    journal.close()
    path, at, kills = tmp_path / "state.db", random.Random(17), 0
    while True:
        with subprocess.Popen(
            [sys.executable, "-c", _BUILDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            assert process.stdout.readline() == "opened\n"
            for _ in range(at.randint(1, 7)):
                line = process.stdout.readline()
                if line == "done\n":
                    break
                process.stdin.write("\n")  # on it goes, with the kill that may come right behind
                process.stdin.flush()
            process.kill()
        if line == "done\n":
            break
        kills += 1
    assert kills >= 5, "it goes on by at most eight steps a process, and there are more than forty"
    with open_reader(tmp_path / "journal") as reader:
        assert rows_of(path) == expected(reader)


@pytest.mark.parametrize("hashes", [1, 3])
def test_keys_that_have_one_hash_are_told_apart(hashes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_hash", lambda text: sum(text.encode()) % hashes)
    monkeypatch.setattr(seen, "_number", lambda text, start: len(text) % hashes)
    records = as_records(history(60))
    with empty_built_state() as built, empty_state() as plain:
        building = Building(built, len(records))
        for start in range(0, len(records), 7):
            building.fold(records[start : start + 7])
            fold(plain, records[start : start + 7])
        while building.unfinished:
            building.finish_one()
        assert dump_all(built) == dump_all(plain)


def test_a_batch_that_is_rolled_back_leaves_nothing_that_the_next_would_find(tmp_path: Path) -> None:
    records = as_records(history(40))
    with empty_built_state() as built, empty_state() as plain:
        building = Building(built, len(records))
        for start in range(0, len(records), 9):
            built.execute("BEGIN")
            building.fold(records[start : start + 9])
            built.execute("ROLLBACK")
            building.fold(records[start : start + 9])
            fold(plain, records[start : start + 9])
        while building.unfinished:
            building.finish_one()
        assert dump_all(built) == dump_all(plain)


def test_an_answer_without_a_daemon_has_the_indexes_that_a_file_with_all_rows_still_lacks(
    tmp_path: Path, journal: FileJournal
) -> None:
    """Read where another process has the journal's lock, as one that starts: nothing is completed in the file itself."""
    path, stops = tmp_path / "state.db", 0
    while True:
        with StateStore(path, journal) as store:
            store.catch_up(None, iter([False, True]).__next__)
            if not store.building:
                break
        stops += 1
        with overlay(path, journal) as conn:
            for text in ("sha:0a1b*", "twin:*", "duplicates>0", "size>70000", "attempts>1"):
                query.deliveries(conn, parse(text))
                query.tasks(conn, parse(text))
    assert stops > 20
