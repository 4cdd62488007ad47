"""The journal's records as items for people who follow it: the delivery or task of each, and its data; filtered.

A scan reads SCAN_MAX records at most and gives the seq to go on from, so that a follower misses nothing over a restart of
either side.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from covenq.errors import NotFound
from covenq.filter.grammar import Filter, delivery_fields, task_fields
from covenq.model import JsonObject, at_text
from covenq.operate.inspect.view import ReadableJournal
from covenq.state import query, schema
from journal.records import Record

SCAN_MAX = 1000
"""Records that one scan reads at most."""

_FIELDS = ("event", "action", "repo", "number", "sender", "route")
_DATA_SHOWN = (
    "attempt", "worker", "phase", "category", "exit_code", "not_before", "by", "reason", "detail", "replay", "by_task",
    "what", "name", "secret", "twin",
)  # fmt: skip
"""Fields of a record's data that are in its item. `covenq show` has hashes, policies and headers."""


def scan(
    conn: sqlite3.Connection, records: ReadableJournal, filter: Filter, after: int, *, now: float, most: int = SCAN_MAX
) -> tuple[list[JsonObject], int]:
    """The items of the next records after `after`, and the seq that was reached.

    {"seq", "at", "kind", "hook", "guid", "task", "event", "action", "repo", "number", "sender", "route", "state", "data"}:
    the delivery or task of the record (null if it has none), its present state, and fields of the record's data. With a
    filter only the records of deliveries and tasks that match it, a task as in `covenq tasks`.

    The scan ends where the fold ends: whether a later record matches isn't known yet.
    """
    found = []
    reached = after
    everything = not filter.node.nodes
    position = schema.position(conn)
    folded = 0 if position is None else position[0].seq
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
) -> JsonObject | None:
    kind, *names = record.subject.split(".")
    item: JsonObject = {
        "seq": record.seq,
        "at": record.at,
        "kind": record.kind,
        "hook": None,
        "guid": None,
        "task": None,
    }
    item |= dict.fromkeys((*_FIELDS, "state"))
    item["data"] = {name: record.data[name] for name in _DATA_SHOWN if record.data.get(name) is not None}
    if kind == "ops" or kind not in ("delivery", "task"):
        return item if everything else None
    try:
        row = query.task(conn, names[0]) if kind == "task" else query.delivery(conn, names[0], names[1])
    except NotFound:
        if not everything:
            return None
        row = {"id": names[0]} if kind == "task" else {"hook": names[0], "guid": names[1]}
    else:
        if not everything and not filter.matches(_fields(conn, records, kind, row), now=now):
            return None
    item |= {name: row.get(name) for name in ("hook", "guid", "state", *_FIELDS)}
    item["task"] = row.get("id") if kind == "task" else None
    return item


def _fields(conn: sqlite3.Connection, records: ReadableJournal, kind: str, row: JsonObject) -> Mapping[str, Any]:
    if kind == "delivery":
        tasks = query.tasks_of(conn, row["hook"], row["guid"])
        return delivery_fields(row, tasks, _payload(records, row["seq"]))
    delivery: JsonObject | None = None
    if row["delivery_seq"] is not None:
        try:
            delivery = query.delivery(conn, row["hook"], row["guid"])
        except NotFound:
            delivery = None
    return task_fields(row, delivery, _payload(records, row["delivery_seq"]))


def _payload(records: ReadableJournal, seq: int | None) -> Callable[[], object]:
    def payload() -> object:
        record = None if seq is None else records.get(seq)
        return query.decode(None if record is None else record.payload)

    return payload


def newest_items(
    conn: sqlite3.Connection, records: ReadableJournal, filter: Filter, number: int, *, now: float
) -> tuple[list[JsonObject], int]:
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
) -> JsonObject:
    """{"items", "next", "head", "epoch"}: from `after` on, or from `since_s` seconds ago, or the `newest` that match."""
    if after is None and since_s is None and newest is not None:
        items, reached = newest_items(conn, records, filter, newest, now=now)
    else:
        begin = after if after is not None else 0 if since_s is None else seq_at(records, now - since_s)
        items, reached = scan(conn, records, filter, begin, now=now)
    # An `after` beyond the head is of another history.
    head = records.head().seq
    return {"items": items, "next": min(reached, head), "head": head, "epoch": records.epoch}


def line_parts(item: JsonObject) -> Iterator[str]:
    """The parts of a line about a record: the task or delivery, its event, repository and route, and the data."""
    yield str(item["task"] or item["guid"] or "")
    if item["event"]:
        yield f"{item['event']}.{item['action']}" if item["action"] else str(item["event"])
    if item["repo"]:
        yield item["repo"] if item["number"] is None else f"{item['repo']}#{item['number']}"
    if item["route"]:
        yield f"route {item['route']}"
    for name, value in item["data"].items():
        if name not in ("secret", "twin") or item["kind"] == "delivery.received":
            yield f"{name}={value}"
