"""Replay detection: deliveries with an already known body under a new GUID ("twins").

GitHub signs only the body. So a captured request can be sent again under a GUID of the sender's choice, and its signature is
right. The fold marks every such delivery (`twin` of its row); here it is found before it is accepted, for the policy that
refuses twins and for routes that filter by them.

The guarantee, while the policy is to refuse: **of all the GUIDs that one body arrives with, at most one is accepted**, also
when they arrive at once. Before anything is appended, a request reserves its body's hash for its GUID, under one lock; a
request that finds the hash reserved for another GUID is a twin. Only then are the rows of state.db queried. A reservation ends
when the request was not recorded, or when the state has folded its record; so a request that no longer finds the reservation
finds the row, because it queries the row later. Deliveries that were accepted without a reservation (in an earlier process, or
under another configuration) are waited for: nothing is accepted until the state has folded all that was durable when this
configuration took effect. Only what was in flight at that moment is not covered.

The same GUID from another hook is not a twin: GitHub gives the same GUID to all hooks that an event goes to, and the body may
be the same too. So between two hooks of the allow-list a captured body may be passed on once, with its GUID. A ping is never
refused: it makes no task, and GitHub's own pings may repeat a body.

A twin of a request that is still in flight is refused although that request may yet fail (503): then neither is accepted, and
neither was acknowledged.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable

from covenq.config.load import Config
from covenq.errors import StateBehind
from covenq.model import DeliveryId

RESERVATIONS_MAX = 100_000
"""Reservations at a time: requests in flight, and records that the state has not folded yet. Some 300 bytes each."""

_FIRST = """SELECT guid FROM webhook_deliveries
    WHERE substr(payload_sha256, 1, 16) = substr(?1, 1, 16) AND +payload_sha256 = ?1 ORDER BY seq LIMIT 1"""
"""The + keeps SQLite from putting the value in the column's place in the expression, which is then not the index's: it would read
every row."""
_SAME_GUID = "SELECT 1 FROM webhook_deliveries WHERE guid = ?2 AND payload_sha256 = ?1 LIMIT 1"


class Reservation:
    """A body's hash, reserved for one GUID. `twin` is the GUID it first came under, if that was another.

    `own`: the body also came before under this same GUID (a redelivery, or another hook's delivery of the event).
    """

    def __init__(self, twins: Twins, sha256: str, guid: str) -> None:
        self.sha256 = sha256
        self.guid = guid
        self.twin: str | None = None
        self.own = False
        self._twins = twins
        self._open = True

    def end(self, seq: int | None) -> None:
        """The request is over: recorded with that seq, or not at all. May be called again; the first call counts."""
        if self._open:
            self._open = False
            self._twins.end(self, seq)


class Twins:
    """The bodies that are known, by reservation or by row. Methods may be called from any thread."""

    def __init__(
        self,
        reader: Callable[[], sqlite3.Connection],
        head: Callable[[], int],
        folded: Callable[[], int],
        wait_for: Callable[[int], bool],
        *,
        met: Callable[[BaseException], None] = lambda error: None,
        limit: int = RESERVATIONS_MAX,
    ) -> None:
        """`reader` returns the thread's connection to state.db.

        `head` returns the newest durable seq, `folded` the newest folded one; `wait_for` waits, for a bounded time, until a seq
        is folded; `met` is `Readers.met`.
        """
        self._reader = reader
        self._met = met
        self._head = head
        self._folded = folded
        self._wait_for = wait_for
        self._limit = limit
        self._lock = threading.Lock()
        self._reserved: dict[str, dict[str, int]] = {}
        """Hash → GUID → how many reservations; in the order in which they were made."""
        self._recorded: deque[tuple[int, str, str]] = deque()
        """(seq, hash, GUID) of reservations whose requests have ended and are recorded, until the state has folded that seq."""
        self._count = 0
        self._config: Config | None = None
        self._floor = 0

    def reserve(self, sha256: str, id: DeliveryId, config: Config) -> Reservation:
        """Reserve this body for this GUID, with what is known of the body. The caller must `end` the reservation.

        Raises StateBehind where that can't be known now; then nothing is reserved.
        """
        held = Reservation(self, sha256, id.guid)
        with self._lock:
            self._release_folded()
            if config is not self._config:
                self._config, self._floor = config, self._head()
            floor = self._floor
            if self._count >= self._limit:
                raise StateBehind("the state is too far behind the journal to tell twins")
            guids = self._reserved.setdefault(sha256, {})
            held.own = id.guid in guids
            held.twin = next((guid for guid in guids if guid != id.guid), None)
            guids[id.guid] = guids.get(id.guid, 0) + 1
            self._count += 1
        try:
            if self._folded() < floor and not self._wait_for(floor):
                raise StateBehind("the state is behind the journal, so twins can't be told")
            self._look_up(held)
        except BaseException:
            held.end(None)
            raise
        return held

    def end(self, held: Reservation, seq: int | None) -> None:
        with self._lock:
            if seq is None:
                self._drop(held.sha256, held.guid)
            else:
                self._recorded.append((seq, held.sha256, held.guid))
            self._release_folded()

    def _look_up(self, held: Reservation) -> None:
        try:
            conn = self._reader()
            row = conn.execute(_FIRST, (held.sha256,)).fetchone()
            if row is None:
                return
            if row[0] == held.guid:
                held.own = True
                return
            held.twin = str(row[0])
            held.own = held.own or conn.execute(_SAME_GUID, (held.sha256, held.guid)).fetchone() is not None
        except sqlite3.Error as error:
            self._met(error)
            raise StateBehind(f"the state can't be asked for twins: {error}") from error

    def _release_folded(self) -> None:
        """Under the lock. Requests end nearly in the order of their seqs; a late one's reservation ends a little later."""
        folded = self._folded()
        while self._recorded and self._recorded[0][0] <= folded:
            _, sha256, guid = self._recorded.popleft()
            self._drop(sha256, guid)

    def _drop(self, sha256: str, guid: str) -> None:
        guids = self._reserved[sha256]
        guids[guid] -= 1
        if not guids[guid]:
            del guids[guid]
        if not guids:
            del self._reserved[sha256]
        self._count -= 1
