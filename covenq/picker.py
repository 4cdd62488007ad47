"""Which queued task runs next: whose turn it is, and what of theirs may run.

**Turns.** Installations (what came without one: hooks) take turns, as many in a row as their weight says. One that has
nothing that may run loses its turn. So with N installations that have work, each gets one of every N picks at equal weights,
whatever the others queue. Who lost a turn because others had used up a limit that they share (a route's, a repository's, a
key's) is owed one until it starts something: when there is room again, it goes to whoever of them started something longest ago,
before anyone's turn. Else who comes first after one that can always run would take it each time.

**Within an installation** the highest priority goes first, but every fourth of its turns starts at another priority, each of
the ten in its time: whatever waits at some priority is reached within 40 turns of its installation. Of one priority, tasks
whose not-before time has come and others take turns, each oldest first.

**Cost.** A pick looks at the `WINDOW` oldest tasks of the installation whose turn it is. Where all of those are held back, it
goes through the installation's lanes (route, repository, key) with an index that jumps over a whole route, repository or key
that is held back; and as what holds back is something that runs, is paused or has used its day up, there are no more jumps
than such things. Nothing depends on how much is queued, and nothing is kept in memory but whose turn it is. Only what is due
after a wait is read past one by one, inside SQLite.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from covenq.caps import NO_CAPS, PRIORITIES, Caps
from covenq.model import at_text
from covenq.rivals import NEWEST, Rivals, outdated_by
from covenq.scheduler import Task
from covenq.standing import Block, Lane, Standing
from journal.model import Entry

_K = TypeVar("_K")
_V = TypeVar("_V")

OWN = ("run", "forward")
"""Kinds of task that this daemon runs itself; the others are claimed by workers elsewhere."""
PULL = ("pull",)

WINDOW = 64
OTHER_EVERY = 4
"""So often, counted by installation, the turn starts at another priority than the highest."""
TURNS_KEPT = 4096
"""Installations whose turns are counted, in one round; the count of the one seen longest ago is forgotten first."""
ROUNDS_KEPT = 64
"""Rounds that are gone at a time, one for each choice of routes that workers elsewhere ask for."""

_FIELDS = "id, tenant, route, repo_id, repo, key, number, priority, supersede, source_at"
# Partial indexes of covenq.schema, named so that a query which can't use its index fails, and is never merely slow.
_NEXT_READY = """SELECT tenant FROM tasks INDEXED BY tasks_ready
    WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant > ? ORDER BY tenant LIMIT 1"""
_ANY_DUE = """SELECT 1 FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND not_before <= ? LIMIT 1"""
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
_READY = f"""SELECT {_FIELDS} FROM tasks INDEXED BY tasks_ready
    WHERE state = 'queued' AND not_before IS NULL AND pull = ? AND tenant = ? AND priority BETWEEN ? AND ?
    ORDER BY priority DESC, last_seq LIMIT ?"""  # noqa: S608 - constants
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
_NEXT_DUE = """SELECT min(not_before) FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND pull = ? AND not_before > ?"""
_CHOSEN = "SELECT * FROM tasks WHERE id = ? AND state = 'queued'"


@dataclass(frozen=True, slots=True)
class _Row:
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


_LaneKey = tuple[str, int, str]


@dataclass(slots=True)
class _Turns:
    """Of one installation: how many it had, and the lane that its last pick out of the window was of."""

    taken: int = 0
    last: int = 0
    """The number, among the starts of its round, of its last start."""
    lane: _LaneKey = ("", -1, "")


@dataclass(slots=True)
class _Round:
    """Whose turn it is, and how many in a row are left to them.

    Who asks for some routes only has a round of their own: shared, two who alternate could each always come to the same
    installations.
    """

    tenant: str = ""
    left: int = 0
    turns: dict[str, _Turns] = field(default_factory=dict)
    starts: int = 0
    owed: dict[str, dict[str, _Row]] = field(default_factory=dict)
    """Installation that lost its turn → scopes of the limits it lost it for, and what it would have started in each."""


class Picker:
    """Picks queued tasks. One a daemon; its caller holds a lock around `next` and the note of what it returned.

    `caps` gives the limits as they are configured now.
    """

    def __init__(self, caps: Callable[[], Caps] = lambda: NO_CAPS) -> None:
        self._caps = caps
        self._rounds: dict[tuple[bool, frozenset[str] | None], _Round] = {}
        self._rivals = Rivals()

    def reset(self) -> None:
        """Look at everything again: something that was decided here was not recorded."""
        self._rivals = Rivals()

    def next(
        self,
        conn: sqlite3.Connection,
        now: float,
        limit: int,
        *,
        held: Collection[Lane] = (),
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
        with snapshot(conn):
            standing = Standing(conn, now, self._caps(), held, keys)
            if standing.house() is not None:
                return []
            ids = {task.id for task in held} | set(exclude)
            pick = _Pick(conn, at_text(now), standing, self._rivals, ids, "pull" in kinds, routes, frozenset(without))
            chosen = list(self._choose(pick, limit))
            found = (conn.execute(_CHOSEN, (row.id,)).fetchone() for row in chosen)
            return [Task.of(row) for row in found if row is not None]

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
            return self._rivals.moves(conn, limit)

    def _choose(self, pick: _Pick, limit: int) -> Iterator[_Row]:
        turn = _newest(self._rounds, (pick.pull, pick.routes), _Round, ROUNDS_KEPT)
        idle: set[str] = set()
        for _ in range(limit):
            row = self._one(pick, turn, idle)
            if row is None:
                return
            pick.took(row)
            yield row

    def _one(self, pick: _Pick, turn: _Round, idle: set[str]) -> _Row | None:
        """The next task of whoever's turn it is; None when nobody has one."""
        caps = self._caps()
        if turn.owed and (row := self._owed(pick, turn, idle)) is not None:
            return row
        if turn.left > 0 and (row := self._of(pick, turn, turn.tenant, idle)) is not None:
            turn.left -= 1
            return row
        for tenant in pick.tenants(turn.tenant):
            if (row := self._of(pick, turn, tenant, idle)) is not None:
                turn.tenant, turn.left = tenant, caps.share(tenant).weight - 1
                return row
        return None

    def _of(self, pick: _Pick, turn: _Round, tenant: str, idle: set[str]) -> _Row | None:
        if tenant in idle:
            return None
        if pick.standing.tenant(tenant) is None:
            turns = _newest(turn.turns, tenant, _Turns, TURNS_KEPT)
            row = pick.of(tenant, turns)
            turn.owed.pop(tenant, None)
            if row is not None:
                turns.taken += 1
                turns.last = turn.starts = turn.starts + 1
                return row
            if pick.missed and len(turn.owed) < TURNS_KEPT:
                turn.owed[tenant] = pick.missed
        idle.add(tenant)
        return None

    def _owed(self, pick: _Pick, turn: _Round, idle: set[str]) -> _Row | None:
        """The next task of who lost a turn for want of something that has room again."""
        full: set[str] = set()
        for tenant in sorted(turn.owed, key=lambda tenant: turn.turns.get(tenant, _Turns()).last):
            if tenant not in idle and pick.has_room(turn.owed[tenant], full):
                row = self._of(pick, turn, tenant, idle)
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


class _Pick:
    """One call of `next`: the questions to the tables."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        now: str,
        standing: Standing,
        rivals: Rivals,
        exclude: set[str],
        pull: bool,
        routes: Collection[str] | None,
        without: frozenset[str],
    ) -> None:
        self.pull = pull
        self.standing = standing
        self._conn = conn
        self._now = now
        self._rivals = rivals
        self._exclude = exclude
        self.routes = None if routes is None else frozenset(routes)
        self._without = without
        self._due = conn.execute(_ANY_DUE, (pull, now)).fetchone() is not None
        self.missed: dict[str, _Row] = {}
        """Scopes of limits that others share and that held back what the installation asked last has, with one task each."""

    def took(self, row: _Row) -> None:
        self._exclude.add(row.id)
        self.standing.begin(row)
        self._note(row)

    def _note(self, row: _Row) -> None:
        self._rivals.note(row.route, row.key, row.repo_id, row.number, row.supersede, row.source_at)

    def has_room(self, missed: dict[str, _Row], full: set[str]) -> bool:
        """Whether one of these may start now; scopes without room are noted in `full`, not to be asked again."""
        for scope in missed.keys() - full:
            block = self.standing.of(missed[scope])
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
        found = [self._conn.execute(_NEXT_READY, (self.pull, after)).fetchone()]
        if self._due:
            found.append(self._conn.execute(_NEXT_DUE_TENANT, (self.pull, after, self._now)).fetchone())
        return min((str(row[0]) for row in found if row is not None), default=None)

    def of(self, tenant: str, turns: _Turns) -> _Row | None:
        """The task that this turn of the installation is for."""
        self.missed = {}
        top = PRIORITIES - 1
        if turns.taken % OTHER_EVERY == OTHER_EVERY - 1:
            top = turns.taken // OTHER_EVERY % PRIORITIES
        candidates = [self._due_of(tenant, top), self._ready(tenant, top, turns)]
        if turns.taken // (OTHER_EVERY * PRIORITIES) % 2 != turns.taken % 2:
            candidates.reverse()
        # The nearest priority at or below the top, then those above it; of equals, the first.
        found = [row for row in candidates if row is not None]
        return min(found, key=lambda row: (top - row.priority) % PRIORITIES, default=None)

    def _ready(self, tenant: str, top: int, turns: _Turns) -> _Row | None:
        most = 0
        for low, high in ((0, top), (top + 1, PRIORITIES - 1)):
            if low > high:
                continue
            looked = 0
            # One by one: most often the first will do.
            for values in self._conn.execute(_READY, (self.pull, tenant, low, high, WINDOW)):
                looked += 1
                row = _Row(*values)
                if self._may(row):
                    return row
            most = max(most, looked)
        return None if most < WINDOW else self._beyond(tenant, turns)

    def _due_of(self, tenant: str, top: int) -> _Row | None:
        """The first that is due and may run, and of the `WINDOW` rows from there on the one of the best priority."""
        if not self._due:
            return None
        busy = json.dumps(self.standing.busy_keys())
        rows = (_Row(*row) for row in self._conn.execute(_DUE, (self.pull, tenant, self._now, busy)))
        first = next(filter(self._may, rows), None)
        if first is None:
            return None
        others = (row for _, row in zip(range(WINDOW), rows, strict=False) if row.priority != first.priority)
        return min(chain((first,), filter(self._may, others)), key=lambda row: (top - row.priority) % PRIORITIES)

    def _first(self, rows: Iterable[sqlite3.Row]) -> _Row | None:
        return next(filter(self._may, (_Row(*row) for row in rows)), None)

    def _may(self, row: _Row) -> bool:
        if row.id in self._exclude or not self._wanted(row.route):
            return False
        if self._held(row, self.standing.of(row)):
            return False
        if row.supersede is None and row.source_at is None:
            return True
        if outdated_by(self._conn, row.id) is None:
            return True
        self._note(row)
        return False

    def _held(self, row: _Row, block: Block | None) -> bool:
        if block is not None and block.scope and self.standing.shared(block.scope, row.tenant):
            self.missed.setdefault(block.scope, row)
        return block is not None

    def _wanted(self, route: str | None) -> bool:
        return route not in self._without and (self.routes is None or route in self.routes)

    # ---- beyond the window

    def _beyond(self, tenant: str, turns: _Turns) -> _Row | None:
        """A task of some lane that isn't held back, from the one that follows the lane of the last time."""
        for lane in chain(self._lanes(tenant, turns.lane, None), self._lanes(tenant, ("", -1, ""), turns.lane)):
            found = self._of_lane(tenant, lane)
            if found is not None:
                turns.lane = lane
                return found
        return None

    def _lanes(self, tenant: str, after: _LaneKey, last: _LaneKey | None) -> Iterator[_LaneKey]:
        """The lanes that aren't held back, in order, after `after` and, unless it is None, up to `last`."""
        place, level = after, "key"
        while True:
            lane = self._lane(tenant, place, level)
            if lane is None or (last is not None and lane > last):
                return
            place, level = lane, "key"
            route, repo_id, key = lane[0] or None, lane[1] or None, lane[2] or None
            some = _Row("", tenant, route, repo_id, None, key, None, 0, None, None)
            if not self._wanted(route) or self._held(some, self.standing.route(route)):
                level = "route"
            elif self._held(some, self.standing.repo(repo_id, None)):
                level = "repo"
            elif not self._held(some, self.standing.key(key, route)):
                yield lane

    def _lane(self, tenant: str, place: _LaneKey, level: str) -> _LaneKey | None:
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

    def _of_lane(self, tenant: str, lane: _LaneKey) -> _Row | None:
        """Its oldest task that may run: behind those in hand, and a few that are outdated and not yet recorded so."""
        many = len(self._exclude) + WINDOW
        rows = self._conn.execute(_OF_LANE, (self.pull, tenant, *lane, many)).fetchall()
        return self._first(rows) or self._newest(rows)

    def _newest(self, rows: list[sqlite3.Row]) -> _Row | None:
        """Where newer tasks outdate older ones of the same key, the newest is the one that may run."""
        if not rows or rows[-1]["supersede"] is None:
            return None
        newest = self._conn.execute(NEWEST, (rows[-1]["route"], rows[-1]["key"])).fetchone()
        if newest is None or newest["state"] != "queued" or newest["not_before"] is not None:
            return None
        row = _Row(*(newest[name] for name in _Row.__slots__))
        return row if row.tenant == rows[-1]["tenant"] and self._may(row) else None


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
