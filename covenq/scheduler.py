"""Which task runs next, and what becomes of an attempt that ended: decisions only.

Nothing here appends, runs or sleeps. The clock and the randomness are passed in; what comes out are values that the
worker records.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from covenq.config_route import Retry
from covenq.rlimits import NO_LIMITS, Limits
from covenq.model import Category, JsonObject, Kind, at_text, task_subject
from journal.model import Entry

INTERRUPTIONS_MAX = 3
"""So many times a task may be running when the daemon dies. A task that kills the daemon can't do it for ever."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a route said when the task was made; frozen with the task."""

    run: tuple[str, ...]
    timeout_s: float = 600.0
    retry: Retry = field(default_factory=Retry)
    env: tuple[str, ...] = ()
    forward: str | None = None
    limits: Limits = NO_LIMITS
    keep: str = "all"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Policy:
        """From the `policy` object of a task.queued record; what it leaves out has the defaults.

        One that makes no sense says no command: the task fails by policy, and stops no other.
        """
        try:
            retry = data.get("retry") or {}
            return cls(
                run=tuple(str(word) for word in data.get("run") or ()),
                timeout_s=float(data.get("timeout_s", 600.0)),
                retry=Retry(
                    int(retry.get("max", 0)), float(retry.get("backoff_s", 2.0)), float(retry.get("cap_s", 300.0))
                ),
                env=tuple(str(name) for name in data.get("env") or ()),
                forward=str(data["forward"]) if data.get("forward") else None,
                limits=Limits.of(data.get("limits") or {}),
                keep=str(data.get("keep") or "all"),
            )
        except (AttributeError, TypeError, ValueError, OverflowError):
            return cls(run=())


@dataclass(frozen=True, slots=True)
class Task:
    """A row of `tasks`, as far as running it needs. `last_seq` is the seq of the task's newest record."""

    id: str
    hook: str
    guid: str
    delivery_seq: int | None
    route: str
    event: str | None
    action: str | None
    repo: str | None
    installation: int | None
    number: int | None
    head_sha: str | None
    key: str | None
    attempts: int
    retries: int
    interruptions: int
    last_seq: int
    claim_seq: int | None
    policy: Policy

    @property
    def subject(self) -> str:
        return task_subject(self.id)

    @classmethod
    def of(cls, row: sqlite3.Row) -> Task:
        plain = {name: row[name] for name in cls.__slots__ if name != "policy"}
        return cls(**plain, policy=Policy.of(json.loads(row["policy"] or "{}")))


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt used: seconds of processor time, its own and the system's for it, and bytes resident at most."""

    user_s: float
    system_s: float
    max_rss: int

    def as_json(self) -> JsonObject:
        return {"user_s": round(self.user_s, 6), "system_s": round(self.system_s, 6), "max_rss": self.max_rss}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `category` None: it completed. `detail` is one sentence of ids and numbers, no output.

    `retry_after_s` is the least that somebody asked to wait before the next attempt.
    """

    category: Category | None
    exit_code: int | None = None
    signal: int | None = None
    detail: str | None = None
    usage: Usage | None = field(default=None, compare=False)
    retry_after_s: float | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """The record that ends an attempt: its kind and its data."""

    kind: Kind
    data: JsonObject


def backoff(retry: Retry, number: int, random: Callable[[], float]) -> float:
    """Seconds to wait before retry `number` (from 1): exponential, capped, full jitter.

    Full jitter, anything between nothing and the bound, because tasks that failed together should not come back
    together.
    """
    doublings = min(max(number - 1, 0), 62)
    return random() * min(retry.cap_s, retry.backoff_s * 2.0**doublings)


def after(
    task: Task,
    attempt: int,
    claim: int,
    outcome: Outcome,
    *,
    result: str | None,
    now: float,
    random: Callable[[], float],
) -> Ending:
    """What an ended attempt makes of its task: completed, queued again, or failed.

    `result` is the result file's path relative to the data directory, None if there is none; `now` is in seconds since
    1970. An attempt that the daemon's own stop cut short goes back at once, and burns neither a retry nor one of the
    interruptions that are allowed.
    """
    held: JsonObject = {"attempt": attempt, "claim": claim}
    if outcome.category is None:
        return Ending(Kind.COMPLETED, {**held, "exit_code": outcome.exit_code, "result": result})
    why: JsonObject = {
        **held,
        "category": outcome.category.value,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "detail": outcome.detail,
        "interruptions": task.interruptions,
    }
    if outcome.category is Category.INTERRUPTED:
        return Ending(Kind.RETRY, {**why, "not_before": at_text(now)})
    # What was refused by policy will be refused again.
    if outcome.category is not Category.POLICY and task.retries < task.policy.retry.max:
        wait = backoff(task.policy.retry, task.retries + 1, random)
        return Ending(Kind.RETRY, {**why, "not_before": at_text(now + wait)})
    return Ending(Kind.FAILED, why)


def recover(tasks: Iterable[Task], now: float) -> list[Entry]:
    """The records that close what was running when its process died: queued again, or failed the third time.

    Each expects the task's newest record, so a task that moved meanwhile is left alone.
    """
    return [_interrupted(task, now) for task in tasks]


def _interrupted(task: Task, now: float) -> Entry:
    interruptions = task.interruptions + 1
    given_up = interruptions >= INTERRUPTIONS_MAX
    detail = "the daemon died while it ran"
    if given_up:
        detail += f", for the {interruptions}. time; a person should look before it runs again"
    data: JsonObject = {
        "attempt": task.attempts,
        "claim": task.claim_seq,
        "category": Category.INTERRUPTED.value,
        "exit_code": None,
        "signal": None,
        "detail": detail,
        "interruptions": interruptions,
    }
    if not given_up:
        data["not_before"] = at_text(now)
    return Entry(task.subject, Kind.FAILED if given_up else Kind.RETRY, data, expect=task.last_seq)


def running_without_lease(conn: sqlite3.Connection) -> list[Task]:
    """Tasks that are running with no lease: a pool of some daemon on this data directory claimed them."""
    return [Task.of(row) for row in conn.execute("SELECT * FROM tasks WHERE state = 'running' AND lease_until IS NULL")]


# Partial indexes of covenq.schema, named so that a query which can't use its index fails, and is never merely slow.
_FRESH = """SELECT last_seq, id, key FROM tasks INDEXED BY tasks_fresh
    WHERE state = 'queued' AND not_before IS NULL AND last_seq > ? AND kind = 'run' ORDER BY last_seq"""
_DUE = """SELECT last_seq, id, key FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND not_before <= ? AND kind = 'run'
    AND (key IS NULL OR key NOT IN (SELECT value FROM json_each(?))) ORDER BY not_before"""
_OLDEST_OF_KEY = """SELECT last_seq, id, key FROM tasks INDEXED BY tasks_fresh_key
    WHERE state = 'queued' AND not_before IS NULL AND key = ? AND last_seq <= ? AND kind = 'run'
    ORDER BY last_seq LIMIT 1"""
_NEXT_DUE = """SELECT min(not_before) FROM tasks INDEXED BY tasks_due
    WHERE state = 'queued' AND not_before IS NOT NULL AND not_before > ?"""
_BUSY = "SELECT DISTINCT key FROM tasks WHERE state = 'running' AND key IS NOT NULL"
_CHOSEN = "SELECT * FROM tasks WHERE id = ? AND state = 'queued'"


class Picker:
    """Picks queued tasks, oldest first, at most one running a key.

    First those whose not-before time has come, since they have waited once already; then by the seq of the record that
    queued them. A pick costs what it returns, not what is queued: rows are read from a floor that only rises, because
    whatever is left below it waits for a busy key, and when that key comes free its oldest task is looked up directly.
    This rests on the fold applying records in order: a row that (again) becomes queued has a higher `last_seq` than
    any seen before.
    """

    def __init__(self) -> None:
        self._floor = 0
        self._blocked: set[str] = set()
        """Keys of the rows at or below the floor that were passed over."""

    def reset(self) -> None:
        """Look at the whole queue again: a task that was picked did not get to run, and nothing was recorded."""
        self._floor = 0
        self._blocked.clear()

    def next(
        self, conn: sqlite3.Connection, now: float, limit: int, *, exclude: Collection[str], keys: Collection[str]
    ) -> list[Task]:
        """Up to `limit` tasks ready at `now` (seconds since 1970).

        `exclude` are ids already in hand though the fold may still call them queued; `keys` are the keys of those.
        """
        busy = {key for (key,) in conn.execute(_BUSY)} | set(keys)
        picked: list[str] = []

        def take(rows: Iterable[Any]) -> Iterator[tuple[int, str | None]]:
            """Pick what may run, in order; yield (newest seq, key if that stood in the way) of each row decided on."""
            for last_seq, task, key in rows:
                if len(picked) >= limit:
                    return
                if key is not None and key in busy:
                    yield last_seq, key
                    continue
                if task not in exclude:
                    picked.append(task)
                    if key is not None:
                        busy.add(key)
                yield last_seq, None

        deque(take(conn.execute(_DUE, (at_text(now), json.dumps(sorted(busy))))), maxlen=0)
        for key in sorted(self._blocked - busy):
            if len(picked) < limit and not list(take(conn.execute(_OLDEST_OF_KEY, (key, self._floor)))):
                self._blocked.discard(key)
        if len(picked) < limit:
            for last_seq, in_the_way in take(conn.execute(_FRESH, (self._floor,))):
                self._floor = last_seq
                if in_the_way is not None:
                    self._blocked.add(in_the_way)
        rows = (conn.execute(_CHOSEN, (task,)).fetchone() for task in picked)
        return [Task.of(row) for row in rows if row is not None]

    def next_due(self, conn: sqlite3.Connection, now: float) -> str | None:
        """When the next task that waits for its not-before time is ready, if any does."""
        due: str | None = conn.execute(_NEXT_DUE, (at_text(now),)).fetchone()[0]
        return due
