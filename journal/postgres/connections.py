"""Connections to the server, and what an error of one means for who waits for an answer.

A URL holds a password: no message of this package quotes one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from journal.errors import (
    JournalClosed,
    JournalError,
    JournalFull,
    JournalUnavailable,
    JournalUnsafe,
    JournalWriteFailed,
)
from journal.postgres.deadlines import Conn, ended_after

Found = TypeVar("Found")

SESSION_S = 8.0
"""Seconds that a server has to take a session's settings, once it has let the client in."""
ASK_S = 8.0
"""Seconds that it has for an answer: for as long requests are held."""
IDLE_MAX = 8
"""Connections that are kept for the next reader."""
IDLE_S = 5.0
"""Seconds that a transaction which has locked what others wait for may be left alone by its client."""

_DEFAULTS = {
    "application_name": "covenq",
    "connect_timeout": "2",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
"""So that a server that vanished is noticed within a request's time; what the URL says goes before."""


_SESSION = """SET search_path = pg_catalog, pg_temp; SET client_encoding = 'UTF8'; SET DateStyle = 'ISO'; SET TimeZone = 'UTC';
  SET client_min_messages = 'warning'; SET default_transaction_isolation = 'read committed';
  SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',
    'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')"""
"""What may be set for the role otherwise. Nobody else's functions are called; what is read has one form; the warning of a commit
that was not replicated comes here; an append that waited for another sees what that has written; no statement is cut short."""


class SessionsShared(JournalUnsafe):
    """A pooler in front of the server that gives each transaction any of its connections."""

    hint = "Have the pooler keep a session for each client (PgBouncer: pool_mode = session), or name the server itself."


def connect(url: str, *, local: bool = False, first: bool = False) -> Conn:
    """A connection in autocommit. `local`: its commits wait for this server's disk alone.

    `first` also asks whether the session is this client's own. Raises JournalUnavailable, and then SessionsShared.
    """
    try:
        settings = {**_DEFAULTS, **{key: str(value) for key, value in conninfo_to_dict(url).items()}}
    except (psycopg.ProgrammingError, UnicodeError):  # the latter quotes what it can't decode
        raise _unreadable() from None
    ports, hosts = settings.get("port", "0").split(","), settings.get("host", "").split(",")
    # A password with a / in it stands in the port's place, one with an @ in the host's, and a message would quote it.
    if not all(port.isdigit() for port in ports if port) or any("@" in host[1:] for host in hosts):
        raise _unreadable()
    try:
        conn = psycopg.connect(make_conninfo(**settings), autocommit=True)
    except psycopg.Error as error:
        raise unavailable(error) from error
    try:
        with ended_after(conn, SESSION_S):
            if first:
                _check_session(conn, settings)
            conn.execute(_SESSION)
            if local:
                conn.execute("SET synchronous_commit = local")
    except psycopg.Error as error:
        conn.close()
        raise unavailable(error) from error
    except BaseException:
        conn.close()
        raise
    return conn


def _check_session(conn: Conn, settings: dict[str, str]) -> None:
    """Before anything is set, which others would find set then, and whose prepared statements could be taken for ours.

    A server says its process at the log-in; a pooler, which answers that in its stead, says another number. Whether it keeps
    a session for each client shows while a second one is in a transaction: the two are of two processes, and stay so.
    Raises SessionsShared, psycopg.Error.
    """
    own = _process(conn)
    if own == conn.info.backend_pid:
        return
    with psycopg.connect(make_conninfo(**settings), autocommit=True) as other, other.transaction():
        shared = own == _process(other) or own != _process(conn)
    if shared:
        raise SessionsShared("a pooler in front of the database shares its sessions among clients")


def _process(conn: Conn) -> int:
    row = conn.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    return 0 if row is None else int(row[0])


def server_of(conn: Conn) -> str:
    """Which server it is, since its start: another one answers with something else. Raises psycopg.Error."""
    row = conn.execute("SELECT pg_postmaster_start_time()::text").fetchone()
    return "" if row is None else str(row[0])


def _unreadable() -> JournalUnavailable:
    return JournalUnavailable(
        "the journal's URL can't be read",
        hint="It is postgresql://USER@HOST/DATABASE, with the password in a file that PGPASSFILE names.",
    )


def unavailable(error: psycopg.Error) -> JournalUnavailable:
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return JournalUnavailable(f"the database takes no writes: {one_line(error)}", hint=WRITABLE)
    if isinstance(error, errors.InsufficientPrivilege):
        return JournalUnavailable(f"this role may not do that in the database: {one_line(error)}", hint=GRANTED)
    if error.sqlstate is not None and error.sqlstate[:2] == "42":
        return JournalUnavailable(f"the tables are not as covenq made them: {one_line(error)}", hint=TABLES)
    said = one_line(error)
    return JournalUnavailable(
        f"the database can't be reached: {said}", hint=HOW_TO_AUTHENTICATE if "password" in said.lower() else REACHABLE
    )


def release_if_idle(conn: Conn) -> None:
    """Have the server end the transaction that is begun here, should its client say nothing for IDLE_S in the middle of it.

    Of a process that is stopped or cut off then the server learns nothing, and keeps what it has locked: the head, or the lease.
    """
    conn.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_S:.0f}s'")


REACHABLE = (
    "Does its server run, is the URL right, and may this role connect? A daemon that runs tries again by itself."
)
HOW_TO_AUTHENTICATE = (
    "Put the password into a file of mode 0600 that PGPASSFILE names, as HOST:PORT:DATABASE:USER:PASSWORD, or all of the URL "
    "into COVENQ_JOURNAL_URL."
)
GRANTED = (
    "Have the owner of the tables run the GRANTs that `covenq init --postgres URL` prints, and repeat this command."
)
TABLES = "Put them back from a backup of the database: covenq-postgres(7)."
WRITABLE = "Name the primary (with several hosts in the URL: target_session_attrs=read-write), or see who has made it read-only."


def one_line(error: BaseException) -> str:
    """The error's message in one line of bounded length; of a server, what it says first: no rows, no lines of functions."""
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = " ".join((said or str(error)).split())
    return text if len(text) <= 300 else text[:299] + "…"


_UNKNOWN_CLASSES = ("08", "57")
"""SQLSTATE classes of a connection that ended, and of a server or an operator who ended it: a commit may have been before."""


def is_unknown(error: psycopg.Error) -> bool:
    """Whether the statement may have been committed: no answer came, or the session ended while one was waited for."""
    if error.sqlstate is not None:
        return error.sqlstate[:2] in _UNKNOWN_CLASSES
    return isinstance(error, errors.OperationalError | errors.InterfaceError)


def refusal(error: psycopg.Error) -> JournalError:
    """The server answered that the statement failed: nothing of it is in the log."""
    if isinstance(error, errors.DiskFull | errors.OutOfMemory):
        return JournalFull(
            f"the database has no room: {one_line(error)}",
            hint="Free space on the database's disk; intake opens again by itself.",
        )
    return JournalWriteFailed(
        f"the database refused: {one_line(error)}", hint="Look at the database's log; the append may be tried again."
    )


@contextmanager
def told() -> Iterator[None]:
    """What the server says is told in words. Raises JournalUnavailable, JournalFull, JournalWriteFailed."""
    try:
        yield
    except errors.ReadOnlySqlTransaction as error:
        raise unavailable(error) from error
    except psycopg.Error as error:
        raise (unavailable(error) if is_unknown(error) else refusal(error)) from error


class Connections:
    """Connections for readers, of any thread: each is lent for one question, and kept if nothing went wrong."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Conn] = []
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, question: Callable[[Conn], Found], wait_s: float = ASK_S) -> Found:
        """The answer to a question that changes nothing, waited for `wait_s` at most.

        If a kept connection had ended, or has no answer, it is asked again, once, on a new one: those that are kept beside it are
        to the same server, and are not tried one after another. Raises JournalUnavailable.
        """
        conn, kept = self._take()
        try:
            found = self._ask(conn, question, wait_s)
        except psycopg.Error as error:
            if not kept or not is_unknown(error):
                raise unavailable(error) from error
            self._drop_kept()
            conn = connect(self._url)
            try:
                found = self._ask(conn, question, wait_s)
            except psycopg.Error as again:
                raise unavailable(again) from again
        self._keep(conn)
        return found

    def _ask(self, conn: Conn, question: Callable[[Conn], Found], wait_s: float) -> Found:
        try:
            with ended_after(conn, wait_s):
                return question(conn)
        except BaseException:
            conn.close()
            raise

    @contextmanager
    def lent(self, *, first: bool = False) -> Iterator[Conn]:
        """A connection of one's own; closed after it. Raises as `connect`."""
        conn = connect(self._url, first=first)
        try:
            yield conn
        finally:
            conn.close()

    def _take(self) -> tuple[Conn, bool]:
        with self._lock:
            if self._closed:
                raise JournalClosed("the journal is closed")
            if self._idle:
                return self._idle.pop(), True
        return connect(self._url), False

    def _keep(self, conn: Conn) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_MAX:
                self._idle.append(conn)
                return
        conn.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._drop_kept()

    def _drop_kept(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()


def clock_of(connections: Connections) -> float:
    """The server's time, in seconds since 1970. Raises JournalUnavailable."""
    row = connections.ask(lambda conn: conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone())
    return 0.0 if row is None else float(row[0])
