"""Outcomes: what becomes of a task when an attempt ends: completed, failed, or queued again with backoff. Decisions only.

Nothing here appends, runs or sleeps. The clock and the randomness are passed in; the results are values that the caller records.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from covenq.config.contract import NO_AGENT, Agent
from covenq.config.resources import NO_LIMITS, ResourceLimits
from covenq.config.route import Retry
from covenq.config.work_token import WorkToken
from covenq.model import Category, JsonObject, Kind, at_text, bounded_duration, task_subject

RESULT_MAX = 1 << 20
"""Bytes of the result that a pull worker reports, as JSON."""
OUTPUT_MAX = 64 * 1024
"""Bytes of an output that a pull worker reports, from its end."""
RESULT_DEPTH_MAX = 250
"""Levels of brackets in it. orjson writes 254, and a worker reports it within an object."""
RETRY_AFTER_MAX_S = 86400.0
"""The longest that a receiver's `Retry-After` can make a task wait: a day."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of a route when the task was created; frozen with the task."""

    run: tuple[str, ...]
    timeout_s: float = 600.0
    retry: Retry = field(default_factory=Retry)
    env: tuple[str, ...] = ()
    forward: str | None = None
    sign: str | None = None
    limits: ResourceLimits = NO_LIMITS
    keep: str = "all"
    contract: str | None = None
    agent: Agent = NO_AGENT
    token: WorkToken | None = None

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Policy:
        """From the `policy` object of a task.queued record; missing fields have their defaults, and
        durations are bounded: an older version may have let in longer ones.

        An invalid one becomes a policy without a command: the task fails by policy, and no other is affected.
        """
        try:
            retry = data.get("retry") or {}
            on = retry.get("on")
            return cls(
                run=tuple(str(word) for word in data.get("run") or ()),
                timeout_s=bounded_duration(float(data.get("timeout_s", 600.0))),
                retry=Retry(
                    int(retry.get("max", 0)),
                    bounded_duration(float(retry.get("backoff_s", 2.0))),
                    bounded_duration(float(retry.get("cap_s", 300.0))),
                    None if on is None else tuple(str(category) for category in on),
                ),
                env=tuple(str(name) for name in data.get("env") or ()),
                forward=str(data["forward"]) if data.get("forward") else None,
                sign=str(data["sign"]) if data.get("sign") else None,
                limits=ResourceLimits.from_json(data.get("limits") or {}),
                keep=str(data.get("keep") or "all"),
                contract=str(data["contract"]) if data.get("contract") else None,
                agent=Agent.from_json(data.get("agent") or {}),
                token=WorkToken.from_json(data["token"]) if data.get("token") else None,
            )
        except (AttributeError, TypeError, ValueError, OverflowError):
            return cls(run=())


@dataclass(frozen=True, slots=True)
class Task:
    """The columns of a row of `tasks` that running it needs. `last_seq` is the seq of the task's newest record."""

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
    kind: str = "run"
    repo_id: int | None = None
    ref: str | None = None
    purpose: str | None = None
    familiar: str | None = None
    priority: int = 0
    tenant: str = ""
    """The installation, or the hook, that it counts for in fairness and limits (`covenq.config.limits.tenant_of`)."""
    created_at: str = ""

    @property
    def subject(self) -> str:
        return task_subject(self.id)

    @classmethod
    def from_row(cls, row: sqlite3.Row | Mapping[str, Any]) -> Task:
        plain = {name: row[name] for name in cls.__slots__ if name != "policy"}
        return cls(**plain, policy=policy_of(row["policy"]))


def policy_of(text: str | None) -> Policy:
    """The policy in a task's row; one that can't be read is one without a command (see `Policy.from_record`)."""
    return _policy(text or "{}")


@lru_cache(256)
def _policy(text: str) -> Policy:
    """All tasks of a route since its last change share one."""
    try:
        return Policy.from_record(json.loads(text))
    except (ValueError, RecursionError):
        return Policy(run=())


_QUEUED = f"""SELECT json_group_array(json_array({", ".join("tasks." + name for name in Task.__slots__)})) FROM json_each(?) named
    CROSS JOIN tasks ON tasks.id = named.value WHERE tasks.state = 'queued'"""  # noqa: S608 - constants


def queued_tasks(conn: sqlite3.Connection, ids: Sequence[str]) -> list[Task]:
    """The tasks of these ids that are queued, in the order of the ids."""
    if not ids:
        return []
    rows = orjson.loads(conn.execute(_QUEUED, (orjson.dumps(ids).decode(),)).fetchone()[0])
    found = {row[0]: Task.from_row(dict(zip(Task.__slots__, row, strict=True))) for row in rows}
    return [found[id] for id in ids if id in found]


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that an attempt used: seconds of processor time, in user and in system mode, and peak resident bytes."""

    user_s: float
    system_s: float
    max_rss: int

    def as_json(self) -> JsonObject:
        return {"user_s": round(self.user_s, 6), "system_s": round(self.system_s, 6), "max_rss": self.max_rss}


@dataclass(frozen=True, slots=True)
class Reported:
    """What a command said of its work by its contract, in a result that is valid."""

    status: str
    """success, partial, needs_input or failure."""
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `category` None: it completed. `detail` is one sentence of ids and numbers, no output.

    `retry_after_s` is the least that a receiver or a worker asked to wait before the next attempt; `final` means that another
    attempt would be useless.
    """

    category: Category | None
    exit_code: int | None = None
    signal: int | None = None
    detail: str | None = None
    usage: Usage | None = field(default=None, compare=False)
    retry_after_s: float | None = None
    http_status: int | None = None
    final: bool = False
    reported: Reported | None = None


@dataclass(frozen=True, slots=True)
class EndRecord:
    """The record that ends an attempt: its kind, its data, and what of it can be erased."""

    kind: Kind
    data: JsonObject
    about: JsonObject | None = None


def backoff(retry: Retry, number: int, random: Callable[[], float]) -> float:
    """Backoff: seconds to wait before retry `number` (from 1), exponential, capped, with full jitter.

    Full jitter, a random share of the bound, because tasks that failed together should not come back together.
    """
    doublings = min(max(number - 1, 0), 62)
    return random() * min(retry.cap_s, retry.backoff_s * 2.0**doublings)


def ending_after(
    task: Task,
    attempt: int,
    claim: int,
    outcome: Outcome,
    *,
    result: str | None,
    now: float,
    random: Callable[[], float],
) -> EndRecord:
    """The record that follows from how an attempt ended: the task is completed, queued again, or failed.

    `result` is the result file's path relative to the data directory, None if there is none; `now` is in seconds since 1970. A
    task whose attempt was cut short by a stop of its daemon or worker is queued again at once, and uses up neither a retry nor
    one of the interruptions that are allowed.
    """
    held: JsonObject = {"attempt": attempt, "claim": claim}
    about: JsonObject | None = None
    if outcome.reported is not None:
        held["result_status"] = outcome.reported.status
        about = None if outcome.reported.branch is None else {"branch": outcome.reported.branch}
    if outcome.category is None:
        return EndRecord(Kind.COMPLETED, {**held, "exit_code": outcome.exit_code, "result": result}, about)
    why: JsonObject = {
        **held,
        "category": outcome.category.value,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "detail": outcome.detail,
        "interruptions": task.interruptions,
    }
    if outcome.category is Category.INTERRUPTED:
        return EndRecord(Kind.RETRY, {**why, "not_before": at_text(now)})
    retry = task.policy.retry
    if not outcome.final and is_retried(retry, outcome.category) and task.retries < retry.max:
        wait = backoff(retry, task.retries + 1, random)
        if outcome.retry_after_s is not None:
            wait = max(wait, min(outcome.retry_after_s, RETRY_AFTER_MAX_S))
        return EndRecord(Kind.RETRY, {**why, "not_before": at_text(now + wait)})
    if outcome.reported is not None:
        why["result"] = result
    return EndRecord(Kind.FAILED, why, about)


def is_retried_status(status: int) -> bool:
    """Whether a receiver's answer may be another the next time: 5xx, 408, 425 and 429. Others would come again."""
    return status >= 500 or status in (408, 425, 429)


def is_retried(retry: Retry, category: Category) -> bool:
    """Whether failures of this category are retried at all. What was refused by policy would be refused again."""
    return category is not Category.POLICY and (retry.on is None or category.value in retry.on)
