"""Following a journal that another node appends to: where it ends, who leads, and whether anybody does.

A node that stands by looks POLL_S apart. What it sees is committed, and where a standby of the server is waited for, held there
too: a commit is shown to others when its wait has ended. So it may fold and answer by it, as by what it appended itself. The
exception is a server that was killed, or told to wait no more, while commits waited: what they wrote is seen then. Each new
connection is therefore asked for the newest record that was seen, as one that appends is: a server that lacks it has lost what
was read here.

A lease that nobody could renew, since the server was away or hung, says nothing of who holds it: that node is given the time of
one to renew it once the server answers (`steady_s`), so that a failover changes no leader, and ends nothing that it runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg

from journal.append import REQUEST_S
from journal.errors import FormatUnknown, JournalDamaged, JournalError, JournalGone, JournalUnavailable
from journal.postgres import builds
from journal.postgres.connections import ASK_S, connect, one_line
from journal.postgres.deadlines import Conn, ended_after, hang_up
from journal.postgres.nodes import Heartbeat
from journal.records import Head, Leader

POLL_S = 0.05
SLOW_S = 1.0
"""Seconds after which an answer is so late that whoever holds the lease may have waited for one as well."""
STOP_S = 3.0

_LOOK = """SELECT h.seq, h.sum, h.epoch, l.name, l.address, to_char(l.since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  l.until > clock_timestamp() AND l.holder <> %s, h.floor, h.ceiling FROM covenq.head h, covenq.lease l"""

Seen = Callable[[Head, str, Leader | None], None]
"""Called with the newest record, the epoch, and who leads; None if nobody does."""


class HeadFollower:
    """Looks, on a thread of its own, until it is stopped or fails for good.

    `check(conn)` is called with each new connection, and may raise JournalDamaged; `failed` is then called with it, once.
    """

    def __init__(
        self,
        url: str,
        seen: Seen,
        check: Callable[[Conn], None],
        failed: Callable[[JournalError], None],
        heartbeat: Heartbeat,
        *,
        own: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`own` is the token of this node, which leads no more even if its lease could not be given up."""
        self.away_since: float | None = None
        """Since when the server can't be asked, by the monotonic clock."""
        self.away = ""
        """Why."""
        self._asked = monotonic()
        """When it last began to look."""
        self._asks = False
        """Whether the server is to answer."""
        self._steady_since: float | None = None
        """Since when each look has been answered at once."""
        self._url, self._seen, self._check, self._failed = url, seen, check, failed
        self._heartbeat = heartbeat
        self._own = own
        self._monotonic = monotonic
        self._ending = threading.Event()
        self._leaves = False
        self._conn: Conn | None = None
        self._thread = threading.Thread(target=self._run, name="journal-follow", daemon=True)

    @property
    def beat(self) -> float:
        """When it last showed that it isn't stuck. Who waits for a server that hangs isn't: no restart would mend that."""
        return self._monotonic() if self._asks and self._thread.is_alive() else self._asked

    @property
    def unreachable(self) -> str | None:
        """Why the server can't be asked, once that has lasted for as long as calls are held for it."""
        since = self.away_since
        if since is None and self._asks:
            since = self._asked
        if since is None or (lasted := self._monotonic() - since) <= REQUEST_S:
            return None
        return f"the database has not answered for {lasted:.0f} s{self.away and f': {self.away}'}"

    @property
    def steady_s(self) -> float:
        """Seconds for which the server has answered each look at once."""
        since = self._steady_since
        return 0.0 if since is None else self._monotonic() - since

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, leaves: bool = True) -> None:
        """End it; the node `leaves`, or leads from now on. Repeatable."""
        self._leaves = leaves
        self._ending.set()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        self._thread.join(STOP_S)
        if self._thread.is_alive():  # it waits for a server that hangs
            self.hang_up()
            self._thread.join(STOP_S)

    def hang_up(self) -> None:
        """End the connection."""
        hang_up(self._conn)

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._look()
                self._ending.wait(POLL_S)
        except (JournalDamaged, JournalGone, FormatUnknown) as error:
            self._failed(error)
        finally:
            with suppress(psycopg.Error):
                if self._leaves and self._conn is not None:
                    self._heartbeat.leave(self._conn)
            self._disconnect()

    def _look(self) -> None:
        self._asked, self._asks = self._monotonic(), True
        try:
            is_new = self._conn is None
            conn = self._conn = self._conn or connect(self._url, local=True)
            with ended_after(conn, ASK_S):
                if is_new:
                    self._check(conn)
                row = conn.execute(_LOOK, (self._own,)).fetchone()
                self._heartbeat.beat(conn)
            self._note_answer(self._monotonic())
        except (psycopg.Error, JournalUnavailable) as error:
            self._disconnect()
            self._steady_since = None
            self.away = str(error) if isinstance(error, JournalError) else one_line(error)
            if self.away_since is None:
                self.away_since = self._monotonic()
            return
        finally:
            self._asks = False
        if row is None:
            raise JournalGone("there is no journal in that database any more")
        seq, total, epoch, name, address, since, held, floor, ceiling = row
        builds.check_span(floor, ceiling)
        self.away_since, self.away = None, ""
        if not self._ending.is_set():
            self._seen(Head(seq, total), epoch, Leader(name, address, since) if held else None)

    def _note_answer(self, now: float) -> None:
        if self._steady_since is None or now - self._asked > SLOW_S:
            self._steady_since = now

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()
