"""Queries of state.db: a connection and values in, the JSON objects of deliveries, tasks and attempts out.

Nothing here waits or writes; the caller makes sure that the state is new enough (`FoldThread.wait_for`).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from covenq.errors import Ambiguous, NotFound, UsageError
from covenq.filter.grammar import Filter, delivery_fields, parse, task_fields
from covenq.filter.sql import Table, payload_terms, to_sql
from covenq.github.request import decode
from covenq.model import TOKEN, DeliveryId, JsonObject, State
from covenq.paths import ATTEMPTS_NAME

__all__ = [
    "Page",
    "PayloadOf",
    "attempts",
    "attempts_of",
    "count",
    "counts",
    "decode",
    "deliveries",
    "delivery",
    "latest_attempts",
    "task",
    "tasks",
    "tasks_of",
    "to_sql",
]

PayloadOf = Callable[[int], bytes | None]
"""The received bytes of the delivery with that seq, or None; for filters that look into the payload."""

_DELIVERY = """SELECT d.seq, d.hook, d.guid, d.received_at, d.event, d.action, d.repo, d.repo_id, d.owner, d.sender,
    d.installation, d.number, d.head_sha, d.label, d.state, d.reason, d.detail, d.payload_sha256, d.payload_bytes,
    d.secret, d.source, d.duplicates, d.conflicts, d.twin, d.title, d.labels, d.replays, d.last_seq,
    d.payload_dropped, d.redacted,
    (SELECT json_group_array(id) FROM (
        SELECT t.id FROM tasks t WHERE t.delivery_seq = d.seq ORDER BY t.created_seq)) AS tasks
    FROM webhook_deliveries d"""

_TASK_FIELDS = """id hook guid route kind state reason category detail attempts replay event action repo repo_id installation
    number head_sha key priority policy config created_at updated_at not_before lease_until worker delivery_seq created_seq
    last_seq claim_seq interruptions retries""".split()
_TASK = f"SELECT {', '.join(f't.{name}' for name in _TASK_FIELDS)} FROM tasks t"  # noqa: S608 - constants
_TASK_VALUES = ", ".join(f"'{name}', {'json(t.policy)' if name == 'policy' else f't.{name}'}" for name in _TASK_FIELDS)
_TASKS_NAMED = f"""SELECT json_group_array(json_object({_TASK_VALUES}))
    FROM json_each(?) named CROSS JOIN tasks t ON t.id = named.value"""  # noqa: S608 - constants

_ATTEMPT = """SELECT task, attempt, fence, worker, started_at, ended_at, outcome, category, exit_code, signal, detail,
    phases, result, claim_seq, usage, http_status FROM task_attempts"""

_LATEST = """SELECT a.task, a.attempt, a.fence, a.worker, a.started_at, a.ended_at, a.outcome, a.category, a.exit_code,
    a.signal, a.detail, a.phases, a.result, a.claim_seq, a.usage, a.http_status,
    t.route, t.event, t.action, t.repo, t.number, t.hook, t.guid
    FROM task_attempts a CROSS JOIN tasks t ON t.id = a.task"""

MATCH_ALL = parse("")
_CHUNK = 200
"""Rows fetched at a time when a filter looks into payloads."""


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `next` is the cursor for `after`; None when there is no more."""

    items: list[JsonObject]
    next: str | None


def deliveries(
    conn: sqlite3.Connection,
    filter: Filter,
    limit: int = 50,
    after: str | None = None,
    *,
    payload_of: PayloadOf | None = None,
    now: float | None = None,
) -> Page:
    """The deliveries that match, newest first; `limit` 0 is all.

    Raises UsageError for a bad limit or cursor, or for a filter on the payload where `payload_of` is None.
    """
    return _page(conn, "webhook_deliveries", filter, limit, after, payload_of, now)


def tasks(
    conn: sqlite3.Connection,
    filter: Filter,
    limit: int = 50,
    after: str | None = None,
    *,
    payload_of: PayloadOf | None = None,
    now: float | None = None,
) -> Page:
    """The tasks that match, as `deliveries` does."""
    return _page(conn, "tasks", filter, limit, after, payload_of, now)


def delivery(conn: sqlite3.Connection, hook: str | None, guid: str) -> JsonObject:
    """One delivery. Raises NotFound, and Ambiguous where `hook` is None and several hooks share the GUID."""
    where, params = ("d.guid = ?", [guid]) if hook is None else ("d.guid = ? AND d.hook = ?", [guid, hook])
    rows = conn.execute(f"{_DELIVERY} WHERE {where} ORDER BY d.seq", params).fetchall()
    if not rows:
        raise NotFound(f"no delivery {guid if hook is None else DeliveryId(hook, guid)}")
    if len(rows) > 1:
        raise Ambiguous(guid, [f"{row['hook']}/{row['guid']}" for row in rows])
    return _delivery(rows[0])


def task(conn: sqlite3.Connection, task_id: str) -> JsonObject:
    """One task. Raises NotFound."""
    if not TOKEN.match(task_id):
        raise NotFound(f"no task {task_id[:80]!r}")
    row = conn.execute(f"{_TASK} WHERE t.id = ?", (task_id,)).fetchone()
    if row is None:
        raise NotFound(f"no task {task_id[:80]}")
    return _task(row)


def tasks_with(conn: sqlite3.Connection, ids: Sequence[str]) -> dict[str, JsonObject]:
    """The tasks with these ids, by id, without those that don't exist; read in one step (`covenq.state.rows` explains why)."""
    found: list[JsonObject] = orjson.loads(conn.execute(_TASKS_NAMED, (orjson.dumps(ids).decode(),)).fetchone()[0])
    return {task["id"]: task for task in found}


def tasks_of(conn: sqlite3.Connection, hook: str, guid: str) -> list[JsonObject]:
    """A delivery's tasks, oldest first."""
    of = "t.delivery_seq = (SELECT seq FROM webhook_deliveries WHERE guid = ? AND hook = ?)"
    rows = conn.execute(f"{_TASK} WHERE {of} ORDER BY t.created_seq", (guid, hook))
    return [_task(row) for row in rows]


def is_pulled(conn: sqlite3.Connection, seq: int) -> bool:
    """Whether a pull worker holds a task of the delivery with that seq, as far as is folded."""
    held = "SELECT 1 FROM tasks WHERE delivery_seq = ? AND state = ? AND kind = 'pull' LIMIT 1"
    return conn.execute(held, (seq, State.RUNNING)).fetchone() is not None


def attempts(conn: sqlite3.Connection, task_id: str) -> list[JsonObject]:
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
) -> Page:
    """A task's attempts, first to last, if it matches; `next` is the number of the page's last.

    Raises as `latest_attempts`, and NotFound where there is no such task.
    """
    found = task(conn, task_id)
    where, params = _task_condition(filter, limit, now)
    rows = conn.execute(
        f"{_ATTEMPT} WHERE task = (SELECT t.id FROM tasks t WHERE t.id = ? AND {where}) AND attempt > ? "  # noqa: S608
        "ORDER BY attempt LIMIT ?",
        [found["id"], *params, _cursor(after) or 0, limit + 1 if limit else -1],
    ).fetchall()
    return _attempts_page(rows, limit, "attempt")


def _task_condition(filter: Filter, limit: int, now: float | None) -> tuple[str, list[object]]:
    """The condition on the tasks whose attempts are listed. Raises UsageError."""
    if limit < 0:
        raise UsageError(f"a limit of {limit}", hint="0 is all.")
    if filter.needs_payload:
        raise UsageError("attempts can't be found by their payload", hint="List tasks with that filter instead.")
    return to_sql(filter, "tasks", now=now)


def latest_attempts(
    conn: sqlite3.Connection,
    filter: Filter,
    limit: int = 50,
    after: str | None = None,
    *,
    now: float | None = None,
) -> Page:
    """The attempts of the tasks that match, newest claim first.

    Each has the task's route, event, repo, number, hook and guid. Raises UsageError for a bad limit or cursor, and for a filter
    on the payload.
    """
    where, params = _task_condition(filter, limit, now)
    place = _cursor(after)
    bound = "" if place is None else " AND a.claim_seq < ?"
    # CROSS JOIN keeps SQLite walking the attempts in their order, which the page's limit then cuts short.
    rows = conn.execute(
        f"{_LATEST} WHERE {where}{bound} ORDER BY a.claim_seq DESC LIMIT ?",
        [*params, *([] if place is None else [place]), limit + 1 if limit else -1],
    ).fetchall()
    return _attempts_page(rows, limit, "claim_seq")


def _attempts_page(rows: list[sqlite3.Row], limit: int, cursor: str) -> Page:
    """`rows` has one more than the limit if there is a next page."""
    more = bool(limit) and len(rows) > limit
    items = [_attempt(row) for row in (rows[:limit] if more else rows)]
    return Page(items, str(items[-1][cursor]) if more else None)


def counts(conn: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """How many deliveries and tasks are in each state, zeros included."""
    found: dict[str, dict[str, int]] = {"deliveries": {str(state): 0 for state in State}}
    found["tasks"] = {str(state): 0 for state in State if state not in (State.RECEIVED, State.IGNORED)}
    for what, state, number in conn.execute("SELECT what, word, n FROM tallies WHERE what IN ('deliveries', 'tasks')"):
        found[what][str(state)] = int(number)
    return found


def attempts_ended(conn: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """How many attempts ended with each (outcome, category); the category is empty where there is none."""
    rows = conn.execute("SELECT word, category, n FROM tallies WHERE what = 'attempts'")
    return {(str(outcome), str(category)): int(number) for outcome, category, number in rows}


def oldest(conn: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """{"deliveries": {state: received_at}, "tasks": {state: created_at}} of the oldest in each state that isn't final."""
    found: dict[str, dict[str, str]] = {"deliveries": {}, "tasks": {}}
    for what, table, at, seq, states in _WAITING:
        for state in states:
            row = conn.execute(
                f"SELECT {at} FROM {table} WHERE {seq} = (SELECT min({seq}) FROM {table} WHERE state = ?)",  # noqa: S608 - constants
                (str(state),),
            ).fetchone()
            if row is not None:
                found[what][str(state)] = str(row[0])
    return found


_WAITING = (
    ("deliveries", "webhook_deliveries", "received_at", "seq", (State.RECEIVED,)),
    ("tasks", "tasks", "created_at", "created_seq", (State.QUEUED, State.RUNNING)),
)


def count(conn: sqlite3.Connection, table: Table, filter: Filter, *, now: float | None = None) -> int:
    """How many rows match. Raises UsageError for a filter on the payload: it would have to read every payload."""
    if filter.needs_payload:
        raise UsageError("payload filters can't be counted", hint="List what matches instead.")
    where, params = to_sql(filter, table, now=now)
    select = "SELECT count(*) FROM "
    select += "webhook_deliveries d" if table == "webhook_deliveries" else "tasks t"
    return int(conn.execute(f"{select} WHERE {where}", params).fetchone()[0])


# ---- pages


def _page(
    conn: sqlite3.Connection,
    table: Table,
    filter: Filter,
    limit: int,
    after: str | None,
    payload_of: PayloadOf | None,
    now: float | None,
) -> Page:
    if limit < 0:
        raise UsageError(f"a limit of {limit}", hint="0 is all.")
    now = time.time() if now is None else now
    where, params = to_sql(filter, table, now=now)
    rest = payload_terms(filter)
    if rest is not None and payload_of is None:
        raise UsageError("payloads can't be looked into here", hint="Leave out the payload terms.")
    place = _cursor(after)
    items: list[JsonObject] = []
    wanted = limit + 1 if limit else None  # one more shows whether there is a next page
    for item in _rows(conn, table, where, params, place, None if rest else wanted):
        if (
            rest is not None
            and payload_of is not None
            and not _payload_terms_hold(conn, table, rest, item, payload_of, now)
        ):
            continue
        items.append(item)
        if len(items) == wanted:
            items.pop()
            return Page(items, str(items[-1]["seq" if table == "webhook_deliveries" else "created_seq"]))
    return Page(items, None)


def _cursor(after: str | None) -> int | None:
    if after is None or after == "":
        return None
    if not (after.isascii() and after.isdecimal() and len(after) <= 18):
        raise UsageError(f"{after[:40]!r} is no cursor", hint="Pass `next` of the page before.")
    return int(after)


def _rows(
    conn: sqlite3.Connection, table: Table, where: str, params: list[object], place: int | None, wanted: int | None
) -> Iterator[JsonObject]:
    """Matching rows, newest first. With `wanted` None in chunks, so that no statement stays open while payloads are read."""
    select, column, make = (
        (_DELIVERY, "d.seq", _delivery) if table == "webhook_deliveries" else (_TASK, "t.created_seq", _task)
    )
    while True:
        bound = "" if place is None else f" AND {column} < ?"
        size = wanted if wanted is not None else _CHUNK
        rows = conn.execute(
            f"{select} WHERE {where}{bound} ORDER BY {column} DESC LIMIT ?",
            [*params, *([] if place is None else [place]), size],
        ).fetchall()
        for row in rows:
            yield make(row)
        if wanted is not None or len(rows) < size:
            return
        place = int(rows[-1]["seq" if table == "webhook_deliveries" else "created_seq"])


def _payload_terms_hold(
    conn: sqlite3.Connection, table: Table, rest: Filter, item: JsonObject, payload_of: PayloadOf, now: float
) -> bool:
    if table == "webhook_deliveries":
        its_tasks = tasks_of(conn, item["hook"], item["guid"]) if rest.fields() != {"payload"} else []
        seq = item["seq"]
        fields = delivery_fields(item, its_tasks, lambda: decode(payload_of(seq)))
    else:
        row = conn.execute(f"{_DELIVERY} WHERE d.seq = ?", (item["delivery_seq"],)).fetchone()
        of = None if row is None else _delivery(row)
        fields = task_fields(item, of, lambda: None if of is None else decode(payload_of(of["seq"])))
    return rest.matches(fields, now=now)


# ---- rows as objects


def _delivery(row: sqlite3.Row) -> JsonObject:
    item: JsonObject = dict(row)
    item["labels"] = [] if item["labels"] is None else json.loads(item["labels"])
    item["tasks"] = json.loads(item["tasks"])
    return item


def _task(row: sqlite3.Row) -> JsonObject:
    item: JsonObject = dict(row)
    item["policy"] = None if item["policy"] is None else json.loads(item["policy"])
    return item


def _attempt(row: sqlite3.Row) -> JsonObject:
    item: JsonObject = dict(row)
    item["phases"] = json.loads(item["phases"])
    item["usage"] = None if item["usage"] is None else json.loads(item["usage"])
    # Where its output is: a path below the data directory, as `result` is. Its directory is made before the phase is recorded.
    prepared = any(phase[0] == "prepared" for phase in item["phases"])
    for name in ("stdout", "stderr"):
        item[name] = f"{ATTEMPTS_NAME}/{item['task']}/{item['attempt']}/{name}" if prepared else None
    return item
