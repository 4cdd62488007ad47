"""The fold of tasks and their attempts: how a record of a task changes its row and its newest attempt's."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from covenq.config.limits import PRIORITIES, tenant_of
from covenq.model import Category, Kind, State, fence
from covenq.model.queues import queue_of
from covenq.model.rows import AttemptRow, TaskRow
from covenq.state import fold_usage, send_order
from covenq.state.rows import Rows, as_integer, as_text, as_time, json_text
from journal.records import Record

# Looked up once: the members of an enumeration, and their values, cost more than all else that a record of a task changes.
_QUEUED, _RUNNING, _COMPLETED = State.QUEUED.value, State.RUNNING.value, State.COMPLETED.value
_FAILED, _CANCELLED, _SUPERSEDED = State.FAILED.value, State.CANCELLED.value, State.SUPERSEDED.value
_BEGINS = Kind.QUEUED.value


def fold_task(rows: Rows, record: Record, task_id: str) -> None:
    row = rows.tasks.get(task_id)
    if row is None:
        if record.kind != _BEGINS:
            return
        row = rows.tasks[task_id] = _task_row(rows, record, task_id)
        fold_usage.note_task(rows.usage, record, row)
        if row.delivery_seq is None and row.hook is not None and row.guid is not None:
            rows.orphans.setdefault((row.hook, row.guid), []).append(task_id)
    else:
        change = _TASK_CHANGES.get(record.kind)
        if change is not None:
            change(rows, row, record)
            fold_usage.note_task(rows.usage, record, row)
        row.updated_at = record.at
    row.last_seq = record.seq
    rows.changed_tasks[row.created_seq] = row


def _task_row(rows: Rows, record: Record, task_id: str) -> TaskRow:
    data, about = record.data, record.about or {}
    policy = data.get("policy")
    frozen = policy if isinstance(policy, dict) else {}
    installation, key = as_integer(data.get("installation")), as_text(about.get("key"))
    supersede, replay = frozen.get("supersede"), as_integer(data.get("replay")) or 0
    hook, guid = as_text(data.get("hook")), as_text(data.get("guid"))
    delivery = rows.deliveries.get((hook, guid)) if hook is not None and guid is not None else None
    return TaskRow(
        created_seq=record.seq,
        id=task_id,
        hook=hook,
        guid=guid,
        # A record appended together with its delivery can't know the delivery's seq; here it is known.
        delivery_seq=None if delivery is None else delivery.seq,
        route=as_text(data.get("route")),
        kind=as_text(data.get("kind")),
        purpose=as_text(data.get("purpose")),
        familiar=as_text(data.get("familiar")),
        state=_QUEUED,
        reason=None,
        category=None,
        detail=None,
        attempts=0,
        replay=replay,
        repo=as_text(about.get("repo")),
        repo_id=as_integer(data.get("repo_id")),
        installation=installation,
        number=as_integer(about.get("number")),
        head_sha=as_text(about.get("head_sha")),
        ref=as_text(about.get("ref")),
        target=as_text(data.get("target")),
        key=key,
        priority=min(max(as_integer(data.get("priority")) or 0, 0), PRIORITIES - 1),
        policy=json_text(policy) if isinstance(policy, dict) else None,
        config=as_text(data.get("config")),
        event=as_text(data.get("event")),
        action=as_text(data.get("action")),
        created_at=record.at,
        updated_at=record.at,
        not_before=as_time(data.get("not_before")),
        lease_until=None,
        worker=None,
        node=None,
        last_seq=record.seq,
        claim_seq=None,
        interruptions=0,
        retries=0,
        tenant=tenant_of(installation, hook),
        pull=queue_of(data.get("kind")),
        # Set only for tasks that supersede others or keep an order. An operator asked for a replay, so it does neither.
        supersede=supersede if supersede in ("queued", "running") and key is not None and replay == 0 else None,
        source_at=as_text(about.get("source_at")) if frozen.get("order") == "newest" and replay == 0 else None,
        abouts=None,
        since=None,
        queued_seq=record.seq,
        superseded_by=None,
        result_status=None,
        branch=None,
        pr_number=None,
        sent_at=delivery.sent_at if delivery is not None and replay == 0 else send_order.recorded_at(rows, record),
    )


def _clear_claim(row: TaskRow) -> None:
    row.lease_until = row.claim_seq = None


def _clear_reason(row: TaskRow) -> None:
    row.reason = row.category = row.detail = None


def _claim(rows: Rows, row: TaskRow, record: Record) -> None:
    data = record.data
    number = as_integer(data.get("attempt")) or as_integer(row.attempts + 1) or row.attempts
    worker, node = as_text(data.get("worker")), as_text(data.get("node"))
    _clear_reason(row)
    row.state = _RUNNING
    row.attempts = number
    row.worker = worker
    row.node = node
    # A lease until no time has run out: the task is queued again. Without one it would count as the pool's for ever.
    until = data.get("lease_until")
    row.lease_until = None if until is None else as_time(until) or record.at
    row.claim_seq = record.seq
    row.not_before = None
    rows.starts[row.tenant, row.repo_id, row.route, record.at[:13]] += 1
    rows.attempts[row.id, number] = rows.changed_attempts[row.id, number] = AttemptRow(
        task=row.id,
        attempt=number,
        fence=fence(record.epoch, record.seq),
        claim_seq=record.seq,
        worker=worker,
        node=node,
        started_at=record.at,
        ended_at=None,
        outcome=None,
        category=None,
        exit_code=None,
        signal=None,
        detail=None,
        phases="[]",
        result=None,
        usage=None,
        http_status=None,
        result_seq=None,
    )


def _end_attempt(rows: Rows, row: TaskRow, record: Record, outcome: str) -> None:
    """Close the running attempt, if there is one: a task may also fail or be cancelled while it is queued."""
    key = (row.id, row.attempts)
    attempt = rows.attempts.get(key)
    if attempt is None or attempt.ended_at is not None:
        return
    data = record.data
    fold_usage.end_attempt(rows.usage, record, row, attempt.started_at)
    attempt.ended_at = record.at
    attempt.outcome = outcome
    attempt.category = as_text(data.get("category"))
    attempt.exit_code = as_integer(data.get("exit_code"))
    attempt.signal = as_integer(data.get("signal"))
    attempt.detail = as_text(data.get("detail"))
    attempt.result = as_text(data.get("result"))
    attempt.usage = json_text(data["usage"]) if isinstance(data.get("usage"), dict) else None
    attempt.http_status = as_integer(data.get("http_status"))
    attempt.result_seq = None if record.payload_sha256 is None else record.seq
    rows.changed_attempts[key] = attempt


def _note_report(row: TaskRow, record: Record) -> None:
    """What the command said of its work, as far as it said anything."""
    status = as_text(record.data.get("result_status"))
    if status is None:
        return
    row.result_status = status
    if record.about:
        row.branch = as_text(record.about.get("branch"))
        row.abouts = json_text([*(orjson.loads(row.abouts) if row.abouts else []), record.seq])


def _set_failure(row: TaskRow, record: Record) -> None:
    row.reason = row.category = as_text(record.data.get("category"))
    row.detail = as_text(record.data.get("detail"))


def _delay(rows: Rows, row: TaskRow, record: Record) -> None:
    if row.state == _QUEUED:
        row.not_before, row.since = as_time(record.data.get("not_before")), as_time(record.data.get("since"))


def _add_phase(rows: Rows, row: TaskRow, record: Record) -> None:
    key = (row.id, row.attempts)
    attempt = rows.attempts.get(key)
    if attempt is not None:
        phase = [as_text(record.data.get("phase")), record.at]
        attempt.phases = json_text([*orjson.loads(attempt.phases), phase])
        rows.changed_attempts[key] = attempt
    pull = as_integer(record.data.get("pr"))
    row.pr_number = row.pr_number if pull is None else pull


def _renew(rows: Rows, row: TaskRow, record: Record) -> None:
    row.lease_until = as_time(record.data.get("lease_until")) or record.at


def _retry(rows: Rows, row: TaskRow, record: Record) -> None:
    _end_attempt(rows, row, record, _FAILED)
    _clear_claim(row)
    _set_failure(row, record)
    row.state = _QUEUED
    row.worker = row.node = None
    row.not_before = as_time(record.data.get("not_before"))
    row.interruptions = as_integer(record.data.get("interruptions")) or 0
    # The daemon's end or an expired lease is not the command's failure, so it uses up no retry.
    row.retries += row.category not in (Category.INTERRUPTED, Category.LEASE_LOST)


def _complete(rows: Rows, row: TaskRow, record: Record) -> None:
    _end_attempt(rows, row, record, _COMPLETED)
    _clear_claim(row)
    _clear_reason(row)
    _note_report(row, record)
    row.state, row.not_before = _COMPLETED, None


def _fail(rows: Rows, row: TaskRow, record: Record) -> None:
    _end_attempt(rows, row, record, _FAILED)
    _clear_claim(row)
    _set_failure(row, record)
    _note_report(row, record)
    row.state, row.not_before = _FAILED, None
    interruptions = as_integer(record.data.get("interruptions"))
    row.interruptions = row.interruptions if interruptions is None else interruptions


def _requeue(rows: Rows, row: TaskRow, record: Record) -> None:
    _clear_claim(row)
    _clear_reason(row)
    row.state = _QUEUED
    row.reason = as_text(record.data.get("reason"))
    row.worker = row.node = row.not_before = row.since = row.superseded_by = row.result_status = None
    row.interruptions = row.retries = 0
    row.queued_seq = record.seq


def _cancel(rows: Rows, row: TaskRow, record: Record) -> None:
    _end_attempt(rows, row, record, _CANCELLED)
    _clear_claim(row)
    _clear_reason(row)
    row.state, row.not_before = _CANCELLED, None
    row.reason = as_text(record.data.get("reason"))


def _supersede(rows: Rows, row: TaskRow, record: Record) -> None:
    _end_attempt(rows, row, record, _SUPERSEDED)
    _clear_claim(row)
    _clear_reason(row)
    row.state, row.not_before = _SUPERSEDED, None
    row.reason = as_text(record.data.get("reason"))
    row.superseded_by = as_text(record.data.get("by_task"))
    row.detail = f"by task {row.superseded_by}"


_TASK_CHANGES: dict[str, Callable[[Rows, TaskRow, Record], None]] = {
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
