"""What `covenq export` writes of deliveries: many in one step, with their headers, exact bytes, tasks and attempts.

One by one each would cost an opening of the files and five questions; a lot of them costs the same.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import orjson
from msgspec.structs import asdict

from covenq.config.limits import Caps
from covenq.errors import NotFound
from covenq.filter.grammar import Filter
from covenq.filter.sql import to_sql
from covenq.model.answers import TaskHistory
from covenq.model.rows import Attempt, Delivery, OneDelivery
from covenq.operate.inspect import view
from covenq.state.objects import ATTEMPT_OBJECTS, DELIVERY_OBJECTS, TASK_OBJECTS
from journal.records import Record

LOT = 2000
LOT_BYTES = 32 << 20
"""Deliveries that are read in one step, and bytes of their payloads; a single larger one is read alone."""
_PAGE = 1000
_SPARSE = 20
"""Records in between, for each one wanted, above which each is looked up: reading on is so much cheaper."""
_NAMED = "SELECT value FROM json_each(?)"


@dataclass(frozen=True, slots=True)
class Exported:
    """A delivery, its bytes (None where they are no longer kept), and its tasks with their attempts."""

    delivery: OneDelivery
    body: bytes | None
    tasks: list[TaskHistory]


def lots_of(conn: sqlite3.Connection, records: view.ReadableJournal, filter: Filter) -> list[list[int]]:
    """The seqs of the deliveries that match, oldest first, in lots for `exported`: bounded in number and in bytes of payload."""
    lots: list[list[int]] = []
    size = 0
    for seq, payload_bytes in _matching(conn, records, filter):
        if not lots or len(lots[-1]) == LOT or size + payload_bytes > LOT_BYTES:
            lots.append([])
            size = 0
        lots[-1].append(seq)
        size += payload_bytes
    return lots


def _matching(conn: sqlite3.Connection, records: view.ReadableJournal, filter: Filter) -> list[tuple[int, int]]:
    """(seq, bytes of payload) of each delivery that matches, oldest first."""
    if not filter.needs_payload:
        where, params = to_sql(filter, "webhook_deliveries", now=time.time())
        sql = f"SELECT d.seq, coalesce(d.payload_bytes, 0) FROM webhook_deliveries d WHERE {where} ORDER BY d.seq"  # noqa: S608
        return [(row[0], row[1]) for row in conn.execute(sql, params)]
    found: list[tuple[int, int]] = []
    after: str | None = None
    while True:
        page = view.deliveries(conn, records, filter, _PAGE, after)
        found += [(one.seq, one.payload_bytes or 0) for one in page.items]
        after = page.next
        if after is None:
            return found[::-1]


def exported(
    conn: sqlite3.Connection, records: view.ReadableJournal, seqs: Sequence[int], *, caps: Caps
) -> list[Exported]:
    """The deliveries with these seqs, oldest first. The caller bounds how many."""
    named = [orjson.dumps(seqs).decode()]
    attempts: dict[str, list[Attempt]] = {}
    of_tasks = f"SELECT id FROM tasks WHERE delivery_seq IN ({_NAMED})"  # noqa: S608 - constants
    for attempt in ATTEMPT_OBJECTS.read(conn, f"WHERE a.task IN ({of_tasks}) ORDER BY a.task, a.attempt", named):
        attempts.setdefault(attempt.task, []).append(attempt)
    found = TASK_OBJECTS.read(conn, f"WHERE t.delivery_seq IN ({_NAMED}) ORDER BY t.created_seq", named)
    view.set_waits(conn, found, caps, None)
    tasks: dict[int | None, list[TaskHistory]] = {}
    for task in found:
        history = TaskHistory(**asdict(task), attempt_objects=attempts.get(task.id, []))
        tasks.setdefault(task.delivery_seq, []).append(history)
    rows = DELIVERY_OBJECTS.read(conn, f"WHERE d.seq IN ({_NAMED}) ORDER BY d.seq", named)
    kept = _records(records, [row.seq for row in rows])
    return [Exported(*_content(records, row, kept.get(row.seq)), tasks.get(row.seq, [])) for row in rows]


def _records(records: view.ReadableJournal, seqs: Sequence[int]) -> dict[int, Record]:
    """The records with these seqs, which ascend: read in one go, unless most of those in between are others."""
    if not seqs:
        return {}
    if seqs[-1] - seqs[0] > _SPARSE * len(seqs):
        return {seq: record for seq in seqs if (record := records.get(seq)) is not None}
    wanted = set(seqs)
    found = {record.seq: record for record in islice(records.read(seqs[0] - 1, only=wanted), len(wanted))}
    for seq in wanted - found.keys():
        if (record := records.get(seq)) is not None:
            found[seq] = record
    return found


def _content(records: view.ReadableJournal, row: Delivery, record: Record | None) -> tuple[OneDelivery, bytes | None]:
    try:
        body: bytes | None = view.body_of(row, record)[0]
    except NotFound:
        body = None
    return view.with_headers(records, row, record), body
