"""Queries of state.db: a connection and values in, the JSON objects of deliveries, tasks and attempts out.

Nothing here waits or writes; the caller makes sure that the state is new enough (`FoldProgress.wait_for`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import orjson
from msgspec.structs import asdict

from covenq.errors import Ambiguous, NotFound, UsageError
from covenq.filter.grammar import Filter, delivery_fields, parse, task_fields
from covenq.filter.sql import Table, payload_terms, to_sql
from covenq.github.request import decode
from covenq.model import TOKEN, DeliveryId, State, parse_id
from covenq.model.rows import Attempt, Delivery, LatestAttempt, Page, Task
from covenq.state.objects import (
    ATTEMPT_OBJECTS,
    DELIVERY_OBJECTS,
    LATEST_OBJECTS,
    NAMED_TASK_OBJECTS,
    TASK_OBJECTS,
    Objects,
)

if TYPE_CHECKING:
    from covenq.model.status import Oldest

__all__ = [
    "PayloadOf",
    "attempts",
    "attempts_of",
    "condition",
    "count",
    "count_attempts",
    "counts",
    "decode",
    "deliveries",
    "delivery",
    "latest_attempts",
    "task",
    "tasks",
    "tasks_of",
]

T = TypeVar("T")

PayloadOf = Callable[[int], bytes | None]
"""The received bytes of the delivery with that seq, or None; for filters that look into the payload."""

MATCH_ALL = parse("")
_NAMED: dict[Table, str] = {"webhook_deliveries": "webhook_deliveries d", "tasks": "tasks t"}
_CHUNK = 200
"""Rows fetched at a time when a filter looks into payloads."""
ERASED_MAX = 100_000
"""Erased deliveries that are counted."""

_FEW = 10_000
"""Rows that are found by an index and then sorted. Where more match, the newest are soon found by reading from the end."""
_LOT = 2000
"""Rows fetched at a time when all are listed: each time, what isn't found in order of arrival is looked for anew."""


def deliveries(
    conn: sqlite3.Connection,
    filter: Filter,
    limit: int = 50,
    after: str | None = None,
    *,
    payload_of: PayloadOf | None = None,
    now: float | None = None,
) -> Page[Delivery]:
    """The deliveries that match, newest first, a page of them; `limit` 0 is all.

    Raises UsageError for a bad limit or cursor, or for a filter on the payload where `payload_of` is None.
    """
    return _page(conn, _DELIVERIES, _fields_of_delivery, filter, limit, after, payload_of, now)


def tasks(
    conn: sqlite3.Connection,
    filter: Filter,
    limit: int = 50,
    after: str | None = None,
    *,
    payload_of: PayloadOf | None = None,
    now: float | None = None,
) -> Page[Task]:
    """The tasks that match, as `deliveries` does."""
    return _page(conn, _TASKS, _fields_of_task, filter, limit, after, payload_of, now)


def delivery(conn: sqlite3.Connection, hook: str | None, guid: str) -> Delivery:
    """One delivery. Raises NotFound, and Ambiguous where `hook` is None and several hooks share the GUID."""
    where, params = ("d.guid = ?", [guid]) if hook is None else ("d.guid = ? AND d.hook = ?", [guid, hook])
    found = DELIVERY_OBJECTS.read(conn, f"WHERE {where} ORDER BY d.seq", params)
    if not found:
        raise NotFound(f"no delivery {guid if hook is None else DeliveryId(hook, guid)}")
    if len(found) > 1:
        raise Ambiguous(guid, [f"{one.hook}/{one.guid}" for one in found])
    return found[0]


def delivery_to_act_on(conn: sqlite3.Connection, id: str) -> Delivery:
    """The delivery of that id. Raises as `delivery`, UsageError for what is no id, and for a task's id with its delivery's."""
    try:
        return delivery(conn, *parse_id(id))
    except NotFound as unknown:
        try:
            found = task(conn, id)
        except NotFound:
            raise unknown from None
        hint = f"Its delivery: {found.hook}/{found.guid}"
        raise NotFound(f"{id} is a task, and this is done to deliveries", hint=hint) from None


def task(conn: sqlite3.Connection, task_id: str) -> Task:
    """One task. Raises NotFound."""
    if not TOKEN.match(task_id):
        raise NotFound(f"no task {task_id[:80]!r}")
    found = TASK_OBJECTS.read(conn, "WHERE t.id = ?", (task_id,))
    if not found:
        raise NotFound(f"no task {task_id[:80]}")
    return found[0]


def tasks_with(conn: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Task]:
    """The tasks with these ids, by id, without those that don't exist; read in one step (`covenq.state.rows` explains why)."""
    return {task.id: task for task in NAMED_TASK_OBJECTS.read(conn, "", (orjson.dumps(ids).decode(),))}


def tasks_of(conn: sqlite3.Connection, hook: str, guid: str) -> list[Task]:
    """A delivery's tasks, oldest first."""
    of = "t.delivery_seq = (SELECT seq FROM webhook_deliveries WHERE guid = ? AND hook = ?)"
    return TASK_OBJECTS.read(conn, f"WHERE {of} ORDER BY t.created_seq", (guid, hook))


def is_pulled(conn: sqlite3.Connection, seq: int) -> bool:
    """Whether a pull worker holds a task of the delivery with that seq, as far as is folded."""
    held = "SELECT 1 FROM tasks WHERE delivery_seq = ? AND state = ? AND kind = 'pull' LIMIT 1"
    return conn.execute(held, (seq, State.RUNNING)).fetchone() is not None


def count_erased(conn: sqlite3.Connection, after: int, received: int) -> int:
    """How many deliveries that came up to the record `received` were erased by a record after `after`; ERASED_MAX at most."""
    erased = "SELECT 1 FROM webhook_deliveries WHERE redacted > ? AND seq <= ? LIMIT ?"
    return int(conn.execute(f"SELECT count(*) FROM ({erased})", (after, received, ERASED_MAX)).fetchone()[0])  # noqa: S608 - a constant


_RESULTS_OF = """SELECT a.result_seq FROM tasks t CROSS JOIN task_attempts a ON a.task = t.id
    WHERE t.delivery_seq BETWEEN ? AND ? AND a.result_seq IS NOT NULL"""
_RESULTS_BETWEEN = "SELECT result_seq FROM task_attempts WHERE result_seq BETWEEN ? AND ?"


def results_of(conn: sqlite3.Connection, first: int, last: int) -> list[int]:
    """The records that have results, of tasks of the deliveries from `first` to `last`, both counted."""
    return [int(row[0]) for row in conn.execute(_RESULTS_OF, (first, last))]


def abouts_of(conn: sqlite3.Connection, delivery_seq: int) -> list[int]:
    """The records that have what commands said of their work, of a delivery's tasks."""
    each = "SELECT value FROM tasks, json_each(tasks.abouts) WHERE delivery_seq = ? AND abouts IS NOT NULL"
    return [int(row[0]) for row in conn.execute(each, (delivery_seq,))]


def results_between(conn: sqlite3.Connection, first: int, last: int) -> list[int]:
    """The records from `first` to `last`, both counted, that have results."""
    return [int(row[0]) for row in conn.execute(_RESULTS_BETWEEN, (first, last))]


class AttemptLocation(NamedTuple):
    """Where an attempt is, or was: the name of the node that gave the claim, if its record says so."""

    node: str | None
    kind: str
    """The task's."""
    ended: bool
    result_seq: int | None


def attempt_location(conn: sqlite3.Connection, task_id: str, attempt: int) -> AttemptLocation | None:
    """Of one attempt of a task; None if there is none."""
    found = conn.execute(
        "SELECT a.node, t.kind, a.ended_at IS NOT NULL, a.result_seq FROM task_attempts a JOIN tasks t ON t.id = a.task"
        " WHERE a.task = ? AND a.attempt = ?",
        (task_id, attempt),
    ).fetchone()
    return None if found is None else AttemptLocation(found[0], found[1], bool(found[2]), found[3])


def attempts(conn: sqlite3.Connection, task_id: str) -> list[Attempt]:
    """A task's attempts, first to last. Raises NotFound where there is no such task."""
    return attempts_of(conn, task_id, MATCH_ALL, 0).items


def attempts_of(
    conn: sqlite3.Connection,
    task_id: str,
    filter: Filter,
    limit: int = 50,
    after: str | None = None,
    *,
    now: float | None = None,
) -> Page[Attempt]:
    """A task's attempts, first to last, if it matches; `next` is the number of the page's last.

    Raises as `latest_attempts`, and NotFound where there is no such task.
    """
    found = task(conn, task_id)
    where, params = _task_condition(conn, filter, limit, now)
    items = ATTEMPT_OBJECTS.read(
        conn,
        f"WHERE a.task = (SELECT t.id FROM tasks t WHERE t.id = ? AND {where}) AND a.attempt > ? ORDER BY a.attempt LIMIT ?",  # noqa: S608
        [found.id, *params, _cursor(after) or 0, limit + 1 if limit else -1],
    )
    return _cut(items, limit, lambda one: one.attempt)


def _cut(items: list[T], limit: int, cursor_of: Callable[[T], int]) -> Page[T]:
    """`items` has one more than the limit if there is a next page."""
    if not limit or len(items) <= limit:
        return Page(items, None)
    return Page(items[:limit], str(cursor_of(items[limit - 1])))


def _task_condition(
    conn: sqlite3.Connection, filter: Filter, limit: int, now: float | None
) -> tuple[str, list[object]]:
    """The condition on the tasks whose attempts are listed. Raises UsageError."""
    if limit < 0:
        raise UsageError(f"a limit of {limit}", hint="0 is all.")
    if filter.needs_payload:
        raise UsageError("attempts can't be found by their payload", hint="List tasks with that filter instead.")
    return condition(conn, filter, "tasks", now=now)


def latest_attempts(
    conn: sqlite3.Connection,
    filter: Filter,
    limit: int = 50,
    after: str | None = None,
    *,
    now: float | None = None,
) -> Page[LatestAttempt]:
    """The attempts of the tasks that match, newest claim first.

    Each has the task's route, event, repo, number, hook and guid. Raises UsageError for a bad limit or cursor, and for a filter
    on the payload.
    """
    where, params = _task_condition(conn, filter, limit, now)
    found = _rows(conn, _LATEST, where, params, _cursor(after), limit + 1 if limit else None)
    return _cut(list(found), limit, _LATEST.seq_of)


def counts(conn: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """How many deliveries and tasks are in each state, zeros included."""
    found: dict[str, dict[str, int]] = {"deliveries": {str(state): 0 for state in State}}
    found["tasks"] = {str(state): 0 for state in State if state not in (State.RECEIVED, State.IGNORED)}
    for what, state, number in conn.execute("SELECT what, word, n FROM tallies WHERE what IN ('deliveries', 'tasks')"):
        found[what][str(state)] = int(number)
    return found


def count_attempts(conn: sqlite3.Connection, filter: Filter, limit: int = 0, *, now: float | None = None) -> int:
    """How many attempts `latest_attempts` lists in all; counted up to `limit`, unless that is 0.

    Raises UsageError for a filter on the payload.
    """
    where, params = _task_condition(conn, filter, limit, now)
    joined = "task_attempts" if where == "1" else "tasks t CROSS JOIN task_attempts a ON a.task = t.id"
    return _counted(conn, f"{joined} WHERE {where}", params, limit)


def _counted(conn: sqlite3.Connection, rows: str, params: Sequence[object], limit: int) -> int:
    """How many rows there are, or `limit` if there are as many; 0 is no limit."""
    if not limit:
        return int(conn.execute(f"SELECT count(*) FROM {rows}", params).fetchone()[0])  # noqa: S608 - to_sql's
    few = f"SELECT count(*) FROM (SELECT 1 FROM {rows} LIMIT ?)"  # noqa: S608 - to_sql's
    return int(conn.execute(few, (*params, limit)).fetchone()[0])


def attempts_ended(conn: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """How many attempts ended with each (outcome, category); the category is empty where there is none."""
    rows = conn.execute("SELECT word, category, n FROM tallies WHERE what = 'attempts'")
    return {(str(outcome), str(category)): int(number) for outcome, category, number in rows}


def oldest(conn: sqlite3.Connection) -> Oldest:
    """When the oldest delivery and task in each state that isn't final came."""
    from covenq.model.status import Oldest  # a status alone needs it

    found: dict[str, dict[str, str]] = {"deliveries": {}, "tasks": {}}
    for what, table, at, seq, states in _WAITING:
        for state in states:
            row = conn.execute(
                f"SELECT {at} FROM {table} WHERE {seq} = (SELECT min({seq}) FROM {table} WHERE state = ?)",  # noqa: S608 - constants
                (str(state),),
            ).fetchone()
            if row is not None:
                found[what][str(state)] = str(row[0])
    return Oldest(**found)


_WAITING = (
    ("deliveries", "webhook_deliveries", "received_at", "seq", (State.RECEIVED,)),
    ("tasks", "tasks", "created_at", "created_seq", (State.QUEUED, State.RUNNING)),
)


def condition(
    conn: sqlite3.Connection, filter: Filter, table: Table, *, now: float | None = None
) -> tuple[str, list[object]]:
    """`covenq.filter.sql.to_sql` for this state: whether few rows match is looked up in it."""

    def is_few(sql: str, params: Sequence[object]) -> bool:
        (found,) = conn.execute(f"SELECT count(*) FROM ({sql} LIMIT {_FEW + 1})", params).fetchone()  # noqa: S608 - to_sql's
        return int(found) <= _FEW

    return to_sql(filter, table, now=now, is_few=is_few)


def count(conn: sqlite3.Connection, table: Table, filter: Filter, limit: int = 0, *, now: float | None = None) -> int:
    """How many rows match; counted up to `limit`, unless that is 0.

    Raises UsageError for a filter on the payload (it would have to read every payload), and for a bad limit.
    """
    if limit < 0:
        raise UsageError(f"a limit of {limit}", hint="0 is all.")
    if filter.needs_payload:
        raise UsageError("payload filters can't be counted", hint="List what matches instead.")
    where, params = condition(conn, filter, table, now=now)
    return _counted(conn, f"{_NAMED[table]} WHERE {where}", params, limit)


# ---- pages


_FieldsOf = Callable[[sqlite3.Connection, Filter, T, PayloadOf], Mapping[str, object]]
"""The fields of an object that a filter's payload terms are held against."""


class _Listing(Generic[T]):
    """How objects are listed, newest first: the table that filters are about, and what orders them, which is a record's seq."""

    def __init__(self, table: Table, objects: Objects[T], column: str, seq_of: Callable[[T], int]) -> None:
        self.table, self.objects, self.column, self.seq_of = table, objects, column, seq_of


def _page(
    conn: sqlite3.Connection,
    listing: _Listing[T],
    fields_of: _FieldsOf[T],
    filter: Filter,
    limit: int,
    after: str | None,
    payload_of: PayloadOf | None,
    now: float | None,
) -> Page[T]:
    if limit < 0:
        raise UsageError(f"a limit of {limit}", hint="0 is all.")
    now = time.time() if now is None else now
    where, params = condition(conn, filter, listing.table, now=now)
    rest = payload_terms(filter)
    if rest is not None and payload_of is None:
        raise UsageError("payloads can't be looked into here", hint="Leave out the payload terms.")
    place = _cursor(after)
    items: list[T] = []
    wanted = limit + 1 if limit else None  # one more shows whether there is a next page
    for item in _rows(conn, listing, where, params, place, None if rest else wanted, _CHUNK if rest else _LOT):
        if not (rest is None or payload_of is None or rest.matches(fields_of(conn, rest, item, payload_of), now=now)):
            continue
        items.append(item)
        if len(items) == wanted:
            break
    return _cut(items, limit, listing.seq_of)


def _cursor(after: str | None) -> int | None:
    if after is None or after == "":
        return None
    if not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise UsageError(f"{after[:40]!r} is no cursor", hint="Pass `next` of the page before.")
    return int(after)


def _rows(
    conn: sqlite3.Connection,
    listing: _Listing[T],
    where: str,
    params: list[object],
    place: int | None,
    wanted: int | None,
    chunk: int = _LOT,
) -> Iterator[T]:
    """Matching rows, newest first. With `wanted` None in chunks, so that no statement stays open while payloads are read.

    Their seqs are found first: where an index gives the matches in another order, seqs alone are sorted, and rows read only of
    the page.
    """
    while True:
        bound = "" if place is None else f" AND {listing.column} < ?"
        size = wanted if wanted is not None else chunk
        seqs = (
            f"SELECT {listing.column} FROM {listing.objects.source} "  # noqa: S608 - constants, and to_sql's condition
            f"WHERE {where}{bound} ORDER BY {listing.column} DESC LIMIT ?"
        )
        found = listing.objects.read(
            conn,
            f"WHERE {listing.column} IN ({seqs}) ORDER BY {listing.column} DESC",
            [*params, *([] if place is None else [place]), size],
        )
        yield from found
        if wanted is not None or len(found) < size:
            return
        place = listing.seq_of(found[-1])


def _fields_of_delivery(
    conn: sqlite3.Connection, rest: Filter, item: Delivery, payload_of: PayloadOf
) -> Mapping[str, object]:
    its_tasks = tasks_of(conn, item.hook, item.guid) if rest.fields() != {"payload"} else []
    return delivery_fields(asdict(item), [asdict(task) for task in its_tasks], lambda: decode(payload_of(item.seq)))


def _fields_of_task(conn: sqlite3.Connection, rest: Filter, item: Task, payload_of: PayloadOf) -> Mapping[str, object]:
    found = DELIVERY_OBJECTS.read(conn, "WHERE d.seq = ?", (item.delivery_seq,))
    if not found:
        return task_fields(asdict(item), None, lambda: None)
    (of,) = found
    return task_fields(asdict(item), asdict(of), lambda: decode(payload_of(of.seq)))


_DELIVERIES = _Listing("webhook_deliveries", DELIVERY_OBJECTS, "d.seq", attrgetter("seq"))
_TASKS = _Listing("tasks", TASK_OBJECTS, "t.created_seq", attrgetter("created_seq"))
_LATEST = _Listing("tasks", LATEST_OBJECTS, "a.claim_seq", attrgetter("claim_seq"))
