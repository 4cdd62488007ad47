"""Whether a state.db is what a fold of its journal from the start gives, row by row."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from covenq.state import rollups
from covenq.state.store import StateStore
from journal.engines import open_reader


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Table → its rows, in order; of the position the seq alone."""
    with closing(sqlite3.connect(path)) as conn:
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: sorted(conn.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in names}


def assert_rollups_are_of_the_rows(conn: sqlite3.Connection) -> None:
    """Every rollup there is has the counts of the rows as they are, and every part of one is there."""
    every = "SELECT level, block, deliveries, failed, oldest, newest, counts FROM rollups ORDER BY level, block"
    kept = [tuple(row) for row in conn.execute(every)]
    conn.execute("SAVEPOINT as_they_were")
    try:
        conn.execute("DELETE FROM rollups")
        for level, block, *_ in kept:
            if level == 0:
                rollups.make(conn, block)
        assert [tuple(row) for row in conn.execute(every)] == kept, "a rollup differs from the rows"
    finally:
        conn.execute("ROLLBACK TO as_they_were")
        conn.execute("RELEASE as_they_were")


def assert_state_is_a_fresh_fold(data: Path) -> None:
    """Of a data directory that no process has open. The file itself is left as it is.

    A fresh fold has no rollups; those in the file are compared with its rows.
    """
    with tempfile.TemporaryDirectory() as directory:
        kept, fresh = Path(directory) / "kept" / "state.db", Path(directory) / "fresh" / "state.db"
        for one in (kept, fresh):
            one.parent.mkdir()
        for suffix in ("", "-wal"):
            if (file := data / f"state.db{suffix}").exists():
                shutil.copy(file, kept.with_name(file.name))
        with open_reader(data / "journal") as journal:
            for path in (kept, fresh):
                with StateStore(path, journal) as store:
                    store.catch_up()
        with closing(sqlite3.connect(kept, isolation_level=None)) as conn:
            assert_rollups_are_of_the_rows(conn)
        found, wanted = rows_of(kept), rows_of(fresh)
    del found["rollups"], wanted["rollups"]
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        assert found[name] == rows, f"{name} differs from a fresh fold"
