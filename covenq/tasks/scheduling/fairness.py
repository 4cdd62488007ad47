"""Fairness: which queued task runs next, by a weighted round robin over the installations.

**Round robin.** Installations (for deliveries without one: hooks) take turns, as many in a row as their weight. One that has
nothing that may start loses its turn. So with N installations that have work, each gets one of every N picks at equal weights,
however much the others queue. An installation that lost a turn because others had used up a shared limit (a route's, a
repository's, a key's) is owed one until it starts something: when the limit has room again, the installation among them whose
last start is the longest ago goes first, before the round robin. Otherwise the one that follows an installation which can always
run would take that room each time.

**Within an installation** the highest priority goes first, but every fourth of its turns starts at another priority, each of
the ten in its time: so a task of any priority is reached within 40 turns of its installation. Within one priority, tasks whose
not-before time has come and the others take turns, each oldest first: the others by when GitHub sent their deliveries
(`covenq.state.send_order`), so that tasks of one key start in that order, however late one was fetched.

Only the state of the round robin is kept in memory. `covenq.tasks.scheduling.candidates` finds what may start, and says what that
costs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from covenq.config.limits import NO_CAPS, Caps
from covenq.model import at_text
from covenq.model.token_scope import Scope
from covenq.state.readers import snapshot
from covenq.tasks.scheduling.candidates import Candidate, CandidateScan, TaskSelection, TurnState, has_work
from covenq.tasks.scheduling.limiter import LimitedTask, Limiter
from covenq.tasks.scheduling.outcome import Task, queued_tasks
from covenq.tasks.scheduling.supersede import Superseder
from journal.records import Entry

_K = TypeVar("_K")
_V = TypeVar("_V")

OWN_KINDS = ("run", "forward")
"""Kinds of task that this daemon runs itself; pull workers claim the others."""
PULL_KINDS = ("pull",)

TENANTS_MAX = 4096
"""Installations of one round robin whose turns are counted; the least recently used count is dropped first."""
ROUND_ROBINS_MAX = 64
"""Round robins at a time, one for each set of routes that pull workers ask for."""

_NEXT_DUE = """SELECT min(not_before) FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND not_before > ?"""


@dataclass(slots=True)
class _RoundRobin:
    """The installation whose turn it is, and how many starts in a row remain to it.

    Each set of routes that workers ask for has its own: if two workers that ask in alternation shared one, each could always
    meet the same installations.
    """

    tenant: str = ""
    remaining: int = 0
    turns: dict[str, TurnState] = field(default_factory=dict)
    starts: int = 0
    owed: dict[str, dict[str, Candidate]] = field(default_factory=dict)
    """Installation that lost its turn → scopes of the limits that were used up, each with a task that it would have started."""


class Picker:
    """Picks queued tasks.

    One per daemon; the caller holds a lock around `next` and around adding its result to what is in flight.

    `caps` returns the limits as they are configured now.
    """

    def __init__(self, caps: Callable[[], Caps] = lambda: NO_CAPS) -> None:
        self._caps = caps
        self._round_robins: dict[tuple[bool, frozenset[str] | None, Scope | None], _RoundRobin] = {}
        self._superseder = Superseder()

    def reset(self) -> None:
        """Forget which tasks were checked for superseding: something that was found may not have been recorded."""
        self._superseder = Superseder()

    def next(
        self,
        conn: sqlite3.Connection,
        now: float,
        limit: int,
        *,
        in_flight: Collection[LimitedTask] = (),
        kinds: Collection[str] = OWN_KINDS,
        routes: Collection[str] | None = None,
        without: Collection[str] = (),
        scope: Scope | None = None,
    ) -> list[Task]:
        """Up to `limit` tasks that may start at `now` (seconds since 1970).

        `in_flight` are tasks that were picked before, though the fold may still have them as queued: they are not picked again,
        and count for every limit as if they ran. So a caller that adds the result to `in_flight` before the next pick can't
        exceed a limit, however far the fold is behind. `kinds` is OWN_KINDS or PULL_KINDS; with `routes` only tasks of those
        routes are picked, and of none in `without`; with `scope`, only those in it.
        """
        if limit <= 0:
            return []
        pull, wanted = "pull" in kinds, None if routes is None else frozenset(routes)
        with snapshot(conn):
            if not has_work(conn, pull, at_text(now)):
                if (order := self._round_robins.get((pull, wanted, scope))) is not None:
                    order.owed.clear()  # an installation without work is owed nothing
                return []
            limiter = Limiter(conn, now, self._caps(), in_flight)
            if limiter.check_paused() is not None:
                return []
            scan = CandidateScan(
                conn,
                at_text(now),
                limiter,
                self._superseder,
                in_flight,
                TaskSelection(pull, wanted, frozenset(without), scope),
                limit,
            )
            return queued_tasks(conn, [row.id for row in self._pick(scan, limit)])

    def next_due(self, conn: sqlite3.Connection, now: float, kinds: Collection[str] = OWN_KINDS) -> str | None:
        """The not-before time of the next postponed task, if there is one."""
        due: str | None = conn.execute(_NEXT_DUE, ("pull" in kinds, at_text(now))).fetchone()[0]
        return due

    def superseded(self, conn: sqlite3.Connection, limit: int = 256) -> list[tuple[Entry, ...]]:
        """The entries to append for tasks that newer ones supersede; each tuple is one append.

        Those tasks are not picked in the meantime either. Call it, and append its entries, whenever the fold has advanced. A
        Conflict means that the task has moved; the next call checks it again.
        """
        with snapshot(conn):
            return self._superseder.find(conn, limit)

    def _pick(self, scan: CandidateScan, limit: int) -> Iterator[Candidate]:
        order = _recently_used(self._round_robins, (scan.pull, scan.routes, scan.scope), _RoundRobin, ROUND_ROBINS_MAX)
        idle: set[str] = set()
        for _ in range(limit):
            row = self._next(scan, order, idle)
            if row is None:
                return
            scan.mark_picked(row)
            yield row

    def _next(self, scan: CandidateScan, order: _RoundRobin, idle: set[str]) -> Candidate | None:
        """The next task to start: of an installation that is owed a turn, else of the round robin; None if nothing may start."""
        caps = self._caps()
        if order.owed and (row := self._next_owed(scan, order, idle)) is not None:
            return row
        if order.remaining > 0 and (row := self._next_of(scan, order, order.tenant, idle)) is not None:
            order.remaining -= 1
            return row
        for tenant in scan.tenants(order.tenant):
            if (row := self._next_of(scan, order, tenant, idle)) is not None:
                order.tenant, order.remaining = tenant, caps.share(tenant).weight - 1
                return row
        return None

    def _next_of(self, scan: CandidateScan, order: _RoundRobin, tenant: str, idle: set[str]) -> Candidate | None:
        if tenant in idle:
            return None
        if scan.limiter.check_tenant(tenant) is None:
            turns = _recently_used(order.turns, tenant, TurnState, TENANTS_MAX)
            row = scan.candidate_for(tenant, turns)
            order.owed.pop(tenant, None)
            if row is not None:
                turns.count += 1
                turns.last_start = order.starts = order.starts + 1
                return row
            if scan.blocked_scopes and len(order.owed) < TENANTS_MAX:
                order.owed[tenant] = scan.blocked_scopes
        idle.add(tenant)
        return None

    def _next_owed(self, scan: CandidateScan, order: _RoundRobin, idle: set[str]) -> Candidate | None:
        """The next task of an installation that lost a turn to a shared limit which has room again."""
        full: set[str] = set()
        for tenant in sorted(order.owed, key=lambda tenant: order.turns.get(tenant, TurnState()).last_start):
            if tenant not in idle and scan.has_capacity(order.owed[tenant], full):
                row = self._next_of(scan, order, tenant, idle)
                if row is not None:
                    return row
        return None


def _recently_used(kept: dict[_K, _V], key: _K, make: Callable[[], _V], most: int) -> _V:
    """The value at `key`, made if missing, now the most recently used; beyond `most`, the least recently used is dropped."""
    found = kept.pop(key, None) or make()
    kept[key] = found
    if len(kept) > most:
        del kept[next(iter(kept))]
    return found
