"""The fold (projection): how each record changes the rows of state.db.

The result depends only on the records and on the rows that earlier records made: no clock, no randomness, nothing of the
machine. So the same journal gives the same rows, whether it is folded one by one, in batches, or again from the start.

A batch takes three steps: read the rows that the records concern, change them as values, write them back
(`covenq.state.rows`).

A record of an unknown kind only changes the newest seq of its subject, which appends are compared with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from covenq.model import DELIVERY_PRECEDENCE, Kind, ReceivedReason, State
from covenq.model.rows import DeliveryRow, TaskProgress, TaskRow
from covenq.routing.held import HELD, held_of
from covenq.state import (
    fold_history,
    fold_ledger,
    fold_pauses,
    fold_scopes,
    fold_tokens,
    fold_uninstalls,
    fold_usage,
    rollups,
    send_order,
)
from covenq.state.fold_tasks import fold_task
from covenq.state.rows import Rows, as_integer, as_text, erase, json_text, load, store, wanted_by
from covenq.state.rows_seen import load as load_seen
from covenq.state.rows_seen import note as note_seen
from covenq.state.seen import SeenKeys
from journal.records import Record

_RECEIVED, _BEGINS = State.RECEIVED.value, Kind.RECEIVED.value
_RULE_FAILED = ReceivedReason.RULE_FAILED.value
_PRECEDENCE = {str(state): place for place, state in enumerate(DELIVERY_PRECEDENCE)}


def apply(conn: sqlite3.Connection, record: Record) -> None:
    """Fold one record, inside the caller's transaction."""
    fold(conn, (record,))


def fold(conn: sqlite3.Connection, records: Sequence[Record], seen: SeenKeys | None = None) -> set[int]:
    """Fold records, in order of seq, inside the caller's transaction. The result is that of folding them one by one.

    `seen` finds the rows of a state.db that is built anew, which has no rollups yet. Returned are the blocks of deliveries whose
    rollups had to go, if there were any (`covenq.state.rollups`).
    """
    changed: set[int] = set()
    wanted = wanted_by(records)
    if wanted.records:
        rows = load(conn, wanted) if seen is None else load_seen(conn, wanted, seen)
        clock = rows.clock = send_order.load(conn)
        for record, tokens in wanted.records:
            if tokens[0] == "task":
                fold_task(rows, record, tokens[1])
            else:
                _fold_delivery(rows, record, tokens[1], tokens[2])
        _update_delivery_states(rows)
        if seen is not None:
            note_seen(conn, rows, seen)
        else:
            changed = rollups.changed_blocks(rows)
        store(conn, rows)
        fold_usage.store(conn, rows.usage)
        if rows.clock != clock:
            send_order.store(conn, send_order.Clock(*rows.clock))
    if wanted.of_operators:
        fold_pauses.fold(conn, wanted.of_operators)
        fold_scopes.fold(conn, wanted.of_operators)
        fold_ledger.fold(conn, wanted.of_operators)
        fold_uninstalls.fold(conn, wanted.of_operators)
        fold_tokens.fold(conn, wanted.of_operators)
    fold_history.fold(conn, records)
    # Last, wherever the erasure is in the batch: the columns it clears are written when a row is made, and never again.
    erased = erase(conn, records)
    if seen is None:
        changed |= rollups.blocks_between(erased)
        rollups.remove(conn, changed)
    return changed


# ---- deliveries


def _fold_delivery(rows: Rows, record: Record, hook: str, guid: str) -> None:
    key = (hook, guid)
    row = rows.deliveries.get(key)
    if row is None:
        if record.kind != _BEGINS:
            return  # the delivery has no `delivery.received` record
        row = rows.deliveries[key] = _delivery_row(rows, record, hook, guid)
        fold_usage.note_delivery(rows.usage, record, row)
        for orphan in rows.orphans.pop(key, ()):
            task = rows.tasks[orphan]
            task.delivery_seq = record.seq
            rows.changed_tasks[task.created_seq] = task
    if record.kind != _BEGINS:
        _change_delivery(row, record)
        fold_usage.note_delivery(rows.usage, record, row)
    row.last_seq = record.seq
    rows.changed_deliveries[row.seq] = row


def _change_delivery(row: DeliveryRow, record: Record) -> None:
    match record.kind:
        case Kind.REPEATED:
            row.duplicates += 1
        case Kind.CONFLICTED:
            row.conflicts += 1
        case Kind.REPLAYED:
            row.replays = max(row.replays, as_integer(record.data.get("replay")) or 0)
        case Kind.IGNORED:
            row.state = State.IGNORED.value
            row.reason, row.detail = as_text(record.data.get("reason")), as_text(record.data.get("detail"))


def _delivery_row(rows: Rows, record: Record, hook: str, guid: str) -> DeliveryRow:
    data, about = record.data, record.about or {}
    body = record.payload_sha256
    labels = about.get("labels")
    first = rows.first_of_body.setdefault(body, guid) if body is not None else guid
    held = held_of(data)
    return DeliveryRow(
        seq=record.seq,
        hook=hook,
        guid=guid,
        received_at=record.at,
        event=as_text(data.get("event")),
        action=as_text(data.get("action")),
        repo=as_text(about.get("repo")),
        repo_id=as_integer(data.get("repo_id")),
        owner=as_text(about.get("owner")),
        sender=as_text(about.get("sender")),
        installation=as_integer(data.get("installation")),
        number=as_integer(about.get("number")),
        head_sha=as_text(about.get("head_sha")),
        label=as_text(about.get("label")),
        labels=json_text([as_text(label) for label in labels]) if isinstance(labels, list) else None,
        title=as_text(about.get("title")),
        ref=as_text(about.get("ref")),
        target=as_text(data.get("target")),
        state=_RECEIVED,
        reason=HELD if held is not None else _RULE_FAILED if data.get("problem") else None,
        detail=held or as_text(data.get("problem")),
        payload_sha256=body,
        payload_bytes=record.payload_bytes,
        secret=as_text(data.get("secret")),
        source=as_text(data.get("source")),
        # The signature covers only the body: a known body under another GUID may be a captured request sent again.
        twin=as_text(data.get("twin")) or (first if first != guid else None),
        duplicates=0,
        conflicts=0,
        last_seq=record.seq,
        replays=0,
        payload_dropped=None,
        redacted=None,
        sent_at=send_order.first_sent_at(rows, record),
    )


# ---- a delivery's state, derived from its tasks


def _update_delivery_states(rows: Rows) -> None:
    """Derive the state of each delivery that changed, or of which a task changed, from its tasks."""
    seqs = rows.changed_deliveries.keys() | {task.delivery_seq for task in rows.changed_tasks.values()}
    tasks_of: dict[int, list[TaskRow]] = {}
    for task in rows.tasks.values():
        if task.delivery_seq is not None and task.delivery_seq in seqs:
            tasks_of.setdefault(task.delivery_seq, []).append(task)
    for delivery in rows.deliveries.values():
        tasks = tasks_of.get(delivery.seq)
        if tasks is None:
            continue
        deciding = tasks[0] if len(tasks) == 1 else deciding_task(tasks)
        if deciding is not None:
            delivery.state, delivery.reason, delivery.detail = deciding.state, deciding.reason, deciding.detail
            rows.changed_deliveries[delivery.seq] = delivery


def deciding_task(tasks: Iterable[TaskProgress]) -> TaskProgress | None:
    """The task that gives its delivery its state: among the newest replays of each route, the first by DELIVERY_PRECEDENCE."""
    newest: dict[str | None, TaskProgress] = {}
    for task in tasks:
        other = newest.get(task.route)
        if other is None or (task.replay, task.created_seq) > (other.replay, other.created_seq):
            newest[task.route] = task
    return min(newest.values(), key=lambda task: (_PRECEDENCE[task.state], task.created_seq), default=None)
