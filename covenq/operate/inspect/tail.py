"""The journal as it goes on, told record by record for people: whose record it is, what it says, and only those wanted.

Bounded in everything: a look reads so many records and no more, and says from where to look on, so that whoever follows
loses nothing over a restart of either side.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from covenq.errors import NotFound
from covenq.filter.grammar import Filter, delivery_fields, task_fields
from covenq.model import JsonObject, at_text
from covenq.operate.inspect.view import Records
from covenq.state import query, schema
from journal.records import Record

LOOK = 1000
"""Records one look goes through at most."""

_FIELDS = ("event", "action", "repo", "number", "sender", "route")
_TOLD = (
    "attempt", "worker", "phase", "category", "exit_code", "not_before", "by", "reason", "detail", "replay", "by_task",
    "what", "name", "secret", "twin",
)  # fmt: skip
"""What is passed on of a record's data: words and numbers. Hashes, policies and headers are `covenq show`'s."""


def look(
    conn: sqlite3.Connection, records: Records, filter: Filter, after: int, *, now: float, most: int = LOOK
) -> tuple[list[JsonObject], int]:
    """What the next records after `after` tell, and the seq that was reached.

    {"seq", "at", "kind", "hook", "guid", "task", "event", "action", "repo", "number", "sender", "route", "state", "data"}:
    whose record it is (null for those of nobody's), how that stands now, and words of the record's own. With a filter only
    the records of deliveries and tasks that match it, a task as `covenq tasks` would.

    It goes no further than the state does: of a record that came since it was folded nobody could say whether it matches.
    """
    told = []
    reached = after
    everything = not filter.node.nodes
    place = schema.position(conn)
    folded = 0 if place is None else place[0].seq
    for record in records.read(after):
        if record.seq > folded:
            break
        reached = record.seq
        if record.kind != "journal.synced":
            item = _told(conn, records, record, filter, everything, now)
            if item is not None:
                told.append(item)
        if reached - after >= most:
            break
    return told, reached


def since(records: Records, moment: float) -> int:
    """The seq after which records are of that moment (seconds since 1970) or later, by their times: found by halves."""
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


def _told(
    conn: sqlite3.Connection, records: Records, record: Record, filter: Filter, everything: bool, now: float
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
    item["data"] = {name: record.data[name] for name in _TOLD if record.data.get(name) is not None}
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


def _fields(conn: sqlite3.Connection, records: Records, kind: str, row: JsonObject) -> Mapping[str, Any]:
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


def _payload(records: Records, seq: int | None) -> Callable[[], object]:
    def payload() -> object:
        record = None if seq is None else records.get(seq)
        return query.decode(None if record is None else record.payload)

    return payload


def last(
    conn: sqlite3.Connection, records: Records, filter: Filter, number: int, *, now: float
) -> tuple[list[JsonObject], int]:
    """What the newest `number` records that match tell, of the newest LOOK records, and the seq that was reached."""
    head = records.head().seq
    told, reached = look(conn, records, filter, max(0, head - LOOK), now=now)
    return told[max(0, len(told) - number) :], reached


def answer(
    conn: sqlite3.Connection,
    records: Records,
    filter: Filter,
    now: float,
    *,
    after: int | None = None,
    since_s: float | None = None,
    newest: int | None = None,
) -> JsonObject:
    """{"items", "next", "head", "epoch"}: from `after` on, or from so long ago, or the newest so many that match."""
    if after is None and since_s is None and newest is not None:
        items, reached = last(conn, records, filter, newest, now=now)
    else:
        begin = after if after is not None else 0 if since_s is None else since(records, now - since_s)
        items, reached = look(conn, records, filter, begin, now=now)
    # With nothing behind `after`, what is reached is the head; an `after` beyond it is of another history.
    head = records.head().seq
    return {"items": items, "next": min(reached, head), "head": head, "epoch": records.epoch}


def words(item: JsonObject) -> Iterator[str]:
    """The parts of a line about a record: whose, of what, and what it says."""
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
