"""Limits: what keeps queued tasks from starting now: pauses, concurrency limits, daily limits, keys in use.

The picker and `waiting` ask the same object, so that the reason shown to an operator is the one that decides.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from covenq.config.limits import Cap, Caps
from covenq.filter.tree import fold_case
from covenq.model import at_text
from covenq.state.fold_pauses import PauseTarget
from covenq.state.repositories import number_of
from covenq.state.rows import scopes

DAY_S = 86400.0


class LimitedTask(Protocol):
    """The fields of a task that limits depend on."""

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
class BlockReason:
    """Why a task can't start now: a word for machines and a sentence.

    `scope` names the limit that is used up (an installation's, a route's, a repository's, a key's), where there is one that frees
    up when a task ends or with time; empty for anything else.
    """

    word: str
    why: str
    scope: str = ""


_FIELDS = ("id", "tenant", "route", "repo_id", "key")
_RUNNING = f"""SELECT json_group_array(json_array({", ".join(_FIELDS)}))
    FROM tasks WHERE state = 'running'"""  # noqa: S608 - constants
_RUNNING_WITH_KEY = f"{_RUNNING} AND key IS NOT NULL"
_REPO_BY_NAME = "repo by name"
_PAUSES = "SELECT seq, what, name, repo, since, reason FROM pauses"
_STARTS = "SELECT total(n) FROM starts WHERE scope = ? AND hour > ? AND hour <= ?"


class Limiter:
    """The limits at one moment, for one scan. `add_running` counts what is picked meanwhile, so that one scan can pick several.

    A daily limit counts attempts by the hour in which they began, whole hours only: never too few of the last 24 hours, so
    the limit is kept in every 24 hours, and what was used becomes free up to an hour late. Hours more than a day ahead, left
    by a clock that was once set wrongly, don't count.
    """

    def __init__(
        self,
        conn: sqlite3.Connection,
        now: float,
        caps: Caps,
        in_flight: Iterable[LimitedTask] = (),
        ended: Collection[int] = (),
    ) -> None:
        """`in_flight` are tasks that were picked and may not be running yet by `conn`; pauses with a seq in `ended` are over."""
        self._conn = conn
        self._caps = caps
        self._hours = (at_text(now - DAY_S - 3600.0)[:13], at_text(now + DAY_S)[:13])
        self._concurrent: Counter[str] = Counter()
        self._unfolded: Counter[str] = Counter()
        self._daily: dict[str, int] = {}
        self._tenants_in: dict[str, set[str]] = {}
        """Scope → the installations that have something running in it."""
        self._keys: Counter[str] = Counter()
        self._key_holder: dict[str, str] = {}
        self._key_limit: dict[str, int] = {}
        """Key → the lowest key concurrency among the routes of the tasks that run with it."""
        self._pauses = _pauses(conn, ended)
        self._uncounted: list[LimitedTask] = list(in_flight)
        """Tasks that `conn` does not show as running yet, and that are not counted for any limit yet."""
        self._counted: set[str] | None = None
        """The ids that `conn` shows as running, once those are counted."""
        running = set()
        for row in self._running(_RUNNING_WITH_KEY):
            running.add(row["id"])
            self._use_key(row["id"], row["tenant"], row["route"], row["key"])
        for task in self._uncounted:
            if task.key is not None and task.id not in running:
                self._use_key(task.id, task.tenant, task.route, task.key)

    def add_running(self, task: LimitedTask) -> None:
        """Count a task as running that `conn` does not show as running yet."""
        self._uncounted.append(task)
        if task.key is not None:
            self._use_key(task.id, task.tenant, task.route, task.key)

    def _use_key(self, id: str, tenant: str, route: str | None, key: str) -> None:
        self._tenants_in.setdefault(f"key {key}", set()).add(tenant)
        self._keys[key] += 1
        self._key_holder[key] = id
        cap = self._caps.of_route(route).key_concurrency
        self._key_limit[key] = min(cap, self._key_limit.get(key, cap))

    def _running(self, sql: str) -> Iterator[dict[str, Any]]:
        for row in orjson.loads(self._conn.execute(sql).fetchone()[0]):
            yield dict(zip(_FIELDS, row, strict=True))

    def _count_running(self) -> None:
        """Count, for the limits, what is not counted yet. Called only where there is a limit to check."""
        if self._counted is None:
            self._counted = set()
            for row in self._running(_RUNNING):
                self._counted.add(row["id"])
                for scope in scopes(row["tenant"], row["repo_id"], row["route"]):
                    self._concurrent[scope] += 1
                    self._tenants_in.setdefault(scope, set()).add(row["tenant"])
        for task in self._uncounted:
            if task.id not in self._counted:
                for scope in scopes_of(task):
                    self._concurrent[scope] += 1
                    self._unfolded[scope] += 1
                    self._tenants_in.setdefault(scope, set()).add(task.tenant)
        self._uncounted.clear()

    # ---- what blocks, from the widest to the narrowest

    def check_paused(self) -> BlockReason | None:
        """Whether all work is paused."""
        return self._pauses.get((PauseTarget.WORKER, ""))

    def check_tenant(self, tenant: str) -> BlockReason | None:
        paused = self._pauses.get((PauseTarget.INSTALLATION, tenant))
        return paused or self._limit_reached("installation", tenant, self._caps.share(tenant).cap, tenant)

    def check_route(self, route: str | None) -> BlockReason | None:
        paused = self._pauses.get((PauseTarget.ROUTE, route or ""))
        backing_off = self._caps.backing_off.get(route or "")
        if paused is None and backing_off is not None:
            return BlockReason("receiver", backing_off)
        return paused or self._limit_reached("route", route, self._caps.of_route(route).cap, route)

    def check_repo(self, repo_id: int | None, repo: str | None) -> BlockReason | None:
        paused = None if repo_id is None else self._pauses.get((PauseTarget.REPO, str(repo_id)))
        if paused is None and repo is not None:
            name = fold_case(repo)
            by_name = self._pauses.get((PauseTarget.REPO, name)) if repo_id is None else None
            paused = by_name or self._pauses.get((_REPO_BY_NAME, name))
        return paused or self._limit_reached("repo", repo_id, self._caps.repo, repo or repo_id)

    def check_key(self, key: str | None, route: str | None) -> BlockReason | None:
        if not key:
            return None
        cap = self._caps.of_route(route).key_concurrency
        cap = min(cap, self._key_limit.get(key, cap))
        if self._keys[key] < cap:
            return None
        holder = self._key_holder.get(key)
        what = f"task {holder}" if holder is not None and cap == 1 else f"{self._keys[key]} tasks"
        return BlockReason("key", f"{what} with the same key {'runs' if cap == 1 else 'run'}", f"key {key}")

    def check(self, task: LimitedTask) -> BlockReason | None:
        """The reason why this task can't start now, the widest first, or None if it may."""
        return (
            self.check_paused()
            or self.check_tenant(task.tenant)
            or self.check_route(task.route)
            or self.check_repo(task.repo_id, task.repo)
            or self.check_key(task.key, task.route)
        )

    def shared(self, scope: str, tenant: str) -> bool:
        """Whether another installation may have used it up: not only this one has something running in it."""
        self._count_running()
        return self._tenants_in.get(scope) != {tenant}

    def busy_keys(self) -> list[str]:
        """Keys that no route allows another task to use now: tasks with them are skipped unread."""
        widest = max((one.key_concurrency for one in self._caps.routes.values()), default=1)
        return sorted(key for key, number in self._keys.items() if number >= widest)

    def _limit_reached(
        self, level: str, name: str | int | None, cap: Cap, shown: str | int | None
    ) -> BlockReason | None:
        if name is None or (cap.concurrency is None and cap.daily is None):
            return None
        self._count_running()
        scope = f"{level} {name}"
        if cap.concurrency is not None and self._concurrent[scope] >= cap.concurrency:
            return BlockReason(
                f"{level}_concurrency", f"{level} {shown} runs {cap.concurrency} at once, its limit", scope
            )
        if cap.daily is not None and self._started_today(scope) >= cap.daily:
            return BlockReason(
                f"{level}_daily", f"{level} {shown} began {cap.daily} attempts in 24 hours, its limit", scope
            )
        return None

    def _started_today(self, scope: str) -> int:
        if scope not in self._daily:
            self._daily[scope] = int(self._conn.execute(_STARTS, (scope, *self._hours)).fetchone()[0])
        return self._daily[scope] + self._unfolded[scope]


def _pauses(conn: sqlite3.Connection, ended: Collection[int]) -> dict[tuple[str, str], BlockReason]:
    """(what, name) → reason. A repository is there by its number, and by its name in lower case for tasks without a number.

    One whose number isn't known is there as _REPO_BY_NAME, for all tasks of that name.
    """
    found: dict[tuple[str, str], BlockReason] = {}
    for row in conn.execute(_PAUSES):
        if row["seq"] in ended:
            continue
        what = str(row["what"])
        name = row["name"] or ""
        said = f": {row['reason']}" if row["reason"] else ""
        shown = row["repo"] or name
        block = BlockReason(
            f"paused_{what}", f"{' '.join(filter(None, (what, shown)))} is paused since {row['since']}{said}"
        )
        found[what, name] = block
        if what == PauseTarget.REPO and row["repo"]:
            found[what, fold_case(row["repo"])] = block
            if not name:
                del found[what, name]
                number = number_of(conn, row["repo"], after=row["seq"])  # the repository may be renamed later
                if number is None:
                    found[_REPO_BY_NAME, fold_case(row["repo"])] = block
                else:
                    found[what, str(number)] = block
    return found


def scopes_of(task: LimitedTask) -> Iterator[str]:
    """The scopes of the limits that a start of this task counts for."""
    return scopes(task.tenant, task.repo_id, task.route)
