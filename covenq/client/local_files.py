"""Opening the files of a data directory without a daemon, for one call: to read, to write, or to maintain them."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from covenq.config.journal import IN_FILES, JournalSettings
from covenq.config.node import UNNAMED, NodeSettings
from covenq.config.retention import Retention
from covenq.errors import DaemonUnreachable, NotFound, Refused
from covenq.net import unix_socket
from covenq.operate.maintain.journal_lock import wait_for_lock
from covenq.operate.maintain.moved_journal import check_not_moved
from covenq.operate.maintain.state_witness import state_witness
from covenq.paths import JOURNAL_NAME, SOCKET_NAME, STATE_NAME
from covenq.state.store import StateStore, overlay
from journal.engines import require_postgres
from journal.errors import JournalClosed, JournalGone, JournalLocked, JournalReadOnly
from journal.file.lock import holder
from journal.file.reader import JournalReader, open_reader
from journal.file.segment import NAME
from journal.health import Measurements
from journal.interface import Reader
from journal.presence import exists
from journal.records import NO_SUM, NOBODY, Entry, Head, Record

if TYPE_CHECKING:
    from covenq.operate.answers import AbsentNode
    from covenq.operate.maintain.journal_home import OpenedJournal
    from covenq.operate.maintain.upkeep_work import UpkeepContext
    from journal.database import Database
    from journal.interface import Engine

LOCK_S = 1.0
"""Seconds to wait for another command that reads, before reading without the lock, or refusing to write."""


class LocalFiles:
    """The journal and the state of a data directory. Each call opens and closes them."""

    def __init__(
        self,
        data: Path,
        settings: JournalSettings = IN_FILES,
        lock_s: float = LOCK_S,
        node: NodeSettings = UNNAMED,
    ) -> None:
        """To read, the journal's lock is waited for `lock_s` seconds; 0 where a daemon is known to hold it."""
        self.data = data
        self.settings = settings
        self._node = node
        self._lock_s = lock_s
        self.state = data / STATE_NAME
        self.journal = data / JOURNAL_NAME
        self.lock_holder: JournalLocked | None = None
        """Who held the journal's lock when it was last read, if that was another process."""

    @contextmanager
    def reading(self) -> Iterator[tuple[sqlite3.Connection, Reader]]:
        """The rows, folded to the end of the journal, and the journal."""
        if not self._is_there():
            with overlay(self.state, EmptyJournal()) as conn:
                yield conn, EmptyJournal()
            return
        if self.settings.url is not None:
            require_postgres()
            from journal.postgres.reader import open_reader as open_database

            seen = state_witness(self.data)
            witnesses = [seen] if seen else []
            self.lock_holder = self._held_by()
            with open_database(self.settings.url, witnesses=witnesses) as found, overlay(self.state, found) as conn:
                yield conn, found
            return
        check_not_moved(self.data)
        with self._open_reader() as reader:
            # With damage the state may be ahead of what still verifies; it is left as it is, and shown.
            commit = reader.locked and not reader.damage
            # A daemon that starts waits for moments, not until all is folded or the reading is over.
            with overlay(self.state, reader, commit=commit, opened=reader.unlock, ends=self._is_taken) as conn:
                yield conn, reader

    def _is_taken(self) -> bool:
        """Whether another process has the journal, which then folds the state itself."""
        return holder(self.journal) is not None

    @contextmanager
    def writing(self, *, create: bool = False, use_reserve: bool = False) -> Iterator[tuple[Engine, StateStore]]:
        """The journal, open for writing, and the state, caught up before and after. `create` makes them if there are none.

        `use_reserve`, for what frees space: on a full disk, it may use what was set aside.
        Raises NotFound where there are none; JournalLocked, or DaemonUnreachable for a daemon that holds the lock and
        doesn't answer.
        """
        with self._opened(create=create, use_reserve=use_reserve) as (opened, store):
            yield opened.journal, store

    @contextmanager
    def _opened(self, *, create: bool, use_reserve: bool) -> Iterator[tuple[OpenedJournal, StateStore]]:
        """As `writing`."""
        if not create and not self._is_there():
            where = self.data if self.settings.url is None else "that database"
            raise NotFound(f"nothing was ever received in {where}", hint="Start with `covenq serve`.")
        if create or self.settings.url is not None:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            opened = wait_for_lock(lambda: self._open(use_reserve), LOCK_S)
        except JournalLocked as locked:
            raise self._lock_error(locked) from None
        with closing(opened):
            if use_reserve and opened.reserve is not None:
                opened.reserve.release_if_full()
            with StateStore(self.state, opened.journal) as store:
                store.catch_up()
                yield opened, store
                store.catch_up()

    def _held_by(self) -> JournalLocked | None:
        """Who holds the data directory of a journal that is in a database."""
        pid = holder(self.journal)
        if pid is None:
            return None
        return JournalLocked(f"{self.journal} is in use by {f'process {pid}' if pid else 'another process'}")

    def _open(self, use_reserve: bool) -> OpenedJournal:
        """The journal, by a process that is the node's only where that has started before: it makes no node."""
        from covenq.operate.maintain.journal_home import open_to_write
        from covenq.operate.maintain.node import known_node

        return open_to_write(
            self.settings,
            self.data,
            find_node=lambda: (known_node(self.data, self._node) or NOBODY, None),
            use_reserve=use_reserve,
        )

    def _is_there(self) -> bool:
        """Whether anything can have been received. Where there is a state.db, a journal that is gone is an error.

        Raises JournalUnavailable.
        """
        if exists(self.state):
            return True
        if self.settings.url is None:
            return exists(self.journal)
        require_postgres()
        from journal.postgres.reader import open_reader as open_database

        try:
            open_database(self.settings.url).close()
        except JournalGone:
            return False
        return True

    @contextmanager
    def upkeep(self, policy: Retention) -> Iterator[UpkeepContext]:
        """What `covenq.operate.maintain.upkeep_work` works on. Raises as `writing`."""
        from covenq.operate.inspect.nodes import absent_nodes
        from covenq.operate.maintain.upkeep_work import UpkeepContext

        with self._opened(create=False, use_reserve=True) as (opened, store):

            def fold() -> None:
                store.catch_up()

            def absent() -> list[AbsentNode]:
                return absent_nodes(opened.succession, opened.node.id)

            yield UpkeepContext(
                opened.journal, self.data, policy, store.reader, fold, store.truncate_wal, absent=absent
            )

    def measurements(self, reader: Reader) -> Measurements:
        """What the journal that `reader` reads takes. Raises OSError, JournalUnavailable."""
        if self.settings.url is not None:
            from journal.postgres.reader import PostgresReader

            return reader.measurements() if isinstance(reader, PostgresReader) else {}
        segments = self._segments()
        return {"segments": len(segments), "bytes": sum(path.stat().st_size for path in segments)}

    def database(self, reader: Reader) -> Database | None:
        """What the database says of itself that keeps the journal. Raises JournalUnavailable."""
        if self.settings.url is None:
            return None
        from journal.postgres.reader import PostgresReader

        return reader.database() if isinstance(reader, PostgresReader) else None

    def _segments(self) -> list[Path]:
        """The journal's segments, those that a compaction takes away meanwhile left out."""
        if not exists(self.journal):
            return []
        return [path for path in self.journal.iterdir() if NAME.match(path.name) and exists(path)]

    def _open_reader(self) -> JournalReader:
        """With the lock if it is free soon (another command may hold it for a moment), or else without it."""
        seen = state_witness(self.data)
        witnesses = [seen] if seen else []
        self.lock_holder = None
        try:
            return wait_for_lock(lambda: open_reader(self.journal, witnesses=witnesses, adopt=True), self._lock_s)
        except JournalReadOnly:
            pass
        except JournalLocked as locked:
            self.lock_holder = locked
        return open_reader(self.journal, witnesses=witnesses)

    def _lock_error(self, locked: JournalLocked) -> Exception:
        """Why the lock isn't free: a daemon that listens and yet didn't answer, or another process."""
        try:
            unix_socket.connect(self.data / SOCKET_NAME, 1.0).close()
        except (OSError, Refused):
            return locked
        return DaemonUnreachable(f"{locked}, which doesn't answer", hint="Look at that process, or restart it.")


def damage_of(reader: Reader) -> list[str]:
    return [str(one) for one in reader.damage]


class EmptyJournal:
    """The journal of a data directory in which nothing was ever received."""

    id = ""
    epoch = ""
    damage = ()
    durability: Literal["fsync"] = "fsync"

    def head(self) -> Head:
        return Head(0, NO_SUM)

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]:
        return iter(())

    def get(self, seq: int) -> Record | None:
        return None

    def last(self, subject: str) -> Record | None:
        return None

    def wait(self, after: int, timeout: float | None) -> bool:
        return False

    def append(self, entries: Sequence[Entry]) -> NoReturn:
        raise JournalClosed("there is no journal here")

    def advance(self, seq: int) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> EmptyJournal:
        return self

    def __exit__(self, *_: object) -> None:
        pass
