"""What stands in the way of queued tasks at one moment: pauses, and caps that what runs, or ran today, has used up.

The picker and `waiting` ask the same object, so that what an operator is told is what decides.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from covenq.config.limits import Cap, Caps
from covenq.model import at_text
from covenq.state.fold_pauses import PauseTarget
from covenq.state.fold_tasks import scopes

DAY_S = 86400.0


class LimitedTask(Protocol):
    """A task, as far as limits know it."""

    @property
    def id(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def route(self) -> str | None: ...
    @property
    def repo_id(self) -> int | None: ...
    @property
    def repo(self) -> str | None: ...
    @property
    def key(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Block:
    """Why something can't start now: a machine's word and a sentence.

    `scope` names what is used up, where that is a limit's and what ends or the day's end frees it: a route, a repository, a key.
    """

    word: str
    why: str
    scope: str = ""


_FIELDS = ("id", "tenant", "route", "repo_id", "key")
_RUNNING = f"""SELECT json_group_array(json_array({", ".join(_FIELDS)}))
    FROM tasks WHERE state = 'running'"""  # noqa: S608 - constants
_RUNNING_WITH_KEY = f"{_RUNNING} AND key IS NOT NULL"
_PAUSES = "SELECT what, name, repo, since, reason FROM pauses"
_SPENT = "SELECT total(n) FROM starts WHERE scope = ? AND hour > ? AND hour <= ?"


class Limiter:
    """One look. `begin` counts what is picked meanwhile, so that one look can pick several.

    A daily limit counts attempts by the hour in which they began, whole hours only: never too few of the last 24 hours, so
    the limit is kept in every 24 hours, and what was used comes back up to an hour late. Hours more than a day ahead, which
    a clock once set wrongly has left, don't count.
    """

    def __init__(
        self,
        conn: sqlite3.Connection,
        now: float,
        caps: Caps,
        held: Iterable[LimitedTask] = (),
        keys: Collection[str] = (),
    ) -> None:
        """`held` are tasks that were picked and may not run yet by `conn`; `keys` are more keys that are in use."""
        self._conn = conn
        self._caps = caps
        self._hours = (at_text(now - DAY_S - 3600.0)[:13], at_text(now + DAY_S)[:13])
        self._at_once: Counter[str] = Counter()
        self._unfolded: Counter[str] = Counter()
        self._spent: dict[str, int] = {}
        self._users: dict[str, set[str]] = {}
        """Scope → the installations that have something running in it."""
        self._keys: Counter[str] = Counter(keys)
        self._holder: dict[str, str] = {}
        self._least: dict[str, int] = {}
        """Key → the least that a route of those who have it lets run at once."""
        self._pauses = _pauses(conn)
        self._uncounted: list[LimitedTask] = list(held)
        """What this look can't see running, and is not counted for any limit yet."""
        self._counted: set[str] | None = None
        """The ids that are seen running, once those are counted."""
        running = set()
        for row in self._running(_RUNNING_WITH_KEY):
            running.add(row["id"])
            self._use_key(row["id"], row["tenant"], row["route"], row["key"])
        for task in self._uncounted:
            if task.key is not None and task.id not in running:
                self._use_key(task.id, task.tenant, task.route, task.key)

    def begin(self, task: LimitedTask) -> None:
        """Count a task as running that this look can't see running."""
        self._uncounted.append(task)
        if task.key is not None:
            self._use_key(task.id, task.tenant, task.route, task.key)

    def _use_key(self, id: str, tenant: str, route: str | None, key: str) -> None:
        self._users.setdefault(f"key {key}", set()).add(tenant)
        self._keys[key] += 1
        self._holder[key] = id
        cap = self._caps.of_route(route).key_concurrency
        self._least[key] = min(cap, self._least.get(key, cap))

    def _running(self, sql: str) -> Iterator[dict[str, Any]]:
        for row in orjson.loads(self._conn.execute(sql).fetchone()[0]):
            yield dict(zip(_FIELDS, row, strict=True))

    def _count(self) -> None:
        """Count, for the limits, what is not counted yet. Where nothing has a limit, nobody ever asks."""
        if self._counted is None:
            self._counted = set()
            for row in self._running(_RUNNING):
                self._counted.add(row["id"])
                for scope in scopes(row):
                    self._at_once[scope] += 1
                    self._users.setdefault(scope, set()).add(row["tenant"])
        for task in self._uncounted:
            if task.id not in self._counted:
                for scope in each_scope(task):
                    self._at_once[scope] += 1
                    self._unfolded[scope] += 1
                    self._users.setdefault(scope, set()).add(task.tenant)
        self._uncounted.clear()

    # ---- what blocks, from the widest to the narrowest

    def everything(self) -> Block | None:
        """Everything is paused."""
        return self._pauses.get((PauseTarget.WORKER, ""))

    def tenant(self, tenant: str) -> Block | None:
        paused = self._pauses.get((PauseTarget.INSTALLATION, tenant))
        return paused or self._full("installation", tenant, self._caps.share(tenant).cap, tenant)

    def route(self, route: str | None) -> Block | None:
        paused = self._pauses.get((PauseTarget.ROUTE, route or ""))
        backing_off = self._caps.backing_off.get(route or "")
        if paused is None and backing_off is not None:
            return Block("receiver", backing_off)
        return paused or self._full("route", route, self._caps.of_route(route).cap, route)

    def repo(self, repo_id: int | None, repo: str | None) -> Block | None:
        paused = self._pauses.get((PauseTarget.REPO, "" if repo_id is None else str(repo_id)))
        if paused is None and repo is not None:
            paused = self._pauses.get((PauseTarget.REPO, repo.casefold()))
        return paused or self._full("repo", repo_id, self._caps.repo, repo or repo_id)

    def key(self, key: str | None, route: str | None) -> Block | None:
        if not key:
            return None
        cap = self._caps.of_route(route).key_concurrency
        cap = min(cap, self._least.get(key, cap))
        if self._keys[key] < cap:
            return None
        holder = self._holder.get(key)
        what = f"task {holder}" if holder is not None and cap == 1 else f"{self._keys[key]} tasks"
        return Block("key", f"{what} with the same key {'runs' if cap == 1 else 'run'}", f"key {key}")

    def of(self, task: LimitedTask) -> Block | None:
        """The widest thing in this task's way."""
        return (
            self.everything()
            or self.tenant(task.tenant)
            or self.route(task.route)
            or self.repo(task.repo_id, task.repo)
            or self.key(task.key, task.route)
        )

    def shared(self, scope: str, tenant: str) -> bool:
        """Whether somebody else may have used it up: it isn't this installation alone that has something running in it."""
        self._count()
        return self._users.get(scope) != {tenant}

    def busy_keys(self) -> list[str]:
        """Keys that no route lets another task have: to be passed over without being looked at."""
        widest = max((one.key_concurrency for one in self._caps.routes.values()), default=1)
        return sorted(key for key, number in self._keys.items() if number >= widest)

    def _full(self, level: str, name: str | int | None, cap: Cap, shown: str | int | None) -> Block | None:
        if name is None or (cap.concurrency is None and cap.daily is None):
            return None
        self._count()
        scope = f"{level} {name}"
        if cap.concurrency is not None and self._at_once[scope] >= cap.concurrency:
            return Block(f"{level}_concurrency", f"{level} {shown} runs {cap.concurrency} at once, its limit", scope)
        if cap.daily is not None and self._begun(scope) >= cap.daily:
            return Block(f"{level}_daily", f"{level} {shown} began {cap.daily} attempts in 24 hours, its limit", scope)
        return None

    def _begun(self, scope: str) -> int:
        if scope not in self._spent:
            self._spent[scope] = int(self._conn.execute(_SPENT, (scope, *self._hours)).fetchone()[0])
        return self._spent[scope] + self._unfolded[scope]


def _pauses(conn: sqlite3.Connection) -> dict[tuple[str, str], Block]:
    """(what, name) → why. A repository is there by its number and by its name in one case, as far as they are known."""
    found: dict[tuple[str, str], Block] = {}
    for row in conn.execute(_PAUSES):
        what = str(row["what"])
        name = row["name"] or ""
        said = f": {row['reason']}" if row["reason"] else ""
        shown = row["repo"] or name
        block = Block(f"paused_{what}", f"{' '.join(filter(None, (what, shown)))} is paused since {row['since']}{said}")
        found[what, name] = block
        if what == PauseTarget.REPO and row["repo"]:
            found[what, row["repo"].casefold()] = block
            if not name:
                del found[what, name]
    return found


def each_scope(task: LimitedTask) -> Iterator[str]:
    """What this task's start counts for."""
    return scopes({"tenant": task.tenant, "route": task.route, "repo_id": task.repo_id})
