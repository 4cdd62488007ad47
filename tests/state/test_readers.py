"""Connections for reading are given back by threads that read nothing for a while, so that few are open."""

from __future__ import annotations

import threading
from pathlib import Path

from covenq.state.readers import IDLE_READERS
from covenq.state.store import StateStore
from journal.file.open import open_journal
from tests.support.waiting import eventually


def test_idle_threads_hold_no_connections(tmp_path: Path) -> None:
    done = threading.Event()
    with open_journal(tmp_path / "journal") as journal, StateStore(tmp_path / "state.db", journal) as store:
        before = descriptors_of(store.path)
        started: list[threading.Thread] = []
        read: list[int] = []

        def work() -> None:
            read.append(store.reader().execute("SELECT count(*) FROM tasks").fetchone()[0])
            store.release_reader()
            store.release_reader()  # nothing is left to give back
            read.append(-1)
            done.wait(60)

        for number in range(1, 33):
            started.append(threading.Thread(target=work))
            started[-1].start()
            eventually(lambda wanted=number: len(read) == 2 * wanted)
        kept = descriptors_of(store.path) - before
        done.set()
        for one in started:
            one.join()
        assert kept <= 2, "the file and its log, of one connection: the next thread takes it"


def test_threads_that_read_at_once_have_connections_of_their_own_and_few_are_kept(tmp_path: Path) -> None:
    threads = 2 * IDLE_READERS
    together = threading.Barrier(threads, timeout=60)
    with open_journal(tmp_path / "journal") as journal, StateStore(tmp_path / "state.db", journal) as store:
        used: set[int] = set()

        def work() -> None:
            used.add(id(store.reader()))
            together.wait()
            store.release_reader()

        started = [threading.Thread(target=work) for _ in range(threads)]
        for one in started:
            one.start()
        for one in started:
            one.join()
        assert len(used) == threads
        # SQLite keeps the descriptor of a file that is locked elsewhere for its next connection; the log's is closed.
        logs = descriptors_of(store.path.with_name("state.db-wal"))
        assert logs <= IDLE_READERS + 1, "the writer's too"


def descriptors_of(path: Path) -> int:
    """How many descriptors this process has on the database and its files."""
    found = 0
    for one in Path("/dev/fd").iterdir():
        try:
            found += str(one.readlink()).startswith(str(path))
        except OSError:
            continue
    return found
