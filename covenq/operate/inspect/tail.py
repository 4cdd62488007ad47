"""The journal's records as items for people who follow it: the delivery or task of each, and its data; filtered.

A scan reads SCAN_MAX records at most and gives the seq to go on from, so that a follower misses nothing over a restart of
either side.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping

from msgspec.structs import asdict

from covenq.errors import NotFound
from covenq.filter.grammar import Filter, delivery_fields, task_fields
from covenq.model import at_text
from covenq.model.answers import Tail, TailItem
from covenq.model.rows import Delivery, Task
from covenq.operate.inspect.view import ReadableJournal
from covenq.state import query, schema
from covenq.state.scoped import scope_of_reader
from journal.records import Record

SCAN_MAX = 1000
"""Records that one scan reads at most."""

_DATA_SHOWN = (
    "attempt", "worker", "phase", "category", "exit_code", "not_before", "by", "reason", "detail", "replay", "by_task",
    "what", "name", "secret", "twin",
)  # fmt: skip
"""Fields of a record's data that are in its item. `covenq show` has hashes, policies and headers."""
_OTHERS_IDS = ("by_task", "twin")
"""Those of them that name another task or delivery: under a scope, only where its row names it too."""


def scan(
    conn: sqlite3.Connection, records: ReadableJournal, filter: Filter, after: int, *, now: float, most: int = SCAN_MAX
) -> tuple[list[TailItem], int]:
    """The items of the next records after `after`, and the seq that was reached.

    With a filter only the records of deliveries and tasks that match it, a task as in `covenq tasks`.

    The scan ends where the fold ends: whether a later record matches isn't known yet.
    """
    found = []
    reached = after
    everything = not filter.node.nodes
    position = schema.position(conn)
    folded = 0 if position is None else position.witness.seq
    for record in records.read(after):
        if record.seq > folded:
            break
        reached = record.seq
        if record.kind != "journal.synced":
            item = _item(conn, records, record, filter, everything, now)
            if item is not None:
                found.append(item)
        if reached - after >= most:
            break
    return found, reached


def seq_at(records: ReadableJournal, moment: float) -> int:
    """The seq after which records are of that moment (seconds since 1970) or later: a binary search by their times."""
    text = at_text(max(0.0, moment))
    low, high = 0, records.head().seq
    while low < high:
        middle = (low + high + 1) // 2
        record = records.get(middle)
        if record is None or record.at < text:
            low = middle
        else:
            high = middle - 1
    return low


def _item(
    conn: sqlite3.Connection, records: ReadableJournal, record: Record, filter: Filter, everything: bool, now: float
) -> TailItem | None:
    kind, *names = record.subject.split(".")
    data = {name: record.data[name] for name in _DATA_SHOWN if record.data.get(name) is not None}
    item = TailItem(record.seq, record.at, record.kind, data=data)
    scoped = scope_of_reader(conn) is not None
    if kind not in ("delivery", "task"):
        return item if everything and not scoped else None
    if kind == "task":
        item.task = names[0]
    else:
        item.hook, item.guid = names
    try:
        row = query.task(conn, names[0]) if kind == "task" else query.delivery(conn, names[0], names[1])
    except NotFound:
        return item if everything and not scoped else None
    if scoped:
        shown = (getattr(row, "superseded_by", None), getattr(row, "twin", None))
        item.data = {name: one for name, one in data.items() if name not in _OTHERS_IDS or one in shown}
    if not everything and not filter.matches(_fields(conn, records, row), now=now):
        return None
    item.hook, item.guid, item.state = row.hook, row.guid, row.state
    item.event, item.action, item.repo, item.number = row.event, row.action, row.repo, row.number
    if isinstance(row, Delivery):
        item.sender = row.sender
    else:
        item.route = row.route
    return item


def _fields(conn: sqlite3.Connection, records: ReadableJournal, row: Delivery | Task) -> Mapping[str, object]:
    if isinstance(row, Delivery):
        tasks = query.tasks_of(conn, row.hook, row.guid)
        return delivery_fields(asdict(row), [asdict(task) for task in tasks], _payload(records, row.seq))
    delivery: Delivery | None = None
    if row.delivery_seq is not None and row.guid is not None:
        try:
            delivery = query.delivery(conn, row.hook, row.guid)
        except NotFound:
            delivery = None
    of = None if delivery is None else asdict(delivery)
    return task_fields(asdict(row), of, _payload(records, row.delivery_seq))


def _payload(records: ReadableJournal, seq: int | None) -> Callable[[], object]:
    def payload() -> object:
        record = None if seq is None else records.get(seq)
        return query.decode(None if record is None else record.payload)

    return payload


def newest_items(
    conn: sqlite3.Connection, records: ReadableJournal, filter: Filter, number: int, *, now: float
) -> tuple[list[TailItem], int]:
    """The items of the newest `number` records that match, of the newest SCAN_MAX records, and the seq that was reached."""
    head = records.head().seq
    found, reached = scan(conn, records, filter, max(0, head - SCAN_MAX), now=now)
    return found[max(0, len(found) - number) :], reached


def answer(
    conn: sqlite3.Connection,
    records: ReadableJournal,
    filter: Filter,
    now: float,
    *,
    after: int | None = None,
    since_s: float | None = None,
    newest: int | None = None,
) -> Tail:
    """From `after` on, or from `since_s` seconds ago, or the `newest` that match."""
    if after is None and since_s is None and newest is not None:
        items, reached = newest_items(conn, records, filter, newest, now=now)
    else:
        begin = after if after is not None else 0 if since_s is None else seq_at(records, now - since_s)
        items, reached = scan(conn, records, filter, begin, now=now)
    # An `after` beyond the head is of another history.
    head = records.head().seq
    return Tail(items, min(reached, head), head, records.epoch)


def line_parts(item: TailItem) -> Iterator[str]:
    """The parts of a line about a record: the task or delivery, its event, repository and route, and the data."""
    yield str(item.task or item.guid or "")
    if item.event:
        yield f"{item.event}.{item.action}" if item.action else str(item.event)
    if item.repo:
        yield item.repo if item.number is None else f"{item.repo}#{item.number}"
    if item.route:
        yield f"route {item.route}"
    for name, value in item.data.items():
        if name not in ("secret", "twin") or item.kind == "delivery.received":
            yield f"{name}={value}"
