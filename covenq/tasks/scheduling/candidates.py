"""Candidates: queued tasks that may start now, by installation, from one scan of state.db.

**Cost.** A scan reads the `SCAN_WINDOW` oldest tasks of an installation, beyond those in flight, once, however many it picks.
Where all of those are blocked, it goes through the installation's subqueues (route, repository, key) with an index that skips a
whole route, repository or key that is blocked. What blocks is something that runs, is paused or has used up its daily limit, so
there are no more skips than such things. Nothing depends on the length of the queue. Only tasks that are due after a wait are
read past one by one, inside SQLite.

Several rows come from SQLite as one JSON text, for the reason that `covenq.state.rows` gives.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, NamedTuple

import orjson

from covenq.config.limits import PRIORITIES
from covenq.model.token_scope import Scope
from covenq.tasks.scheduling.limiter import BlockReason, LimitedTask, Limiter
from covenq.tasks.scheduling.supersede import NEWEST, Superseder, superseded_by

SCAN_WINDOW = 64
"""Tasks of an installation that a scan reads one by one before it goes through subqueues."""
PRIORITY_ROTATION = 4
"""One turn in this many of an installation starts at another priority than the highest."""
_BATCH = 16
"""Tasks read at first, and installations at most; each further batch of tasks is twice as large."""

_WHOLE = (0, PRIORITIES - 1)
_FIELDS = "id, tenant, route, repo_id, repo, key, number, priority, supersede, source_at"
# Partial indexes of covenq.state.schema, named so that a query which can't use its index fails, and is never merely slow.
_NEXT_READY = """WITH RECURSIVE walk (tenant) AS (
    VALUES (?2) UNION ALL
    SELECT (SELECT tenant FROM tasks INDEXED BY tasks_ready
        WHERE state = 'queued' AND not_before IS NULL AND pull = ?1 AND tenant > walk.tenant ORDER BY tenant LIMIT 1)
    FROM walk WHERE walk.tenant IS NOT NULL LIMIT ?3)
    SELECT json_group_array(tenant) FROM walk"""
_ANY_DUE = """SELECT 1 FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ?1 AND not_before <= ?2 LIMIT 1"""
_HAS_WORK = f"""SELECT EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_ready
    WHERE state = 'queued' AND not_before IS NULL AND pull = ?1) OR EXISTS ({_ANY_DUE})"""  # noqa: S608 - constants
_NEXT_DUE_TENANT = """WITH RECURSIVE walk (tenant, due) AS (
    SELECT * FROM (SELECT tenant, not_before <= ?3 FROM tasks INDEXED BY tasks_delayed
        WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ?1 AND tenant > ?2
        ORDER BY tenant, not_before LIMIT 1)
    UNION ALL
    SELECT next.tenant, next.not_before <= ?3 FROM walk CROSS JOIN tasks next WHERE NOT walk.due AND next.created_seq = (
        SELECT created_seq FROM tasks INDEXED BY tasks_delayed
        WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ?1 AND tenant > walk.tenant
        ORDER BY tenant, not_before LIMIT 1))
    SELECT tenant FROM walk WHERE due LIMIT 1"""
_READY = f"""SELECT json_group_array(json_array({_FIELDS})) FROM (SELECT {_FIELDS} FROM tasks INDEXED BY tasks_ready
    WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant = ? AND priority BETWEEN ? AND ?
    AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY priority DESC, sent_at, created_seq LIMIT ? OFFSET ?)"""  # noqa: S608 - constants
_DUE = f"""SELECT {_FIELDS} FROM tasks INDEXED BY tasks_delayed
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND tenant = ? AND not_before <= ?
    AND (key IS NULL OR key NOT IN (SELECT value FROM json_each(?))) ORDER BY not_before"""  # noqa: S608 - constants
_LANE = """SELECT coalesce(route, '') AS route, coalesce(repo_id, 0) AS repo_id, coalesce(key, '') AS key
    FROM tasks INDEXED BY tasks_lane WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant = ?
    AND {beyond} ORDER BY {order} LIMIT 1"""
_BEYOND_KEY = _LANE.format(
    beyond="coalesce(route, '') = ? AND coalesce(repo_id, 0) = ? AND coalesce(key, '') > ?", order="coalesce(key, '')"
)
_BEYOND_REPO = _LANE.format(
    beyond="coalesce(route, '') = ? AND coalesce(repo_id, 0) > ?", order="coalesce(repo_id, 0), coalesce(key, '')"
)
_BEYOND_ROUTE = _LANE.format(
    beyond="coalesce(route, '') > ?", order="coalesce(route, ''), coalesce(repo_id, 0), coalesce(key, '')"
)
_OF_SUBQUEUE = f"""SELECT {_FIELDS} FROM tasks INDEXED BY tasks_lane
    WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant = ?
    AND coalesce(route, '') = ? AND coalesce(repo_id, 0) = ? AND coalesce(key, '') = ?
    ORDER BY sent_at, created_seq LIMIT ?"""  # noqa: S608 - constants
_OF_KEY = f"""SELECT {_FIELDS} FROM tasks INDEXED BY tasks_keyed
    WHERE state = 'queued' AND not_before IS NULL AND key IS NOT NULL AND pull = ? AND tenant = ? AND key = ?
    ORDER BY sent_at, created_seq LIMIT ?"""  # noqa: S608 - constants


class Candidate(NamedTuple):
    """The columns of a queued task that scheduling needs."""

    id: str
    tenant: str
    route: str | None
    repo_id: int | None
    repo: str | None
    key: str | None
    number: int | None
    priority: int
    supersede: str | None
    source_at: str | None


SubqueueKey = tuple[str, int, str]


@dataclass(slots=True)
class TurnState:
    """The turns of one installation: how many it had, and the subqueue of its last pick beyond the window."""

    count: int = 0
    last_start: int = 0
    """The number of its last start, counted over all starts of its round robin."""
    subqueue: SubqueueKey = ("", -1, "")


@dataclass(slots=True)
class _Queue:
    """The ready tasks of an installation in a range of priorities: highest priority first, oldest first within one."""

    rows: list[list[Any]] = field(default_factory=list)
    """Those that were read so far."""
    position: int = 0
    """No row before this one can start in this scan: what blocks only grows while it picks."""
    batch: int = 0
    """The size of the last batch."""
    exhausted: bool = False


def has_work(conn: sqlite3.Connection, pull: bool, now: str) -> bool:
    """Whether any task is ready or due, blocked or not: cheaper than finding out what blocks."""
    return bool(conn.execute(_HAS_WORK, (pull, now)).fetchone()[0])


class TaskSelection(NamedTuple):
    """The tasks that are wanted: of pull workers or of this daemon, of these routes (None: of any), and of none in `without`.

    With `scope`, those in it.
    """

    pull: bool
    routes: frozenset[str] | None
    without: frozenset[str]
    scope: Scope | None = None


class CandidateScan:
    """One scan of the queue, in one read transaction, for up to `limit` tasks that are not in `in_flight`."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        now: str,
        limiter: Limiter,
        superseder: Superseder,
        in_flight: Iterable[LimitedTask],
        selection: TaskSelection,
        limit: int,
    ) -> None:
        self.pull = selection.pull
        self.limiter = limiter
        self._conn = conn
        self._now = now
        self._superseder = superseder
        self._exclude: set[str] = set()
        self._window = SCAN_WINDOW + limit
        in_flight_ids: dict[str, list[str]] = {}
        for task in in_flight:
            self._exclude.add(task.id)
            in_flight_ids.setdefault(task.tenant, []).append(task.id)
        self._in_flight = {tenant: orjson.dumps(ids).decode() for tenant, ids in in_flight_ids.items()}
        """Installation → its ids in flight, which SQLite skips: while the fold is behind, they come before all others."""
        self.routes = selection.routes
        self._excluded_routes = selection.without
        self.scope = selection.scope
        self._tenants = None if self.scope is None else frozenset(map(str, self.scope.installations))
        self._due = conn.execute(_ANY_DUE, (self.pull, now)).fetchone() is not None
        self._first_batch = min(limit, _BATCH)
        self._queues: dict[tuple[str, int, int], _Queue] = {}
        self._next_tenants: dict[str, str | None] = {}
        """Installation → the next one with something ready, as far as it was read."""
        self._blocked_by_tenant: dict[str, dict[str, Candidate]] = {}
        self.blocked_scopes: dict[str, Candidate] = {}
        """Scopes of shared limits that blocked tasks of the installation scanned last, with one task each."""

    def mark_picked(self, row: Candidate) -> None:
        self._exclude.add(row.id)
        self.limiter.add_running(row)
        self._schedule_superseding(row)

    def _schedule_superseding(self, row: Candidate) -> None:
        self._superseder.schedule(row.route, row.key, row.repo_id, row.number, row.supersede, row.source_at)

    def has_capacity(self, blocked_scopes: dict[str, Candidate], full: set[str]) -> bool:
        """Whether one of these tasks may start now; scopes without room are added to `full`, and not checked again."""
        for scope in blocked_scopes.keys() - full:
            block = self.limiter.check(blocked_scopes[scope])
            if block is None:
                return True
            if block.scope == scope:
                full.add(scope)
        return False

    def tenants(self, after: str) -> Iterator[str]:
        """The installations with something ready or due, each once, from the one that follows `after`, which comes last.

        Under a scope, those in it, whatever they have: they are few, and others may be many.
        """
        if self._tenants is not None:
            own = sorted(self._tenants)
            yield from (one for one in own if one > after)
            yield from (one for one in own if one <= after)
            return
        place = after
        while (found := self._next_tenant(place)) is not None:
            yield found
            place = found
        place = ""
        while (found := self._next_tenant(place)) is not None and found <= after:
            yield found
            place = found

    def _next_tenant(self, after: str) -> str | None:
        if after not in self._next_tenants:
            text = self._conn.execute(_NEXT_READY, (self.pull, after, self._first_batch + 1)).fetchone()[0]
            self._next_tenants.update(pairwise(orjson.loads(text)))
        ready = self._next_tenants[after]
        due = self._conn.execute(_NEXT_DUE_TENANT, (self.pull, after, self._now)).fetchone() if self._due else None
        if due is None:
            return ready
        return str(due[0]) if ready is None else min(ready, str(due[0]))

    def candidate_for(self, tenant: str, turns: TurnState) -> Candidate | None:
        """The task that the installation starts in this turn, or None if none of its tasks may start."""
        self.blocked_scopes = self._blocked_by_tenant.setdefault(tenant, {})
        top = PRIORITIES - 1
        if turns.count % PRIORITY_ROTATION == PRIORITY_ROTATION - 1:
            top = turns.count // PRIORITY_ROTATION % PRIORITIES
        candidates = [self._next_due(tenant, top), self._next_ready(tenant, top, turns)]
        if turns.count // (PRIORITY_ROTATION * PRIORITIES) % 2 != turns.count % 2:
            candidates.reverse()
        # The nearest priority at or below the top, then those above it; of equals, the first.
        found = [row for row in candidates if row is not None]
        return min(found, key=lambda row: (top - row.priority) % PRIORITIES, default=None)

    def _next_ready(self, tenant: str, top: int, turns: TurnState) -> Candidate | None:
        all_seen = True
        for low, high in self._priority_ranges(tenant, top):
            queue = self._queues.setdefault((tenant, low, high), _Queue())
            while queue.position < len(queue.rows) or self._fetch(queue, tenant, low, high):
                row = Candidate._make(queue.rows[queue.position])
                if self._may_start(row):
                    return row
                queue.position += 1
            all_seen &= len(queue.rows) < self._window
        return None if all_seen else self._beyond_window(tenant, turns)

    def _priority_ranges(self, tenant: str, top: int) -> Iterator[tuple[int, int]]:
        """The ranges of priorities to go through: up to `top`, then above it.

        An installation that has nothing above `top` has one range only, the whole, which is read already.
        """
        whole = self._queues.setdefault((tenant, *_WHOLE), _Queue())
        if (whole.rows or self._fetch(whole, tenant, *_WHOLE)) and Candidate._make(whole.rows[0]).priority > top:
            yield 0, top
            yield top + 1, _WHOLE[1]
        else:
            yield _WHOLE

    def _fetch(self, queue: _Queue, tenant: str, low: int, high: int) -> bool:
        """Read the next batch; False if there is none, or the window ends here."""
        if queue.exhausted:
            return False
        queue.batch = min(2 * queue.batch or self._first_batch, self._window - len(queue.rows))
        in_flight = self._in_flight.get(tenant, "[]")
        found = self._conn.execute(_READY, (self.pull, tenant, low, high, in_flight, queue.batch, len(queue.rows)))
        rows = orjson.loads(found.fetchone()[0])
        queue.rows += rows
        queue.exhausted = len(rows) < queue.batch or len(queue.rows) == self._window
        return bool(rows)

    def _next_due(self, tenant: str, top: int) -> Candidate | None:
        """The first task that is due and may start or, among the `SCAN_WINDOW` rows that follow it, one of a better priority."""
        if not self._due:
            return None
        busy = json.dumps(self.limiter.busy_keys())
        rows = (Candidate(*row) for row in self._conn.execute(_DUE, (self.pull, tenant, self._now, busy)))
        first = next(filter(self._may_start, rows), None)
        if first is None:
            return None
        others = (row for _, row in zip(range(SCAN_WINDOW), rows, strict=False) if row.priority != first.priority)
        return min(chain((first,), filter(self._may_start, others)), key=lambda row: (top - row.priority) % PRIORITIES)

    def _first_startable(self, rows: Iterable[sqlite3.Row]) -> Candidate | None:
        return next(filter(self._may_start, (Candidate(*row) for row in rows)), None)

    def _may_start(self, row: Candidate) -> bool:
        if row.id in self._exclude or not self._route_wanted(row.route) or not self._in_scope(row):
            return False
        if self._blocked(row, self.limiter.check(row)):
            return False
        if row.supersede is None and row.source_at is None:
            return True
        if superseded_by(self._conn, row.id) is None:
            return True
        self._schedule_superseding(row)
        return False

    def _in_scope(self, row: Candidate) -> bool:
        """By the tenant, which of an installation is its number (`covenq.config.limits.tenant_of`)."""
        if self.scope is None or self._tenants is None:
            return True
        return row.tenant in self._tenants and (
            self.scope.repositories is None or row.repo_id in self.scope.repositories
        )

    def _blocked(self, row: Candidate, block: BlockReason | None) -> bool:
        if block is not None and block.scope and self.limiter.shared(block.scope, row.tenant):
            self.blocked_scopes.setdefault(block.scope, row)
        return block is not None

    def _route_wanted(self, route: str | None) -> bool:
        return route not in self._excluded_routes and (self.routes is None or route in self.routes)

    # ---- beyond the window

    def _beyond_window(self, tenant: str, turns: TurnState) -> Candidate | None:
        """A task of some subqueue that isn't blocked, starting after the subqueue of the last such pick."""
        for subqueue in chain(
            self._subqueues(tenant, turns.subqueue, None), self._subqueues(tenant, ("", -1, ""), turns.subqueue)
        ):
            found = self._oldest_of_subqueue(tenant, subqueue)
            if found is not None:
                turns.subqueue = subqueue
                return found if found.key is None else self._first_of_key(found)
        return None

    def _subqueues(self, tenant: str, after: SubqueueKey, last: SubqueueKey | None) -> Iterator[SubqueueKey]:
        """The subqueues that aren't blocked, in order, after `after` and, unless it is None, up to `last`."""
        place, level = after, "key"
        while True:
            subqueue = self._next_subqueue(tenant, place, level)
            if subqueue is None or (last is not None and subqueue > last):
                return
            place, level = subqueue, "key"
            route, repo_id, key = subqueue[0] or None, subqueue[1] or None, subqueue[2] or None
            some = Candidate("", tenant, route, repo_id, None, key, None, 0, None, None)
            if not self._route_wanted(route) or self._blocked(some, self.limiter.check_route(route)):
                level = "route"
            elif self._blocked(some, self.limiter.check_repo(repo_id, None)):
                level = "repo"
            elif not self._blocked(some, self.limiter.check_key(key, route)):
                yield subqueue

    def _next_subqueue(self, tenant: str, place: SubqueueKey, level: str) -> SubqueueKey | None:
        """The first subqueue after this one's key, or after its whole repository or its whole route, by `level`."""
        route, repo_id, key = place
        steps: list[tuple[str, tuple[object, ...]]] = [(_BEYOND_ROUTE, (route,))]
        if level != "route":
            steps.insert(0, (_BEYOND_REPO, (route, repo_id)))
            if level == "key":
                steps.insert(0, (_BEYOND_KEY, (route, repo_id, key)))
        for sql, values in steps:
            row = self._conn.execute(sql, (self.pull, tenant, *values)).fetchone()
            if row is not None:
                return str(row[0]), int(row[1]), str(row[2])
        return None

    def _oldest_of_subqueue(self, tenant: str, subqueue: SubqueueKey) -> Candidate | None:
        """The oldest task of the subqueue that may start.

        It comes after those in flight, and after a few that are superseded and not yet recorded so.
        """
        many = len(self._exclude) + SCAN_WINDOW
        rows = self._conn.execute(_OF_SUBQUEUE, (self.pull, tenant, *subqueue, many)).fetchall()
        return self._first_startable(rows) or self._newest_of_key(rows)

    def _first_of_key(self, row: Candidate) -> Candidate:
        """Of the tasks with this one's key, whatever their route, the first sent that may start, so far as some 64 tell."""
        many = len(self._exclude) + SCAN_WINDOW
        rows = self._conn.execute(_OF_KEY, (self.pull, row.tenant, row.key, many)).fetchall()
        return self._first_startable(rows) or row

    def _newest_of_key(self, rows: list[sqlite3.Row]) -> Candidate | None:
        """Where newer tasks supersede older ones of the same key, the newest is the one that may start."""
        if not rows or rows[-1]["supersede"] is None:
            return None
        newest = self._conn.execute(NEWEST, (rows[-1]["route"], rows[-1]["key"])).fetchone()
        if newest is None or newest["state"] != "queued" or newest["not_before"] is not None:
            return None
        row = Candidate(*(newest[name] for name in Candidate._fields))
        return row if row.tenant == rows[-1]["tenant"] and self._may_start(row) else None
