"""A plan's summary: how many of which route and for which reason, how old, what is skipped, and what would wait and for what.

It serves one decision: whether to go on. So it is made of numbers, not rows, and is as large for a million items as for a
thousand: each list has a bound, beyond which the rest is counted together.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from covenq.config.limits import Caps
from covenq.model.waiting import Cause, WaitingTasks, command_for
from covenq.operate.answers import PlannedGroup, PlanSummary, SkippedGroup
from covenq.state.fold_pauses import PauseTarget
from covenq.tasks.scheduling.limiter import Limiter

GROUPS_MAX = 200
REASONS_MAX = 200
"""Groups, and reasons, that are told apart, the first to be met; the rest are one."""
OTHER_REASONS = "other reasons"
REASON_MAX = 120
"""Characters kept of the reason that a group has: an operator's own words may be among them."""

_NUMBER = re.compile(r",? by record \d+")
"""What makes otherwise equal reasons differ."""
_LASTING = (Cause.PAUSED, Cause.RECEIVER, Cause.QUOTA)
"""What keeps tasks from starting for longer than until another ends: of that every plan of many tasks would tell."""
CLAIMED_ELSEWHERE = "until a worker elsewhere claims them"


class Part(NamedTuple):
    """A task that a plan would make or move or, where it has none, its delivery; and what decides whether the task may start.

    `tenant` is empty where none would be queued. `id` and `key` are for the limits, which need no task of its own here.
    """

    route: str | None
    state: str
    reason: str | None
    at: str
    repo: str | None = None
    repo_id: int | None = None
    tenant: str = ""
    pull: bool = False
    by_repo: bool = False
    """Whether the plan is about repositories, not routes."""
    tasks: int = 1
    """How many tasks it stands for."""
    id: str = ""
    key: str | None = None


class WaitReasons:
    """Why tasks that are queued now would not start at once, by what the scheduler itself asks."""

    def __init__(self, conn: sqlite3.Connection, now: float, caps: Caps, ended: Collection[int] = ()) -> None:
        """`ended` are the seqs of pauses that are taken for ended."""
        self._limiter = Limiter(conn, now, caps, ended=ended)

    def of(self, part: Part) -> WaitingTasks | None:
        """What this one would wait for; None if nothing is known to keep it from starting."""
        if not part.tenant:
            return None
        block = self._limiter.first(part)
        if block is not None and block.cause in _LASTING:
            what, name = block.holder
            holder = (what, part.repo or name) if what == PauseTarget.REPO else (what, name)
            return _waiting(block.cause, holder, block.short, part, block.since, block.until)
        if part.pull:
            return _waiting(Cause.UNCLAIMED, (PauseTarget.ROUTE, part.route or ""), CLAIMED_ELSEWHERE, part)
        return None


def _waiting(
    cause: Cause, holder: tuple[str, str], why: str, part: Part, since: str | None = None, until: str | None = None
) -> WaitingTasks:
    scope = " ".join(filter(None, holder))
    return WaitingTasks(cause, scope, 1, part.at, until, command_for(cause, holder, why), why, since)


class Tally:
    """Counts what a plan is made of, item by item."""

    def __init__(self, waits: WaitReasons | None = None) -> None:
        self._waits = waits
        self._eligible = 0
        self._tasks = 0
        self._groups: dict[_GroupKey, tuple[int, str | None]] = {}
        self._skipped: dict[str, int] = {}
        self._excluded: dict[str, int] = {}
        self._would_wait: dict[_WaitKey, WaitingTasks] = {}

    def add(self, parts: Iterable[Part], excluded: Iterable[str] = ()) -> None:
        """Count an item that is eligible."""
        self._eligible += 1
        for part in parts:
            self._tasks += part.tasks
            self._add(part, 1)
        for one in excluded:
            _count(self._excluded, general(one), 1, OTHER_REASONS)

    def add_tasks(self, part: Part, count: int) -> None:
        """Count so many tasks that are all as `part`, whose oldest came when it says."""
        self._eligible += count
        self._tasks += count
        self._add(part, count)

    def _add(self, part: Part, count: int) -> None:
        name = (None, part.repo) if part.by_repo else (part.route, None)
        reason = None if part.reason is None else part.reason[:REASON_MAX]
        _group(self._groups, (*name, part.state, reason), count, part.at)
        found = None if self._waits is None else self._waits.of(part)
        if found is not None:
            found.count = count
            _wait(self._would_wait, found)

    def skip(self, reason: str) -> None:
        """Count an item that is left out."""
        _count(self._skipped, general(reason), 1, OTHER_REASONS)

    def summary(self) -> PlanSummary:
        return _summary(self._eligible, self._tasks, self._groups, self._skipped, self._excluded, self._would_wait)


_GroupKey = tuple[str | None, str | None, str | None, str | None]
_WaitKey = tuple[str, str | None]
_OTHERS: _GroupKey = (None, None, None, None)


def general(reason: str) -> str:
    """A reason without what differs from one item to the next."""
    return _NUMBER.sub("", reason)


def merged(first: PlanSummary | None, second: PlanSummary | None) -> PlanSummary | None:
    """The summary of a plan that was made in two parts; None where a part has none, as an older daemon's."""
    if first is None or second is None:
        return None
    groups: dict[_GroupKey, tuple[int, str | None]] = {}
    skipped: dict[str, int] = {}
    excluded: dict[str, int] = {}
    waits: dict[_WaitKey, WaitingTasks] = {}
    for one in (first, second):
        for group in one.groups:
            _group(groups, (group.route, group.repo, group.state, group.reason), group.count, group.oldest)
        for left in one.skipped:
            _count(skipped, left.reason, left.count, OTHER_REASONS)
        for left in one.excluded:
            _count(excluded, left.reason, left.count, OTHER_REASONS)
        for wait in one.waits:
            _wait(waits, wait)
    return _summary(first.eligible + second.eligible, first.tasks + second.tasks, groups, skipped, excluded, waits)


def _group(groups: dict[_GroupKey, tuple[int, str | None]], key: _GroupKey, count: int, at: str | None) -> None:
    if key not in groups and len(groups) >= GROUPS_MAX:
        key = _OTHERS
    number, oldest = groups.get(key, (0, None))
    groups[key] = (number + count, min(filter(None, (oldest, at)), default=None))


def _wait(waits: dict[_WaitKey, WaitingTasks], one: WaitingTasks) -> None:
    """Count what waits for the same together; of each cause what is beyond the bound, without what holds it."""
    key = (str(one.cause), one.scope)
    if key not in waits and len(waits) >= REASONS_MAX:
        key, one = (key[0], None), WaitingTasks(one.cause, None, one.count, one.oldest, None, None, OTHER_REASONS)
    known = waits.get(key)
    times = [each.oldest for each in (one, known) if each is not None and each.oldest is not None]
    waits[key] = replace(one, count=one.count + (known.count if known else 0), oldest=min(times, default=None))


_Key = TypeVar("_Key")


def _count(counts: dict[_Key, int], key: _Key, count: int, other: _Key) -> None:
    if key not in counts and len(counts) >= REASONS_MAX:
        key = other
    counts[key] = counts.get(key, 0) + count


def _summary(
    eligible: int,
    tasks: int,
    groups: dict[_GroupKey, tuple[int, str | None]],
    skipped: dict[str, int],
    excluded: dict[str, int],
    waits: dict[_WaitKey, WaitingTasks],
) -> PlanSummary:
    oldest = min((at for _, at in groups.values() if at is not None), default=None)
    largest = sorted(groups.items(), key=lambda one: (-one[1][0], str(one[0])))
    return PlanSummary(
        eligible=eligible,
        tasks=tasks,
        oldest=oldest,
        groups=[PlannedGroup(*key, count, at) for key, (count, at) in largest],
        skipped=_reasons(skipped),
        excluded=_reasons(excluded),
        waits=sorted(waits.values(), key=lambda one: (-one.count, one.cause, str(one.scope))),
    )


def _reasons(counts: dict[str, int]) -> list[SkippedGroup]:
    return [SkippedGroup(reason, count) for reason, count in _largest(counts)]


def _largest(counts: dict[_Key, int]) -> list[tuple[_Key, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))
