"""Whether a state.db is what a fold of its journal from the start gives, row by row."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from covenq.state.store import StateStore
from journal.engines import open_reader


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Table → its rows, in order; of the position the seq alone."""
    with closing(sqlite3.connect(path)) as conn:
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: sorted(conn.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in names}


def assert_state_is_a_fresh_fold(data: Path) -> None:
    """Of a data directory that no process has open. The file itself is left as it is."""
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
        found, wanted = rows_of(kept), rows_of(fresh)
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        assert found[name] == rows, f"{name} differs from a fresh fold"
