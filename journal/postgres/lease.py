"""The lease on a journal: who may write it, by the server's clock.

A lease ends LEASE_S after it was last renewed; then another process may take the journal. That alone would not keep two from
writing: a process that was stopped believes in its lease when it goes on. So taking the lease writes the taker's token into
the head, and every append compares it there, in its own transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from journal.errors import JournalDamaged, JournalError, JournalLocked
from journal.postgres import builds
from journal.postgres.connections import ASK_S, connect, release_if_idle
from journal.postgres.deadlines import Conn, ended_after, hang_up
from journal.records import NOBODY, Damage, Node

LEASE_S = 3.0
RENEW_S = 1.0
AGAIN_S = 0.2
"""Seconds to the next try where the server could not be asked: those that stand by give it LEASE_S from when it is back."""
NO_LEASE = "As the role that owns the tables: INSERT INTO covenq.lease DEFAULT VALUES."

TAKE_S = 2
"""Seconds that a taker waits for an append of the last holder that is under way, or for another taker."""

_TAKE = """UPDATE covenq.lease SET holder = %(token)s, node = %(node)s, name = %(name)s, address = %(address)s,
  since = clock_timestamp(), until = clock_timestamp() + %(lease)s * interval '1 s'
  WHERE until < clock_timestamp() OR holder = %(token)s OR (node = %(node)s AND node <> '') RETURNING holder"""
_HOLDER = """SELECT node, name, address, to_char(until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  extract(epoch FROM until)::float8 - extract(epoch FROM clock_timestamp())::float8
  FROM covenq.lease WHERE until >= clock_timestamp()"""
_GIVEN_UP = "SELECT until = '-infinity' OR node IN ('', %s) FROM covenq.lease"
_NAME = "UPDATE covenq.head SET writer = %s WHERE split_part(writer, '.', 1) = %s"
_RENEW = "UPDATE covenq.lease SET until = clock_timestamp() + %s * interval '1 s' WHERE holder = %s"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease, until when (RFC 3339), and for how many seconds more: both by the server's clock."""

    node: Node
    until: str
    left_s: float

    def __str__(self) -> str:
        address = f" ({self.node.address})" if self.node.address else ""
        return f"{self.node.name or self.node.id or 'another process'}{address}"


def holder(conn: Conn) -> Holder | None:
    """Who holds the lease; None if nobody does."""
    row = conn.execute(_HOLDER).fetchone()
    return None if row is None else Holder(Node(*row[:3]), row[3], row[4])


def is_given_up(conn: Conn, node: Node) -> bool:
    """Whether who had the lease last left it in order, or is this node: else it may have been kept from renewing it."""
    row = conn.execute(_GIVEN_UP, (node.id,)).fetchone()
    return row is None or bool(row[0])


def take(conn: Conn, token: str, node: Node = NOBODY) -> None:
    """Take the lease, and with it the head. A node's own is taken at once: whoever calls has made sure that it is alone there.

    It is the node's by its id: two that have the same name wait for each other. Raises JournalLocked if another node holds it,
    takes it just now, or has an append under way still; JournalDamaged where there is none to be held; FormatUnknown as
    `builds.check`.
    """
    row = {"token": token, "node": node.id, "name": node.name, "address": node.address, "lease": LEASE_S}
    try:
        with conn.transaction():
            release_if_idle(conn)
            conn.execute(f"SET LOCAL lock_timeout = '{TAKE_S}s'")
            if conn.execute(_TAKE, row).fetchone() is None:
                if conn.execute("SELECT one FROM covenq.lease").fetchone() is None:
                    raise JournalDamaged(
                        [Damage("missing", "the database", 0, None, None, "covenq.lease has no row")], hint=NO_LEASE
                    )
                raise _locked(str(holder(conn) or "another process"))
            conn.execute("UPDATE covenq.head SET writer = %s", (token,))
            builds.note_lead(conn)
    except psycopg.errors.LockNotAvailable:
        raise _locked("a process that takes it just now, or has lost it and has an append under way") from None


def _locked(by: str) -> JournalLocked:
    return JournalLocked(
        f"the journal is written by {by}", hint=f"Stop it, or wait {LEASE_S:.0f} s if it is gone already."
    )


def name_writer(conn: Conn, token: str, writer: str) -> bool:
    """Have only who goes by the name `writer` append from now on; False if another process has taken the journal.

    Each connection that appends has a name of its own: what was sent on one that is given up, and comes to the server late, is
    refused there, though the same was sent again meanwhile. No standby is waited for: if this is lost with the server, the next
    connection does it again.
    """
    with conn.transaction():
        release_if_idle(conn)
        conn.execute("SET LOCAL synchronous_commit = local")
        return conn.execute(_NAME, (writer, token)).rowcount == 1


def give_up(conn: Conn, token: str) -> None:
    conn.execute("UPDATE covenq.lease SET until = '-infinity' WHERE holder = %s", (token,))


class LeaseKeeper(threading.Thread):
    """Renews the lease every second, on a connection of its own. `lost` is called once if another process has taken it.

    `beat(conn)` is called after each renewal; it may raise psycopg.Error.
    """

    def __init__(
        self,
        url: str,
        token: str,
        lost: Callable[[], None],
        *,
        beat: Callable[[Conn], None] = lambda conn: None,
    ) -> None:
        super().__init__(name="journal-lease", daemon=True)
        self._url, self._token, self._lost = url, token, lost
        self._beat = beat
        self._ending = threading.Event()
        self._conn: Conn | None = None

    def run(self) -> None:
        pause = RENEW_S
        while not self._ending.wait(pause):
            try:
                if self._conn is None:
                    self._conn = connect(self._url, local=True)
                with ended_after(self._conn, ASK_S):
                    if self._conn.execute(_RENEW, (LEASE_S, self._token)).rowcount == 0:
                        self._lost()
                        return
                    self._beat(self._conn)
                pause = RENEW_S
            except (psycopg.Error, JournalError):
                # While the server is away nobody else can take the lease either; the committer says that it is away.
                self._disconnect()
                pause = AGAIN_S

    def stop(self, leave: Callable[[Conn], None] = lambda conn: None) -> None:
        """End, and give the lease up if the server can be asked; `leave(conn)` is called before. It may raise psycopg.Error."""
        self._ending.set()
        self.join(LEASE_S)
        if self.is_alive():  # a server that hangs: the lease ends by itself
            self.hang_up()
            self.join(LEASE_S)
            return
        try:
            if self._conn is None:
                self._conn = connect(self._url, local=True)
            with ended_after(self._conn, LEASE_S):
                leave(self._conn)
                give_up(self._conn, self._token)
        except (psycopg.Error, JournalError):
            pass  # it ends by itself
        self._disconnect()

    def hang_up(self) -> None:
        """End the connection."""
        hang_up(self._conn)

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()
