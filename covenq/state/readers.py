"""Connections that read state.db, one for each thread that asks, kept open for the next.

Apart from the one connection that folds (`covenq.state.store`), which in a daemon is another process's.
"""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from covenq.errors import CovenqError
from covenq.model.token_scope import Scope
from covenq.state import schema
from covenq.state.scoped import ScopedConnection, restrict

BUSY_S = 5.0
_NO_UTF8 = "Could not decode to UTF-8"
IDLE_READERS = 8
"""Connections for reading that are kept open for the next thread: each has two descriptors and a cache of pages."""


def connect(path: Path | None, mode: str, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """A connection in autocommit; `path` None is a private temporary database, gone when it is closed.

    Raises CovenqError where this Python's SQLite is too old to work with it.
    """
    if sqlite3.sqlite_version_info < schema.SQLITE_MIN:
        needed = ".".join(map(str, schema.SQLITE_MIN))
        raise CovenqError(
            f"this Python's SQLite is {sqlite3.sqlite_version}, and covenq needs {needed}",
            hint="Install covenq with a Python that is linked with a newer one; `covenq info` shows both.",
        )
    if path is not None and is_odd(path):
        raise sqlite3.OperationalError(f"{path.name} is no regular file")  # the open of a pipe would wait for ever
    name = "" if path is None else f"{path.absolute().as_uri()}?mode={mode}"
    # Every connection has one user at a time; only `close` comes from another thread than the one that opened it.
    conn = sqlite3.connect(
        name,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,
        cached_statements=256,
        uri=path is not None,
    )
    conn.row_factory = sqlite3.Row
    return conn


def is_odd(path: Path) -> bool:
    """Whether there is something of that name that is no regular file, nor a link to one."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def is_damage(error: BaseException) -> bool:
    """Whether it is said by it that the file is damaged. What may pass is an OperationalError, the rest are mistakes.

    For text that is no UTF-8 Python raises one that never passes: none is written, so a page has rotted.
    """
    return type(error) is sqlite3.DatabaseError or (
        type(error) is sqlite3.OperationalError and str(error).startswith(_NO_UTF8)
    )


@contextmanager
def snapshot(conn: sqlite3.Connection) -> Iterator[None]:
    """A read transaction, so that all queries see the same state of the tables."""
    if conn.in_transaction:
        yield
        return
    conn.execute("BEGIN")
    try:
        yield
    finally:
        conn.execute("ROLLBACK")


class Readers:
    """The connections for reading one state.db, which is there already. Methods may be called from any thread."""

    def __init__(self, path: Path, on_damage: Callable[[], None] = lambda: None) -> None:
        """`on_damage` is called, by the thread that reads, for each damage that is met."""
        self.path = path
        self._on_damage = on_damage
        self._local = threading.local()
        self._readers: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._idle: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()

    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reading; rows are sqlite3.Row.

        It lives until `release_reader`, `close`, or its thread's end.
        """
        conn: sqlite3.Connection | None = getattr(self._local, "conn", None)
        if conn is None:
            with self._readers_lock:
                conn = self._idle.pop() if self._idle else None
            if conn is None:
                conn = _open(self.path)
            self._local.conn = conn
            with self._readers_lock:
                gone = [(thread, old) for thread, old in self._readers if not thread.is_alive()]
                self._readers = [pair for pair in self._readers if pair not in gone]
                self._readers.append((threading.current_thread(), conn))
            for _, old in gone:
                old.close()
        return conn

    def scoped(self, scope: Scope) -> sqlite3.Connection:
        """This thread's connection for reading under that scope (`covenq.state.scoped`), until `release_reader`.

        It is made for the request, and closed after it: none is ever used under two scopes.
        """
        conn: ScopedConnection | None = getattr(self._local, "scoped", None)
        if conn is not None and conn.scope == scope:
            return conn
        self._close_scoped()
        conn = _open_scoped(self.path, scope)
        self._local.scoped = conn
        with self._readers_lock:
            self._readers.append((threading.current_thread(), conn))
        return conn

    def _close_scoped(self) -> None:
        conn: ScopedConnection | None = getattr(self._local, "scoped", None)
        if conn is None:
            return
        self._local.scoped = None
        with self._readers_lock:
            self._readers = [pair for pair in self._readers if pair[1] is not conn]
        conn.close()

    def met(self, error: BaseException) -> None:
        """A reading failed with `error`. Whoever catches one says so: the fold need never meet the same pages."""
        if is_damage(error):
            self._on_damage()

    def release_reader(self) -> None:
        """Give this thread's connection back, if it has one: the thread reads nothing for a while. Its cursors must be done."""
        self._close_scoped()
        conn: sqlite3.Connection | None = getattr(self._local, "conn", None)
        if conn is None:
            return
        self._local.conn = None
        with self._readers_lock:
            self._readers = [pair for pair in self._readers if pair[1] is not conn]
            if len(self._idle) < IDLE_READERS:
                self._idle.append(conn)
                return
        conn.close()

    def close_readers(self) -> None:
        """Close every connection. The threads that read must have stopped. May be repeated."""
        with self._readers_lock:
            readers, self._readers = [*(conn for _, conn in self._readers), *self._idle], []
            self._idle = []
        for conn in readers:
            conn.close()
        self._local = threading.local()


def _open_scoped(path: Path, scope: Scope) -> ScopedConnection:
    conn = connect(path, "rw", ScopedConnection)
    assert isinstance(conn, ScopedConnection)
    try:
        restrict(conn, scope)
        conn.execute("PRAGMA query_only = ON")
    except BaseException:
        conn.close()
        raise
    return conn


def _open(path: Path) -> sqlite3.Connection:
    conn = connect(path, "rw")
    try:
        conn.execute("PRAGMA query_only = ON")
    except BaseException:
        conn.close()
        raise
    return conn
