"""What the tables have for a pick: who has something queued, and which task of theirs may start. Asked for one look at a time.

**Cost.** A look goes through the `WINDOW` oldest tasks of an installation, beyond those in hand, once, however many it picks.
Where all of those are held back, it goes through the installation's lanes (route, repository, key) with an index that jumps
over a whole route, repository or key that is held back; and as what holds back is something that runs, is paused or has used
its day up, there are no more jumps than such things. Nothing depends on how much is queued. Only what is due after a wait is
read past one by one, inside SQLite.

Rows cross from SQLite as one JSON text for several, for the reason that `covenq.state.rows` has.
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
from covenq.tasks.scheduling.limiter import Block, LimitedTask, Limiter
from covenq.tasks.scheduling.supersede import NEWEST, Superseder, outdated_by

WINDOW = 64
OTHER_EVERY = 4
"""So often, counted by installation, the turn starts at another priority than the highest."""
_LOT = 16
"""Tasks asked for at first, and at most as many installations; each further lot is twice as large."""

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
_ANYTHING = f"""SELECT EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_ready
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
    AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY priority DESC, last_seq LIMIT ? OFFSET ?)"""  # noqa: S608 - constants
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
_OF_LANE = f"""SELECT {_FIELDS} FROM tasks INDEXED BY tasks_lane
    WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant = ?
    AND coalesce(route, '') = ? AND coalesce(repo_id, 0) = ? AND coalesce(key, '') = ?
    ORDER BY last_seq LIMIT ?"""  # noqa: S608 - constants


class Candidate(NamedTuple):
    """A queued task, as far as choosing it needs."""

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


LaneKey = tuple[str, int, str]


@dataclass(slots=True)
class Turns:
    """Of one installation: how many it had, and the lane that its last pick out of the window was of."""

    taken: int = 0
    last: int = 0
    """The number, among the starts of its round, of its last start."""
    lane: LaneKey = ("", -1, "")


@dataclass(slots=True)
class _Queue:
    """What an installation has ready within a range of priorities: the highest first, of one priority the oldest."""

    rows: list[list[Any]] = field(default_factory=list)
    """As far as they were asked for."""
    place: int = 0
    """What stands before can't start in this look: it only ever finds more in the way."""
    lot: int = 0
    """How many were asked for last."""
    ended: bool = False


def anything(conn: sqlite3.Connection, pull: bool, now: str) -> bool:
    """Whether anybody has something that is ready or due, held back or not: cheaper to ask than what holds back."""
    return bool(conn.execute(_ANYTHING, (pull, now)).fetchone()[0])


class CandidateScan:
    """One look at the tables, within one transaction, for up to `limit` tasks; `held` and `exclude` are not to be picked."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        now: str,
        limiter: Limiter,
        superseder: Superseder,
        held: Iterable[LimitedTask],
        exclude: Iterable[str],
        pull: bool,
        routes: frozenset[str] | None,
        without: frozenset[str],
        limit: int,
    ) -> None:
        self.pull = pull
        self.limiter = limiter
        self._conn = conn
        self._now = now
        self._superseder = superseder
        self._exclude = set(exclude)
        self._window = WINDOW + len(self._exclude) + limit
        in_hand: dict[str, list[str]] = {}
        for task in held:
            self._exclude.add(task.id)
            in_hand.setdefault(task.tenant, []).append(task.id)
        self._in_hand = {tenant: orjson.dumps(ids).decode() for tenant, ids in in_hand.items()}
        """Installation → its ids in hand, which SQLite is to pass over: while the fold is behind they stand before all others."""
        self.routes = routes
        self._without = without
        self._due = conn.execute(_ANY_DUE, (pull, now)).fetchone() is not None
        self._lot = min(limit, _LOT)
        self._queues: dict[tuple[str, int, int], _Queue] = {}
        self._following: dict[str, str | None] = {}
        """Who is the next with something ready, as far as it was asked."""
        self._missed: dict[str, dict[str, Candidate]] = {}
        self.missed: dict[str, Candidate] = {}
        """Scopes of limits that others share and that held back what the installation asked last has, with one task each."""

    def took(self, row: Candidate) -> None:
        self._exclude.add(row.id)
        self.limiter.begin(row)
        self._note(row)

    def _note(self, row: Candidate) -> None:
        self._superseder.note(row.route, row.key, row.repo_id, row.number, row.supersede, row.source_at)

    def has_room(self, missed: dict[str, Candidate], full: set[str]) -> bool:
        """Whether one of these may start now; scopes without room are noted in `full`, not to be asked again."""
        for scope in missed.keys() - full:
            block = self.limiter.of(missed[scope])
            if block is None:
                return True
            if block.scope == scope:
                full.add(scope)
        return False

    def tenants(self, after: str) -> Iterator[str]:
        """Everyone with something ready or due, once, from the one that follows `after`, which comes last."""
        place = after
        while (found := self._tenant(place)) is not None:
            yield found
            place = found
        place = ""
        while (found := self._tenant(place)) is not None and found <= after:
            yield found
            place = found

    def _tenant(self, after: str) -> str | None:
        if after not in self._following:
            text = self._conn.execute(_NEXT_READY, (self.pull, after, self._lot + 1)).fetchone()[0]
            self._following.update(pairwise(orjson.loads(text)))
        ready = self._following[after]
        due = self._conn.execute(_NEXT_DUE_TENANT, (self.pull, after, self._now)).fetchone() if self._due else None
        if due is None:
            return ready
        return str(due[0]) if ready is None else min(ready, str(due[0]))

    def of(self, tenant: str, turns: Turns) -> Candidate | None:
        """The task that this turn of the installation is for."""
        self.missed = self._missed.setdefault(tenant, {})
        top = PRIORITIES - 1
        if turns.taken % OTHER_EVERY == OTHER_EVERY - 1:
            top = turns.taken // OTHER_EVERY % PRIORITIES
        candidates = [self._due_of(tenant, top), self._ready(tenant, top, turns)]
        if turns.taken // (OTHER_EVERY * PRIORITIES) % 2 != turns.taken % 2:
            candidates.reverse()
        # The nearest priority at or below the top, then those above it; of equals, the first.
        found = [row for row in candidates if row is not None]
        return min(found, key=lambda row: (top - row.priority) % PRIORITIES, default=None)

    def _ready(self, tenant: str, top: int, turns: Turns) -> Candidate | None:
        all_seen = True
        for low, high in self._ranges(tenant, top):
            queue = self._queues.setdefault((tenant, low, high), _Queue())
            while queue.place < len(queue.rows) or self._more(queue, tenant, low, high):
                row = Candidate._make(queue.rows[queue.place])
                if self._may(row):
                    return row
                queue.place += 1
            all_seen &= len(queue.rows) < self._window
        return None if all_seen else self._beyond(tenant, turns)

    def _ranges(self, tenant: str, top: int) -> Iterator[tuple[int, int]]:
        """The priorities to look through: up to `top` and, if it has nothing there, above. Where it has nothing above, that
        is everything, which need not be asked for again.
        """
        whole = self._queues.setdefault((tenant, *_WHOLE), _Queue())
        if (whole.rows or self._more(whole, tenant, *_WHOLE)) and Candidate._make(whole.rows[0]).priority > top:
            yield 0, top
            yield top + 1, _WHOLE[1]
        else:
            yield _WHOLE

    def _more(self, queue: _Queue, tenant: str, low: int, high: int) -> bool:
        """Ask for the next lot; False if there is none, or the window ends here."""
        if queue.ended:
            return False
        queue.lot = min(2 * queue.lot or self._lot, self._window - len(queue.rows))
        held = self._in_hand.get(tenant, "[]")
        found = self._conn.execute(_READY, (self.pull, tenant, low, high, held, queue.lot, len(queue.rows)))
        rows = orjson.loads(found.fetchone()[0])
        queue.rows += rows
        queue.ended = len(rows) < queue.lot or len(queue.rows) == self._window
        return bool(rows)

    def _due_of(self, tenant: str, top: int) -> Candidate | None:
        """The first that is due and may run, and of the `WINDOW` rows from there on the one of the best priority."""
        if not self._due:
            return None
        busy = json.dumps(self.limiter.busy_keys())
        rows = (Candidate(*row) for row in self._conn.execute(_DUE, (self.pull, tenant, self._now, busy)))
        first = next(filter(self._may, rows), None)
        if first is None:
            return None
        others = (row for _, row in zip(range(WINDOW), rows, strict=False) if row.priority != first.priority)
        return min(chain((first,), filter(self._may, others)), key=lambda row: (top - row.priority) % PRIORITIES)

    def _first(self, rows: Iterable[sqlite3.Row]) -> Candidate | None:
        return next(filter(self._may, (Candidate(*row) for row in rows)), None)

    def _may(self, row: Candidate) -> bool:
        if row.id in self._exclude or not self._wanted(row.route):
            return False
        if self._held(row, self.limiter.of(row)):
            return False
        if row.supersede is None and row.source_at is None:
            return True
        if outdated_by(self._conn, row.id) is None:
            return True
        self._note(row)
        return False

    def _held(self, row: Candidate, block: Block | None) -> bool:
        if block is not None and block.scope and self.limiter.shared(block.scope, row.tenant):
            self.missed.setdefault(block.scope, row)
        return block is not None

    def _wanted(self, route: str | None) -> bool:
        return route not in self._without and (self.routes is None or route in self.routes)

    # ---- beyond the window

    def _beyond(self, tenant: str, turns: Turns) -> Candidate | None:
        """A task of some lane that isn't held back, from the one that follows the lane of the last time."""
        for lane in chain(self._lanes(tenant, turns.lane, None), self._lanes(tenant, ("", -1, ""), turns.lane)):
            found = self._of_lane(tenant, lane)
            if found is not None:
                turns.lane = lane
                return found
        return None

    def _lanes(self, tenant: str, after: LaneKey, last: LaneKey | None) -> Iterator[LaneKey]:
        """The lanes that aren't held back, in order, after `after` and, unless it is None, up to `last`."""
        place, level = after, "key"
        while True:
            lane = self._lane(tenant, place, level)
            if lane is None or (last is not None and lane > last):
                return
            place, level = lane, "key"
            route, repo_id, key = lane[0] or None, lane[1] or None, lane[2] or None
            some = Candidate("", tenant, route, repo_id, None, key, None, 0, None, None)
            if not self._wanted(route) or self._held(some, self.limiter.route(route)):
                level = "route"
            elif self._held(some, self.limiter.repo(repo_id, None)):
                level = "repo"
            elif not self._held(some, self.limiter.key(key, route)):
                yield lane

    def _lane(self, tenant: str, place: LaneKey, level: str) -> LaneKey | None:
        """The first lane beyond this one's key, or its whole repository, or its whole route."""
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

    def _of_lane(self, tenant: str, lane: LaneKey) -> Candidate | None:
        """Its oldest task that may run: behind those in hand, and a few that are outdated and not yet recorded so."""
        many = len(self._exclude) + WINDOW
        rows = self._conn.execute(_OF_LANE, (self.pull, tenant, *lane, many)).fetchall()
        return self._first(rows) or self._newest(rows)

    def _newest(self, rows: list[sqlite3.Row]) -> Candidate | None:
        """Where newer tasks outdate older ones of the same key, the newest is the one that may run."""
        if not rows or rows[-1]["supersede"] is None:
            return None
        newest = self._conn.execute(NEWEST, (rows[-1]["route"], rows[-1]["key"])).fetchone()
        if newest is None or newest["state"] != "queued" or newest["not_before"] is not None:
            return None
        row = Candidate(*(newest[name] for name in Candidate._fields))
        return row if row.tenant == rows[-1]["tenant"] and self._may(row) else None
