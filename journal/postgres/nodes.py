"""The nodes that have a journal open: each says that it is there, about once a second, and what it is to be known by.

Only what people are shown rests on it, and whether a node that stops may expect to be succeeded: who appends is the lease's.
So no standby of the server is waited for, and a row that is lost comes again. The times are the server's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from journal.postgres.deadlines import Conn
from journal.records import Node, NodeSeen

BEAT_S = 1.0
KEPT_DAYS = 30
"""Days after which a node that is gone is forgotten."""
ABOUT_MAX = 4096
"""Characters of what a node says of itself."""

_BEAT = """INSERT INTO covenq.node AS n (id, name, address, since, seen, stopped, about)
  VALUES (%(id)s, %(name)s, %(address)s, clock_timestamp(), clock_timestamp(), %(stopped)s, %(about)s)
  ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, about = excluded.about, seen = excluded.seen,
    stopped = excluded.stopped, since = CASE WHEN %(first)s THEN excluded.since ELSE n.since END"""
_FORGET = "DELETE FROM covenq.node WHERE seen < clock_timestamp() - %s * interval '1 day'"
_NODES = """SELECT n.id, left(n.name, 4096), left(n.address, 4096), to_char(CASE WHEN n.stopped THEN n.seen
  WHEN l.node = n.id AND l.until > clock_timestamp() THEN greatest(l.since, n.since)
  ELSE n.since END AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  to_char(n.seen AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), extract(epoch FROM clock_timestamp() - n.seen)::float8,
  n.stopped, left(n.about, 4096), l.node = n.id AND l.until > clock_timestamp()
  FROM covenq.node n, covenq.lease l ORDER BY n.name, n.id"""


def introduce(conn: Conn, node: Node) -> None:
    """Say that a node is there, at its start: so a role that may not is told so then. May raise psycopg.Error."""
    if node.id:
        Heartbeat(node).beat(conn)


class Heartbeat:
    """Says that this node is there. Each method on the connection of whoever calls it; may raise psycopg.Error."""

    def __init__(self, node: Node, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.about = ""
        """What else others are shown of it, from the next time on."""
        self._node = node
        self._monotonic = monotonic
        self._said_at: float | None = None
        self._said_about = ""
        self._known: list[NodeSeen] = []

    def known(self) -> list[NodeSeen]:
        """Every node as it was seen with the last beat. From any thread; nobody is asked.

        While the database is away none of them can say anything, and nothing is known of them.
        """
        return self._known

    def beat(self, conn: Conn) -> None:
        """Say it, unless it was said less than BEAT_S ago, and there is nothing else to be known for the first time."""
        now = self._monotonic()
        is_new = bool(self.about) and not self._said_about
        if self._node.id and (self._said_at is None or is_new or now - self._said_at >= BEAT_S):
            self._say(conn, stopped=False)
            if self._said_at is None:
                conn.execute(_FORGET, (KEPT_DAYS,))
            self._said_at = now
            self._known = nodes_of(conn)

    def leave(self, conn: Conn) -> None:
        """Say that it stopped in order."""
        if self._node.id:
            self._say(conn, stopped=True)

    def _say(self, conn: Conn, *, stopped: bool) -> None:
        node = self._node
        about = self._said_about = self.about[:ABOUT_MAX]
        values = {"id": node.id, "name": node.name, "address": node.address, "about": about}
        conn.execute(_BEAT, {**values, "stopped": stopped, "first": self._said_at is None})


def nodes_of(conn: Conn) -> list[NodeSeen]:
    """Every node that was seen in KEPT_DAYS, by name. May raise psycopg.Error."""
    return [NodeSeen(*row) for row in conn.execute(_NODES).fetchall()]
