"""The connections to the index: closed where opening one fails, and when the thread that looked something up has ended."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from journal.file.catalogue import KEPT_MAX, Catalogue
from journal.file.index import Index, open_index


class Recorded(sqlite3.Connection):
    closed: list[Recorded]

    def close(self) -> None:
        self.closed.append(self)
        super().close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """Every connection that is opened; `Recorded.closed` has those that were closed."""
    found: list[Recorded] = []
    connect = sqlite3.connect

    def recording(*args: Any, **more: Any) -> Recorded:
        made = connect(*args, factory=Recorded, **more)
        assert isinstance(made, Recorded)
        found.append(made)
        return made

    monkeypatch.setattr(Recorded, "closed", [], raising=False)
    monkeypatch.setattr(sqlite3, "connect", recording)
    return found


@pytest.mark.parametrize("readonly", [False, True])
def test_what_is_no_index_is_closed_again(tmp_path: Path, opened: list[Recorded], readonly: bool) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Index(path, readonly=readonly)
    assert len(opened) == 1
    assert Recorded.closed == opened


def test_an_index_of_another_version_is_closed_again(tmp_path: Path, opened: list[Recorded]) -> None:
    path = tmp_path / "index.sqlite"
    index = open_index(path)
    index.db.execute("PRAGMA user_version = 99")
    index.close()
    open_index(path).close()
    assert len(opened) == 3
    assert sorted(map(id, Recorded.closed)) == sorted(map(id, opened))


def test_look_ups_share_few_connections(tmp_path: Path, opened: list[Recorded]) -> None:
    """Each has two descriptors, and there are as many threads that look something up as a user asks for."""
    catalogue = Catalogue(open_index(tmp_path / "index.sqlite"))
    for _ in range(5):
        thread = threading.Thread(target=catalogue.last, args=("delivery.1.a",))
        thread.start()
        thread.join()
    assert len(opened) - len(Recorded.closed) == 2, "the index's own, and one for who asks next"
    asking = threading.Barrier(20)

    def ask() -> str:
        return str(catalogue._query(lambda index: asking.wait(30) and index.last("delivery.1.a")))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: ask(), range(20)))
    assert len(opened) >= 21, "twenty at once"
    assert len(opened) - len(Recorded.closed) == 1 + KEPT_MAX
    catalogue.close()
    assert len(opened) == len(Recorded.closed)
