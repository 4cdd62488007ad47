"""What the server says of itself, asked every few seconds by a thread of its own: replication, clock, sizes.

So nobody who shows it waits for a server that hangs: what was said last is shown, and since when nothing is. A question is
bounded on the server. Where no answer comes at all its connection is ended, and the next may be to another server, which has
become the primary meanwhile.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg

from journal.database import Database, Standby
from journal.errors import JournalError
from journal.postgres.connections import connect, is_unknown, server_of, unavailable
from journal.postgres.deadlines import Conn, ended_after, hang_up

WATCH_S = 2.0
"""Seconds between two looks."""
LOOK_MAX_S = 2.0
"""Seconds after which the server gives a look up."""
HANG_S = 6.0
"""Seconds after which a server that doesn't answer a look is away, and the connection is ended."""
STANDBYS_MAX = 32
"""Standbys that are told of, those that commits wait for first."""

_LOOK = """SELECT current_setting('synchronous_standby_names'), (SELECT count(*) FROM covenq.segment),
  (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'covenq' AND c.relkind = 'r')"""
_STANDBYS = """SELECT coalesce(application_name, ''), state, sync_state, (pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, flush_lsn))::bigint
  FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup'
  ORDER BY sync_state IN ('sync', 'quorum') DESC, sync_priority = 0, application_name LIMIT %s"""

_NAMES = re.compile(r'"((?:[^"]|"")*)"|([^\s,()"]+)')
_COUNTED = re.compile(r"\s*(?:(ANY|FIRST)\s+)?(\d+)\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw."""

    database: Database
    segments: int
    bytes: int


def standby_names(setting: str) -> tuple[int, tuple[str, ...]]:
    """How many standbys a commit waits for by this `synchronous_standby_names`, and the names it may be."""
    counted = _COUNTED.fullmatch(setting)
    needed, listed = (int(counted[2]), counted[3]) if counted else (1, setting)
    names = tuple(quoted.replace('""', '"') or plain for quoted, plain in _NAMES.findall(listed))
    return (needed if names else 0), names


def look(conn: Conn, now: Callable[[], float]) -> Look:
    """Ask the server, which gives up after LOOK_MAX_S. `now` is this machine's time. Raises psycopg.Error."""
    with conn.transaction():
        conn.execute(f"SET LOCAL statement_timeout = {LOOK_MAX_S * 1000:.0f}")
        before = now()
        told = conn.execute("SELECT clock_timestamp()").fetchone()
        after = now()
        row = conn.execute(_LOOK).fetchone()
        standbys = conn.execute(_STANDBYS, (STANDBYS_MAX,)).fetchall()
    assert told is not None and row is not None
    moment: datetime = told[0]
    needed, names = standby_names(row[0])
    # Of those that a role may not see the database tells that they are there, and nothing else.
    hidden = any(state is None for _, state, _, _ in standbys)
    database = Database(
        standbys=None if hidden else tuple(Standby(*one) for one in standbys),
        named=names,
        needed=needed,
        ahead_s=moment.timestamp() - (before + after) / 2,
        seen_s=0.0,
    )
    return Look(database, row[1], row[2])


def look_once(conn: Conn, now: Callable[[], float]) -> Look | None:
    """The same at an opening, which doesn't fail for it: None."""
    with suppress(psycopg.Error):
        return look(conn, now)
    return None


class Watch(threading.Thread):
    """The thread that looks. `database`, `segments`, `bytes` and `stop` may be called from any other."""

    def __init__(
        self,
        url: str,
        first: Look | None,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="journal-watch", daemon=True)
        self._url, self._now, self._monotonic = url, now, monotonic
        self._seen = first
        self._seen_at = self._answered = monotonic()
        self._asked: float | None = None
        """When the server was asked what it has not answered."""
        self._failing = False
        self._server = ""
        """Which one answered last."""
        self._conn: Conn | None = None
        self._ending = threading.Event()

    def database(self) -> Database:
        """What the server said last, and for how long it has said nothing."""
        now, seen = self._monotonic(), self._seen
        away_s = now - self._answered if self._failing or self._hangs() else None
        if seen is None:
            return Database(away_s=away_s)
        return replace(seen.database, seen_s=now - self._seen_at, away_s=away_s)

    @property
    def segments(self) -> int:
        return 0 if self._seen is None else self._seen.segments

    @property
    def bytes(self) -> int:
        return 0 if self._seen is None else self._seen.bytes

    def _hangs(self) -> bool:
        asked = self._asked
        return asked is not None and self._monotonic() - asked > HANG_S

    def is_alive_at(self, server: str) -> bool:
        """Whether that very server (`server_of`) has answered a look not longer ago than it takes to be away."""
        return self._server == server and self._monotonic() - self._answered <= HANG_S

    def run(self) -> None:
        while not self._ending.wait(WATCH_S):
            self._asked = self._monotonic()
            try:
                if self._conn is None:
                    self._conn = connect(self._url)
                    self._asked = self._monotonic()
                with ended_after(self._conn, HANG_S):
                    self._server = server_of(self._conn)
                    self._seen = look(self._conn, self._now)
                self._seen_at = self._answered = self._monotonic()
                self._failing = False
            except (psycopg.Error, JournalError) as error:
                self._failing = isinstance(error, JournalError) or _ended(error)
                if self._failing:
                    self._disconnect()
                else:  # it answers, and can't say this now: what it said before stays, and grows old
                    self._answered = self._monotonic()
            finally:
                self._asked = None
        self._disconnect()

    def stop(self) -> None:
        self._ending.set()
        self.join(LOOK_MAX_S)
        if self.is_alive():  # a server that hangs
            hang_up(self._conn)
            self.join(LOOK_MAX_S)

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()


def _ended(error: psycopg.Error) -> bool:
    """Whether the connection is gone, and not only the question refused or given up."""
    return is_unknown(error) and not isinstance(error, psycopg.errors.QueryCanceled)


def look_at(url: str, now: Callable[[], float] = time.time) -> Look:
    """For who holds no journal open: one look, on a connection of its own. Raises JournalUnavailable."""
    conn = connect(url)
    try:
        return look(conn, now)
    except psycopg.Error as error:
        raise unavailable(error) from error
    finally:
        conn.close()
