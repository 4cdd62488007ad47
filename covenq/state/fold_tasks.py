"""The fold of tasks and their attempts: how a record of a task changes its row and its newest attempt's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from covenq.config.limits import PRIORITIES, tenant_of
from covenq.model import Category, Kind, State, fence
from covenq.state.rows import Row, Rows, as_integer, as_text, json_text
from journal.records import Record


def fold_task(rows: Rows, record: Record) -> None:
    task_id = record.subject.split(".")[1]
    row = rows.tasks.get(task_id)
    if row is None:
        if record.kind != Kind.QUEUED:
            return
        row = rows.tasks[task_id] = _task_row(rows, record, task_id)
        if row["delivery_seq"] is None and row["hook"] is not None and row["guid"] is not None:
            rows.orphans.setdefault((row["hook"], row["guid"]), []).append(task_id)
    else:
        change = _TASK_CHANGES.get(record.kind)
        if change is not None:
            change(rows, row, record)
        row["updated_at"] = record.at
    row["last_seq"] = record.seq
    rows.changed_tasks.add(task_id)


def _task_row(rows: Rows, record: Record, task_id: str) -> Row:
    data, about = record.data, record.about or {}
    policy = data.get("policy")
    frozen = policy if isinstance(policy, dict) else {}
    installation, key = as_integer(data.get("installation")), as_text(about.get("key"))
    supersede, replay = frozen.get("supersede"), as_integer(data.get("replay")) or 0
    hook, guid = as_text(data.get("hook")), as_text(data.get("guid"))
    delivery = rows.deliveries.get((hook, guid)) if hook is not None and guid is not None else None
    return {
        "created_seq": record.seq,
        "id": task_id,
        "hook": hook,
        "guid": guid,
        # A record appended together with its delivery can't know the delivery's seq; here it is known.
        "delivery_seq": None if delivery is None else delivery["seq"],
        "route": as_text(data.get("route")),
        "kind": as_text(data.get("kind")),
        "state": State.QUEUED.value,
        "reason": None,
        "category": None,
        "detail": None,
        "attempts": 0,
        "replay": replay,
        "repo": as_text(about.get("repo")),
        "repo_id": as_integer(data.get("repo_id")),
        "installation": installation,
        "number": as_integer(about.get("number")),
        "head_sha": as_text(about.get("head_sha")),
        "key": key,
        "priority": min(max(as_integer(data.get("priority")) or 0, 0), PRIORITIES - 1),
        "policy": json_text(policy) if isinstance(policy, dict) else None,
        "config": as_text(data.get("config")),
        "event": as_text(data.get("event")),
        "action": as_text(data.get("action")),
        "created_at": record.at,
        "updated_at": record.at,
        "not_before": as_text(data.get("not_before")),
        "lease_until": None,
        "worker": None,
        "last_seq": record.seq,
        "claim_seq": None,
        "interruptions": 0,
        "retries": 0,
        "tenant": tenant_of(installation, hook),
        "pull": int(data.get("kind") == "pull"),
        # Set only for tasks that supersede others or keep an order. An operator asked for a replay, so it does neither.
        "supersede": supersede if supersede in ("queued", "running") and key is not None and replay == 0 else None,
        "source_at": as_text(about.get("source_at")) if frozen.get("order") == "newest" and replay == 0 else None,
        "since": None,
        "queued_seq": record.seq,
        "superseded_by": None,
    }


_NO_CLAIM: Row = {"lease_until": None, "claim_seq": None}
_NO_REASON: Row = {"reason": None, "category": None, "detail": None}


def _claim(rows: Rows, row: Row, record: Record) -> None:
    data = record.data
    number = as_integer(data.get("attempt")) or as_integer(row["attempts"] + 1) or row["attempts"]
    worker = as_text(data.get("worker"))
    row |= _NO_REASON | {
        "state": State.RUNNING.value,
        "attempts": number,
        "worker": worker,
        "lease_until": as_text(data.get("lease_until")),
        "claim_seq": record.seq,
        "not_before": None,
    }
    for scope in scopes(row):
        counter = (scope, record.at[:13])
        rows.starts[counter] = rows.starts.get(counter, 0) + 1
    rows.attempts[row["id"], number] = {
        "task": row["id"],
        "attempt": number,
        "fence": fence(record.epoch, record.seq),
        "claim_seq": record.seq,
        "worker": worker,
        "started_at": record.at,
        "ended_at": None,
        "outcome": None,
        "category": None,
        "exit_code": None,
        "signal": None,
        "detail": None,
        "phases": "[]",
        "result": None,
        "usage": None,
        "http_status": None,
    }
    rows.changed_attempts.add((row["id"], number))


def scopes(row: Mapping[str, Any]) -> Iterator[str]:
    """The scopes whose daily limits a start of this task counts towards: installation, repository, route.

    Named as the table `starts` names them.
    """
    yield f"installation {row['tenant']}"
    if row["repo_id"] is not None:
        yield f"repo {row['repo_id']}"
    if row["route"] is not None:
        yield f"route {row['route']}"


def _end_attempt(rows: Rows, row: Row, record: Record, outcome: State) -> None:
    """Close the running attempt, if there is one: a task may also fail or be cancelled while it is queued."""
    key = (row["id"], row["attempts"])
    attempt = rows.attempts.get(key)
    if attempt is None or attempt["ended_at"] is not None:
        return
    data = record.data
    attempt |= {
        "ended_at": record.at,
        "outcome": outcome.value,
        "category": as_text(data.get("category")),
        "exit_code": as_integer(data.get("exit_code")),
        "signal": as_integer(data.get("signal")),
        "detail": as_text(data.get("detail")),
        "result": as_text(data.get("result")),
        "usage": json_text(data["usage"]) if isinstance(data.get("usage"), dict) else None,
        "http_status": as_integer(data.get("http_status")),
    }
    rows.changed_attempts.add(key)


def _failure(data: Row) -> Row:
    category = as_text(data.get("category"))
    return {"reason": category, "category": category, "detail": as_text(data.get("detail"))}


def _delay(rows: Rows, row: Row, record: Record) -> None:
    if row["state"] == State.QUEUED:
        row |= {"not_before": as_text(record.data.get("not_before")), "since": as_text(record.data.get("since"))}


def _add_phase(rows: Rows, row: Row, record: Record) -> None:
    key = (row["id"], row["attempts"])
    attempt = rows.attempts.get(key)
    if attempt is not None:
        phase = [as_text(record.data.get("phase")), record.at]
        attempt["phases"] = json_text([*orjson.loads(attempt["phases"]), phase])
        rows.changed_attempts.add(key)


def _renew(rows: Rows, row: Row, record: Record) -> None:
    row["lease_until"] = as_text(record.data.get("lease_until"))


def _retry(rows: Rows, row: Row, record: Record) -> None:
    _end_attempt(rows, row, record, State.FAILED)
    data = record.data
    row |= (
        _NO_CLAIM
        | _failure(data)
        | {
            "state": State.QUEUED.value,
            "worker": None,
            "not_before": as_text(data.get("not_before")),
            "interruptions": as_integer(data.get("interruptions")) or 0,
            # The daemon's end or an expired lease is not the command's failure, so it uses up no retry.
            "retries": row["retries"]
            + (as_text(data.get("category")) not in (Category.INTERRUPTED, Category.LEASE_LOST)),
        }
    )


def _complete(rows: Rows, row: Row, record: Record) -> None:
    _end_attempt(rows, row, record, State.COMPLETED)
    row |= _NO_CLAIM | _NO_REASON | {"state": State.COMPLETED.value, "not_before": None}


def _fail(rows: Rows, row: Row, record: Record) -> None:
    _end_attempt(rows, row, record, State.FAILED)
    interruptions = as_integer(record.data.get("interruptions"))
    row |= _NO_CLAIM | _failure(record.data) | {"state": State.FAILED.value, "not_before": None}
    row["interruptions"] = row["interruptions"] if interruptions is None else interruptions


def _requeue(rows: Rows, row: Row, record: Record) -> None:
    row |= (
        _NO_CLAIM
        | _NO_REASON
        | {
            "state": State.QUEUED.value,
            "reason": as_text(record.data.get("reason")),
            "worker": None,
            "not_before": None,
            "interruptions": 0,
            "retries": 0,
            "since": None,
            "queued_seq": record.seq,
            "superseded_by": None,
        }
    )


def _cancel(rows: Rows, row: Row, record: Record) -> None:
    _end_attempt(rows, row, record, State.CANCELLED)
    reason = as_text(record.data.get("reason"))
    row |= _NO_CLAIM | _NO_REASON | {"state": State.CANCELLED.value, "reason": reason, "not_before": None}


def _supersede(rows: Rows, row: Row, record: Record) -> None:
    _end_attempt(rows, row, record, State.SUPERSEDED)
    by_task = as_text(record.data.get("by_task"))
    row |= (
        _NO_CLAIM
        | _NO_REASON
        | {
            "state": State.SUPERSEDED.value,
            "reason": as_text(record.data.get("reason")),
            "detail": f"by task {by_task}",
            "not_before": None,
            "superseded_by": by_task,
        }
    )


_TASK_CHANGES: dict[str, Callable[[Rows, Row, Record], None]] = {
    str(Kind.CLAIMED): _claim,
    str(Kind.DELAYED): _delay,
    str(Kind.PHASE): _add_phase,
    str(Kind.RENEWED): _renew,
    str(Kind.RETRY): _retry,
    str(Kind.COMPLETED): _complete,
    str(Kind.FAILED): _fail,
    str(Kind.REQUEUED): _requeue,
    str(Kind.CANCELLED): _cancel,
    str(Kind.SUPERSEDED): _supersede,
}
"""What a later record does to a task's row, by its kind. That the transition was allowed is ensured by the append, which
compares with the task's newest record, and not by the fold."""
