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
from covenq.model.waiting import RANK, Cause
from covenq.state.fold_pauses import PauseTarget
from covenq.state.repositories import number_of
from covenq.state.rows import scopes
from covenq.text import counted, instant, to_the_second

DAY_S = 86400.0
_UNLIMITED = Cap()


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
    up when a task ends or with time; empty for anything else. The rest is for the lines that say what all tasks wait for.
    """

    word: str
    why: str
    scope: str = ""
    cause: Cause = Cause.WORKER
    holder: tuple[str, str] = ("worker", "")
    """What blocks, as an operator names it: ("route", "fix"), ("repo", "octo/hello"), ("worker", "")."""
    short: str = ""
    """In words, without a time and without the holder's name."""
    since: str | None = None
    until: str | None = None


_FIELDS = ("id", "tenant", "route", "repo_id", "key")
_RUNNING = f"""SELECT json_group_array(json_array({", ".join(_FIELDS)}))
    FROM tasks WHERE state = 'running'"""  # noqa: S608 - constants
_RUNNING_WITH_KEY = f"{_RUNNING} AND key IS NOT NULL"
_REPO_BY_NAME = "repo by name"
_PAUSES = "SELECT seq, what, name, repo, since, by, reason FROM pauses"
_HOURS = "SELECT hour, n FROM starts WHERE scope = ? AND hour > ? AND hour <= ? ORDER BY hour"
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
        self._frees: dict[str, list[tuple[str, int]]] = {}
        """Scope → the hours in which its attempts began, and how many, oldest first."""
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
        return (
            self._pauses.get((PauseTarget.ROUTE, route or ""))
            or self._backing_off(route)
            or self._limit_reached("route", route, self._caps.of_route(route).cap, route)
        )

    def check_repo(self, repo_id: int | None, repo: str | None) -> BlockReason | None:
        paused = self._repo_paused(repo_id, repo)
        return paused or self._limit_reached("repo", repo_id, self._caps.repo, repo or repo_id)

    def _backing_off(self, route: str | None) -> BlockReason | None:
        found = self._caps.backing_off.get(route or "")
        if found is None:
            return None
        again = f"; it is asked again at {to_the_second(found.until)}" if found.until else ""
        return BlockReason(
            "receiver",
            f"{found.why}{again}",
            cause=Cause.RECEIVER,
            holder=("route", route or ""),
            short=found.why,
            until=found.until,
        )

    def _repo_paused(self, repo_id: int | None, repo: str | None) -> BlockReason | None:
        paused = None if repo_id is None else self._pauses.get((PauseTarget.REPO, str(repo_id)))
        if paused is None and repo is not None:
            name = fold_case(repo)
            by_name = self._pauses.get((PauseTarget.REPO, name)) if repo_id is None else None
            paused = by_name or self._pauses.get((_REPO_BY_NAME, name))
        return paused

    def check_key(self, key: str | None, route: str | None) -> BlockReason | None:
        if not key:
            return None
        cap = self._caps.of_route(route).key_concurrency
        cap = min(cap, self._key_limit.get(key, cap))
        if self._keys[key] < cap:
            return None
        holder = self._key_holder.get(key)
        what = f"task {holder}" if holder is not None and cap == 1 else f"{self._keys[key]} tasks"
        runs = "runs" if cap == 1 else "run"
        return BlockReason(
            "key",
            f"{what} with the same key {runs}",
            f"key {key}",
            Cause.KEY,
            ("route", route or ""),
            f"{'a task' if cap == 1 else f'{cap} tasks'} with the same key {runs}",
        )

    def check(self, task: LimitedTask) -> BlockReason | None:
        """The reason why this task can't start now, the widest first, or None if it may."""
        return (
            self.check_paused()
            or self.check_tenant(task.tenant)
            or self.check_route(task.route)
            or self.check_repo(task.repo_id, task.repo)
            or self.check_key(task.key, task.route)
        )

    def first(self, task: LimitedTask, *, also: Iterable[BlockReason] = ()) -> BlockReason | None:
        """What an operator is told of: of all that block this task, and of `also`, the first in the order of causes."""
        share, of_route = self._caps.share(task.tenant), self._caps.of_route(task.route)
        found = [
            self.check_paused(),
            self._pauses.get((PauseTarget.INSTALLATION, task.tenant)),
            self._pauses.get((PauseTarget.ROUTE, task.route or "")),
            self._repo_paused(task.repo_id, task.repo),
            self._backing_off(task.route),
            *also,
            *self._limits_reached("installation", task.tenant, share.cap, task.tenant),
            *self._limits_reached("route", task.route, of_route.cap, task.route),
            *self._limits_reached("repo", task.repo_id, self._caps.repo, task.repo or task.repo_id),
            self.check_key(task.key, task.route),
        ]
        return min((one for one in found if one is not None), key=lambda one: RANK[one.cause], default=None)

    def depends_on(self, task: LimitedTask) -> tuple[object, ...]:
        """What of the task `first` depends on: of two tasks that are alike in this the same is told."""
        pauses, caps, repo_id = self._pauses, self._caps, task.repo_id
        tenant: str | None = task.tenant
        if not caps.installations and caps.installation == _UNLIMITED:
            tenant = tenant if (PauseTarget.INSTALLATION, tenant) in pauses else None
        if repo_id is not None and caps.repo == _UNLIMITED:
            repo_id = repo_id if (PauseTarget.REPO, str(repo_id)) in pauses else 0
        return tenant, task.route, repo_id, task.repo, task.key

    @property
    def has_pauses(self) -> bool:
        """Whether anything is paused but the intake."""
        return any(what != PauseTarget.INTAKE for what, _ in self._pauses)

    def names_paused(self) -> list[str]:
        """The names by which pauses hold tasks of repositories, whose number isn't known, or that have none."""
        return [
            name
            for what, name in self._pauses
            if what == _REPO_BY_NAME or (what == PauseTarget.REPO and not name.isdecimal())
        ]

    def keys(self) -> list[str]:
        """The keys of what runs."""
        return list(self._keys)

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
        return next(self._limits_reached(level, name, cap, shown, foretell=False), None)

    def _limits_reached(
        self, level: str, name: str | int | None, cap: Cap, shown: str | int | None, *, foretell: bool = True
    ) -> Iterator[BlockReason]:
        """`foretell` when a daily limit frees up, which the picker needn't know."""
        if name is None or (cap.concurrency is None and cap.daily is None):
            return
        self._count_running()
        scope = f"{level} {name}"
        if cap.concurrency is not None and self._concurrent[scope] >= cap.concurrency:
            yield BlockReason(
                f"{level}_concurrency",
                f"{level} {shown} runs {cap.concurrency} at once, its limit",
                scope,
                Cause.CAP,
                (level, str(shown)),
                f"{cap.concurrency} run at once, its limit",
            )
        if cap.daily is not None and (used := self._started_today(scope)) >= cap.daily:
            yield BlockReason(
                f"{level}_daily",
                f"{level} {shown} began {counted(cap.daily, 'attempt')} in 24 hours, its limit",
                scope,
                Cause.QUOTA,
                (level, str(shown)),
                f"{used:,} of {cap.daily:,} attempts in 24 hours",
                until=self._frees_up(scope, used - cap.daily + 1) if foretell else None,
            )

    def _started_today(self, scope: str) -> int:
        if scope not in self._daily:
            self._daily[scope] = int(self._conn.execute(_STARTS, (scope, *self._hours)).fetchone()[0])
        return self._daily[scope] + self._unfolded[scope]

    def _frees_up(self, scope: str, number: int) -> str | None:
        """When so many of the attempts that count for it count no more: each 25 hours after the hour in which it began."""
        if scope not in self._frees:
            self._frees[scope] = [
                (str(hour), int(n)) for hour, n in self._conn.execute(_HOURS, (scope, *self._hours)).fetchall()
            ]
        for hour, began in self._frees[scope]:
            number -= began
            if number <= 0 and (start := instant(f"{hour}:00:00Z")) is not None:
                return at_text(start + DAY_S + 3600.0)
        return None


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
            f"paused_{what}",
            f"{' '.join(filter(None, (what, shown)))} is paused since {to_the_second(row['since'])}{said}",
            cause=Cause.PAUSED,
            holder=(what, shown),
            short=f"paused{f' by {by}' if (by := row['by']) else ''}{said}",
            since=row["since"],
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
