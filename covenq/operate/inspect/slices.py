"""What `covenq export` writes of deliveries: many in one step, with their headers, exact bytes, tasks and attempts.

One by one each would cost an opening of the files and five questions; a lot of them costs the same.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import msgspec
import orjson
from msgspec import Raw, Struct

from covenq.config.limits import Caps
from covenq.filter.grammar import Filter
from covenq.model import State
from covenq.operate.inspect import view
from covenq.operate.origin import origin_of
from covenq.operate.signed_later import find_signed_later
from covenq.state.objects import ATTEMPT_OBJECTS, DELIVERY_OBJECTS, TASK_OBJECTS
from covenq.state.query import condition, delivery
from covenq.state.tables import decoder_of
from covenq.tasks.scheduling.waiting import Waiting
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
    """A delivery and its tasks, as JSON: written out as they are, they are not made into objects in between.

    The JSON of a `OneDelivery`, its bytes (None where they are no longer kept), and an array of `TaskHistory`.
    """

    delivery: bytes
    body: bytes | None
    tasks: bytes


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
        where, params = condition(conn, filter, "webhook_deliveries", now=time.time())
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
    """The deliveries with these seqs, which ascend. The caller bounds how many.

    The records are read in a thread, because SQLite, which takes as long, leaves it the interpreter meanwhile.
    """
    named = [orjson.dumps(seqs).decode()]
    with ThreadPoolExecutor(1) as executor:
        reading = executor.submit(_records, records, seqs)
        where = f"WHERE d.seq IN ({_NAMED}) ORDER BY d.seq"
        deliveries = DELIVERY_OBJECTS.written(conn, _DELIVERY, _Delivery.BESIDE, where, named)
        tasks = _tasks(conn, named, caps)
        kept = reading.result()
    removals: dict[int, bytes] = {}
    found = []
    for one in deliveries:
        record = kept.get(one.seq)
        headers = b"null" if record is None else orjson.dumps(view.headers_of(record))
        removal = b"null"
        if one.removed_by is not None:
            if one.removed_by not in removals:
                removals[one.removed_by] = msgspec.json.encode(view.dropped_by(records, one.removed_by))
            removal = removals[one.removed_by]
        origin = msgspec.json.encode(origin_of(record))
        signed = b"null"
        if one.unsigned is not None:
            held = delivery(conn, one.hook, one.unsigned)
            signed = msgspec.json.encode(find_signed_later(conn, records, held))
        beside = (headers, removal, origin, signed)
        whole = _extended(one.json, b'"headers":%b,"dropped_by":%b,"origin":%b,"signed_later":%b' % beside)
        body = None if record is None else record.payload
        found.append(Exported(whole, body, b"[%b]" % b",".join(tasks.get(one.seq, ()))))
    return found


class _Delivery(Struct, array_like=True, gc=False):
    BESIDE: ClassVar = (
        "seq, coalesce(redacted, payload_dropped), hook, "
        "CASE WHEN duplicates > 0 AND secret IS NULL AND source = 'import' THEN guid END"
    )
    seq: int
    removed_by: int | None
    hook: str
    unsigned: str | None
    """The GUID of one that came again and is held without its signature."""
    json: Raw


class _Task(Struct, array_like=True, gc=False):
    BESIDE: ClassVar = "delivery_seq, id, state"
    delivery: int
    id: str
    state: str
    json: Raw


class _Attempt(Struct, array_like=True, gc=False):
    BESIDE: ClassVar = "task"
    task: str
    json: Raw


_DELIVERY, _TASK, _ATTEMPT = decoder_of(_Delivery), decoder_of(_Task), decoder_of(_Attempt)


def _tasks(conn: sqlite3.Connection, named: Sequence[str], caps: Caps) -> dict[int, list[bytes]]:
    """The objects of their tasks, with their attempts, by the delivery's seq."""
    of_tasks = f"SELECT id FROM tasks WHERE delivery_seq IN ({_NAMED})"  # noqa: S608 - constants
    rest = f"WHERE a.task IN ({of_tasks}) ORDER BY a.task, a.attempt"
    attempts: dict[str, list[Raw]] = {}
    for attempt in ATTEMPT_OBJECTS.written(conn, _ATTEMPT, _Attempt.BESIDE, rest, named):
        attempts.setdefault(attempt.task, []).append(attempt.json)
    rest = f"WHERE t.delivery_seq IN ({_NAMED}) ORDER BY t.created_seq"
    rows = TASK_OBJECTS.written(conn, _TASK, _Task.BESIDE, rest, named)
    waits = _waits(conn, [row.id for row in rows if row.state == State.QUEUED], caps)
    found: dict[int, list[bytes]] = {}
    for row in rows:
        parts = waits.get(row.id, b"null"), b",".join(attempts.get(row.id, ()))
        task = _extended(row.json, b'"waits":%b,"attempt_objects":[%b],"last_output":null' % parts)
        found.setdefault(row.delivery, []).append(task)
    return found


def _waits(conn: sqlite3.Connection, queued: Sequence[str], caps: Caps) -> dict[str, bytes]:
    """What each of these tasks waits for, as JSON."""
    if not queued:
        return {}
    waiting = Waiting(conn, time.time(), caps)
    return {id: msgspec.json.encode(waiting.reason_for(id)) for id in queued}


def _extended(object: Raw, members: bytes) -> bytes:
    """The text of a JSON object that has members, and these behind them."""
    return b"".join((memoryview(object)[:-1], b",", members, b"}"))


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
