"""Which queued task runs next: whose turn it is, and what of theirs may run.

**Turns.** Installations (what came without one: hooks) take turns, as many in a row as their weight says. One that has
nothing that may run loses its turn. So with N installations that have work, each gets one of every N picks at equal weights,
whatever the others queue. Who lost a turn because others had used up a limit that they share (a route's, a repository's, a
key's) is owed one until it starts something: when there is room again, it goes to whoever of them started something longest ago,
before anyone's turn. Else who comes first after one that can always run would take it each time.

**Within an installation** the highest priority goes first, but every fourth of its turns starts at another priority, each of
the ten in its time: whatever waits at some priority is reached within 40 turns of its installation. Of one priority, tasks
whose not-before time has come and others take turns, each oldest first.

Nothing is kept in memory but whose turn it is. What may run is `covenq.tasks.scheduling.candidates`' to find, and what
that costs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from covenq.config.limits import NO_CAPS, Caps
from covenq.model import at_text
from covenq.tasks.scheduling.candidates import Candidate, CandidateScan, Turns, anything
from covenq.tasks.scheduling.limiter import LimitedTask, Limiter
from covenq.tasks.scheduling.outcome import Task, queued_tasks
from covenq.tasks.scheduling.supersede import Superseder
from journal.records import Entry

_K = TypeVar("_K")
_V = TypeVar("_V")

OWN = ("run", "forward")
"""Kinds of task that this daemon runs itself; the others are claimed by workers elsewhere."""
PULL = ("pull",)

TURNS_KEPT = 4096
"""Installations whose turns are counted, in one round; the count of the one seen longest ago is forgotten first."""
ROUNDS_KEPT = 64
"""Rounds that are gone at a time, one for each choice of routes that workers elsewhere ask for."""

_NEXT_DUE = """SELECT min(not_before) FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND not_before > ?"""


@dataclass(slots=True)
class _Round:
    """Whose turn it is, and how many in a row are left to them.

    Who asks for some routes only has a round of their own: shared, two who alternate could each always come to the same
    installations.
    """

    tenant: str = ""
    left: int = 0
    turns: dict[str, Turns] = field(default_factory=dict)
    starts: int = 0
    owed: dict[str, dict[str, Candidate]] = field(default_factory=dict)
    """Installation that lost its turn → scopes of the limits it lost it for, and what it would have started in each."""


class Picker:
    """Picks queued tasks. One a daemon; its caller holds a lock around `next` and the note of what it returned.

    `caps` gives the limits as they are configured now.
    """

    def __init__(self, caps: Callable[[], Caps] = lambda: NO_CAPS) -> None:
        self._caps = caps
        self._rounds: dict[tuple[bool, frozenset[str] | None], _Round] = {}
        self._superseder = Superseder()

    def reset(self) -> None:
        """Look at everything again: something that was decided here was not recorded."""
        self._superseder = Superseder()

    def next(
        self,
        conn: sqlite3.Connection,
        now: float,
        limit: int,
        *,
        held: Collection[LimitedTask] = (),
        exclude: Collection[str] = (),
        keys: Collection[str] = (),
        kinds: Collection[str] = OWN,
        routes: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> list[Task]:
        """Up to `limit` tasks that may start at `now` (seconds since 1970).

        `held` are tasks already in hand though the fold may still call them queued: they are not picked again, and count for
        every cap and quota as if they ran. So a caller that adds what it gets to `held` before anyone else picks can't pass
        a cap, however far the fold is behind. `exclude` and `keys` are more ids not to pick, and more keys in use.
        `kinds` is OWN or PULL; with `routes` only tasks of those are picked, and of none in `without`.
        """
        if limit <= 0:
            return []
        pull, wanted = "pull" in kinds, None if routes is None else frozenset(routes)
        with snapshot(conn):
            if not anything(conn, pull, at_text(now)):
                if (turn := self._rounds.get((pull, wanted))) is not None:
                    turn.owed.clear()  # who has nothing is owed nothing
                return []
            limiter = Limiter(conn, now, self._caps(), held, keys)
            if limiter.everything() is not None:
                return []
            look = CandidateScan(
                conn, at_text(now), limiter, self._superseder, held, exclude, pull, wanted, frozenset(without), limit
            )
            return queued_tasks(conn, [row.id for row in self._choose(look, limit)])

    def next_due(self, conn: sqlite3.Connection, now: float, kinds: Collection[str] = OWN) -> str | None:
        """When the next task that waits for its not-before time is ready, if any does."""
        due: str | None = conn.execute(_NEXT_DUE, ("pull" in kinds, at_text(now))).fetchone()[0]
        return due

    def outdated(self, conn: sqlite3.Connection, limit: int = 256) -> list[tuple[Entry, ...]]:
        """What has to be recorded of tasks that newer ones have outdated; each tuple is one append.

        They are not picked meanwhile either. To be called, and its entries appended, whenever the fold has moved on; a
        Conflict is nothing but somebody else's move, and is looked at again with the next call.
        """
        with snapshot(conn):
            return self._superseder.moves(conn, limit)

    def _choose(self, look: CandidateScan, limit: int) -> Iterator[Candidate]:
        turn = _newest(self._rounds, (look.pull, look.routes), _Round, ROUNDS_KEPT)
        idle: set[str] = set()
        for _ in range(limit):
            row = self._one(look, turn, idle)
            if row is None:
                return
            look.took(row)
            yield row

    def _one(self, look: CandidateScan, turn: _Round, idle: set[str]) -> Candidate | None:
        """The next task of whoever's turn it is; None when nobody has one."""
        caps = self._caps()
        if turn.owed and (row := self._owed(look, turn, idle)) is not None:
            return row
        if turn.left > 0 and (row := self._of(look, turn, turn.tenant, idle)) is not None:
            turn.left -= 1
            return row
        for tenant in look.tenants(turn.tenant):
            if (row := self._of(look, turn, tenant, idle)) is not None:
                turn.tenant, turn.left = tenant, caps.share(tenant).weight - 1
                return row
        return None

    def _of(self, look: CandidateScan, turn: _Round, tenant: str, idle: set[str]) -> Candidate | None:
        if tenant in idle:
            return None
        if look.limiter.tenant(tenant) is None:
            turns = _newest(turn.turns, tenant, Turns, TURNS_KEPT)
            row = look.of(tenant, turns)
            turn.owed.pop(tenant, None)
            if row is not None:
                turns.taken += 1
                turns.last = turn.starts = turn.starts + 1
                return row
            if look.missed and len(turn.owed) < TURNS_KEPT:
                turn.owed[tenant] = look.missed
        idle.add(tenant)
        return None

    def _owed(self, look: CandidateScan, turn: _Round, idle: set[str]) -> Candidate | None:
        """The next task of who lost a turn for want of something that has room again."""
        full: set[str] = set()
        for tenant in sorted(turn.owed, key=lambda tenant: turn.turns.get(tenant, Turns()).last):
            if tenant not in idle and look.has_room(turn.owed[tenant], full):
                row = self._of(look, turn, tenant, idle)
                if row is not None:
                    return row
        return None


def _newest(kept: dict[_K, _V], key: _K, make: Callable[[], _V], most: int) -> _V:
    """The value at `key`, made if need be, and noted as used last; of more than `most`, the one used longest ago goes."""
    found = kept.pop(key, None) or make()
    kept[key] = found
    if len(kept) > most:
        del kept[next(iter(kept))]
    return found


@contextmanager
def snapshot(conn: sqlite3.Connection) -> Iterator[None]:
    """Let all questions see one moment of the tables."""
    if conn.in_transaction:
        yield
        return
    conn.execute("BEGIN")
    try:
        yield
    finally:
        conn.execute("ROLLBACK")
