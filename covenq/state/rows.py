"""The rows of state.db that a batch of records may change: read together, written back together.

A statement reads or writes many rows, because each step of a statement gives up the interpreter lock and has to win it back
from the threads that answer requests: beside one busy thread, row by row was measured to be seven times slower. A query gets
all ids in one JSON text and returns all rows in another. Writes bind their values: new rows are written whole, others only
where they changed, because setting a column updates its indexes even if the value stays the same.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import chain
from typing import TypeVar

import msgspec
import orjson
from msgspec.structs import astuple

from covenq.filter.tree import comparable
from covenq.model import Kind, now_text
from covenq.model.rows import AttemptRow, DeliveryRow, Row, TaskRow
from covenq.state.fold_usage import Usage
from covenq.state.tables import ATTEMPTS, DELIVERIES, TASKS, Table, decoded, values_of_columns
from journal.erasure import SeqRange, erasure_of
from journal.records import Record

R = TypeVar("R", bound=Row)
T = TypeVar("T")

_RECEIVED, _QUEUED = Kind.RECEIVED.value, Kind.QUEUED.value
_INTEGER_END = 1 << 63
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:(\.\d{6}Z)|(?:\.\d{1,6})?(?:Z|[+-][01]\d:[0-5]\d))", re.ASCII
)
"""A time of RFC 3339; its group is there if it is written as covenq writes it."""


@dataclass(slots=True)
class Rows:
    """The rows that a batch may change, and which of them it did change."""

    deliveries: dict[tuple[str, str], DeliveryRow] = field(default_factory=dict)
    """By (hook, GUID)."""
    tasks: dict[str, TaskRow] = field(default_factory=dict)
    """Those that have records in the batch, and all other tasks of their deliveries."""
    attempts: dict[tuple[str, int], AttemptRow] = field(default_factory=dict)
    """The newest attempt of each task; older ones are closed."""
    first_of_body: dict[str, str] = field(default_factory=dict)
    """Hash of a body to the GUID it first came with."""
    orphans: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Tasks whose delivery is not known here (a salvage may have lost it), by the delivery's id: it may still arrive."""
    loaded: dict[int, Row] = field(default_factory=dict)
    """Rows as they were loaded, by rowid: no record makes rows of two tables, so no two rows have the same."""
    clock: tuple[int | None, int] = (None, 0)
    """As `covenq.state.send_order.Clock`, after the records so far."""
    starts: Counter[tuple[str, int | None, str | None, str]] = field(default_factory=Counter)
    """(tenant, repo_id, route, hour) to how many attempts these records began: daily limits count them."""
    usage: Usage = field(default_factory=dict)
    """What they add to the usage of their month: see `covenq.state.fold_usage`."""
    changed_deliveries: dict[int, DeliveryRow] = field(default_factory=dict)
    """By seq, as `changed_tasks` by that of the record that made it."""
    changed_tasks: dict[int, TaskRow] = field(default_factory=dict)
    changed_attempts: dict[tuple[str, int], AttemptRow] = field(default_factory=dict)
    """By task and number: one that begins anew takes the place of what it was."""


# ---- values


def json_text(value: object) -> str:
    return orjson.dumps(value).decode()


def as_text(value: object) -> str | None:
    """Text that a column can hold and compare; anything else is None. A record's values are checked, not trusted."""
    if value is None or not isinstance(value, str):
        return None
    if value.isascii():
        return value if "\0" not in value else comparable(value)
    return comparable(value.encode("utf-8", "replace").decode())


def as_time(value: object) -> str | None:
    """A time as covenq writes it, which compares as text; of another text of RFC 3339 the same time; anything else is None.

    Checked by the pattern before it is parsed: what `fromisoformat` takes differs between versions of Python, and the fold's
    result may not.
    """
    if not isinstance(value, str) or not (found := _TIME.fullmatch(value)):
        return None
    try:
        at = datetime.fromisoformat(value)
        return value if found[1] else now_text(at.astimezone(UTC))
    except (ValueError, OverflowError):
        return None


def as_integer(value: object) -> int | None:
    if value is None or not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -_INTEGER_END <= value < _INTEGER_END else None


# ---- rows out of the database and back


_LOAD_TASKS = f"""SELECT {", ".join(TASKS.columns)} FROM tasks WHERE created_seq IN (
    SELECT other.created_seq FROM json_each(?1) named CROSS JOIN tasks task ON task.id = named.value
        CROSS JOIN tasks other ON other.delivery_seq = task.delivery_seq
    UNION SELECT task.created_seq FROM json_each(?1) named CROSS JOIN tasks task ON task.id = named.value
    UNION SELECT other.created_seq FROM json_each(?2) named CROSS JOIN webhook_deliveries d
        ON d.guid = json_extract(named.value, '$[1]') AND d.hook = json_extract(named.value, '$[0]')
        CROSS JOIN tasks other ON other.delivery_seq = d.seq
    UNION SELECT task.created_seq FROM json_each(?2) named CROSS JOIN tasks task
        ON task.guid = json_extract(named.value, '$[1]') AND task.hook = json_extract(named.value, '$[0]')
        AND task.delivery_seq IS NULL
) ORDER BY created_seq"""  # noqa: S608 - constants

_LOAD_DELIVERIES = f"""SELECT {", ".join("d." + name for name in DELIVERIES.columns)} FROM json_each(?) named
    CROSS JOIN webhook_deliveries d
        ON d.guid = json_extract(named.value, '$[1]') AND d.hook = json_extract(named.value, '$[0]')"""  # noqa: S608 - constants

_LOAD_ATTEMPTS = f"""SELECT {", ".join("a." + name for name in ATTEMPTS.columns)} FROM json_each(?) named
    CROSS JOIN task_attempts a
        ON a.task = json_extract(named.value, '$[0]') AND a.attempt = json_extract(named.value, '$[1]')"""  # noqa: S608 - constants

_LOAD_BODIES = """SELECT named.value AS body, (
        SELECT guid FROM webhook_deliveries
        WHERE substr(payload_sha256, 1, 16) = substr(named.value, 1, 16) AND payload_sha256 = named.value
        ORDER BY seq LIMIT 1) AS guid
    FROM json_each(?) named"""


@dataclass(slots=True)
class Wanted:
    """What a batch of records concerns; the dicts are without values, for their order."""

    records: list[tuple[Record, list[str]]] = field(default_factory=list)
    """Those of deliveries and tasks, each with the tokens of its subject."""
    tasks: dict[str, None] = field(default_factory=dict)
    deliveries: dict[tuple[str, str], None] = field(default_factory=dict)
    """By (hook, GUID)."""
    bodies: dict[str, None] = field(default_factory=dict)
    of_operators: list[Record] = field(default_factory=list)
    """The records that concern no row of these."""


def wanted_by(records: Sequence[Record]) -> Wanted:
    wanted = Wanted()
    for record in records:
        tokens = record.subject.split(".")
        if tokens[0] == "task":
            wanted.records.append((record, tokens))
            wanted.tasks[tokens[1]] = None
            if record.kind == _QUEUED:
                hook, guid = as_text(record.data.get("hook")), as_text(record.data.get("guid"))
                if hook is not None and guid is not None:
                    wanted.deliveries[hook, guid] = None
        elif tokens[0] == "delivery":
            wanted.records.append((record, tokens))
            wanted.deliveries[tokens[1], tokens[2]] = None
            if record.kind == _RECEIVED and record.payload_sha256 is not None:
                wanted.bodies[record.payload_sha256] = None
        elif tokens[0] == "ops":
            wanted.of_operators.append(record)
    return wanted


def load(conn: sqlite3.Connection, wanted: Wanted) -> Rows:
    rows = Rows()
    task_ids, keys, bodies = wanted.tasks, wanted.deliveries, wanted.bodies
    for task in load_rows(conn, rows, TASKS, _LOAD_TASKS, json_text(list(task_ids)), json_text(list(keys))):
        rows.tasks[task.id] = task
        if task.hook is not None and task.guid is not None:
            keys[task.hook, task.guid] = None
            if task.delivery_seq is None:
                rows.orphans.setdefault((task.hook, task.guid), []).append(task.id)
    for delivery in load_rows(conn, rows, DELIVERIES, _LOAD_DELIVERIES, json_text(list(keys))):
        rows.deliveries[delivery.hook, delivery.guid] = delivery
    newest = [(one, rows.tasks[one].attempts) for one in task_ids if one in rows.tasks]
    if newest:
        for attempt in load_rows(conn, rows, ATTEMPTS, _LOAD_ATTEMPTS, json_text(newest)):
            rows.attempts[attempt.task, attempt.attempt] = attempt
    if bodies:
        for body, guid in select(conn, _BODIES, _LOAD_BODIES, "body, guid", json_text(list(bodies))):
            if guid is not None:
                rows.first_of_body[body] = guid
    return rows


_BODIES = msgspec.json.Decoder(list[tuple[str, str | None]])


def load_rows(conn: sqlite3.Connection, rows: Rows, table: Table[R], sql: str, *params: str) -> list[R]:
    found = select(conn, table.decoder, sql, ", ".join(table.columns), *params)
    for row in found:
        rows.loaded[table.rowid_of(row)] = copy(row)
    return found


def select(
    conn: sqlite3.Connection, decoder: msgspec.json.Decoder[list[T]], sql: str, columns: str, *params: str
) -> list[T]:
    """The rows of a statement. Raises as `decoded`."""
    lot = f"SELECT json_group_array(json_array({columns})) FROM ({sql})"  # noqa: S608 - constants
    (found,) = conn.execute(lot, params).fetchone()
    return decoded(decoder, found)


def store(conn: sqlite3.Connection, rows: Rows) -> None:
    """Write the changed rows, in order of arrival, so that the same batch makes the same pages."""
    _store(conn, DELIVERIES, rows.changed_deliveries, rows.loaded)
    _store(conn, TASKS, rows.changed_tasks, rows.loaded)
    _store(conn, ATTEMPTS, {row.claim_seq: row for row in rows.changed_attempts.values()}, rows.loaded)
    if rows.starts:
        starts: Counter[tuple[str, str]] = Counter()
        for (tenant, repo_id, route, hour), number in rows.starts.items():
            for scope in scopes(tenant, repo_id, route):
                starts[scope, hour] += number
        for lot in _lots(sorted(starts.items()), LOT):
            values = [value for place, number in lot for value in (*place, number)]
            conn.execute(_starts_sql(len(lot)), values)


def scopes(tenant: str, repo_id: int | None, route: str | None) -> Iterator[str]:
    """The scopes whose daily limits a start of a task counts towards: installation, repository, route.

    Named as the table `starts` names them.
    """
    yield f"installation {tenant}"
    if repo_id is not None:
        yield f"repo {repo_id}"
    if route is not None:
        yield f"route {route}"


def _store(conn: sqlite3.Connection, table: Table[R], rows: Mapping[int, R], loaded: Mapping[int, Row]) -> None:
    """Those that were loaded first: they are the older ones."""
    known = sorted(rows.keys() & loaded.keys())
    for columns, several in _by_change(table, [rows[seq] for seq in known], loaded).items():
        _write(conn, table, columns, several)
    new = sorted(rows.keys() - loaded.keys()) if known else sorted(rows)
    _write(conn, table, table.columns, [rows[seq] for seq in new])


def _by_change(table: Table[R], rows: Sequence[R], loaded: Mapping[int, Row]) -> dict[tuple[str, ...], list[R]]:
    """Group rows that were loaded by the columns that changed."""
    found: dict[tuple[str, ...], list[R]] = {}
    values_of = values_of_columns(table.mutable)
    for row in rows:
        before = loaded[table.rowid_of(row)]
        pairs = zip(table.mutable, values_of(before), values_of(row), strict=True)
        columns = tuple([name for name, old, new in pairs if old != new])
        if columns:
            found.setdefault(columns, []).append(row)
    return found


LOT = 64
"""Rows of one statement, at most. Each lot is a power of two, so that there are few statements and they stay prepared."""


def _write(conn: sqlite3.Connection, table: Table[R], columns: tuple[str, ...], rows: Sequence[R]) -> None:
    """Write these columns of the rows; if they are all columns, insert the rows.

    The values are bound one by one, many rows to a statement: extracting them from one JSON text costs SQLite twice as much
    as writing them.
    """
    whole = columns == table.columns
    bound = columns if whole else (table.rowid, *columns)
    most = conn.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(bound)
    values_of = astuple if whole else values_of_columns(bound)
    for lot in _lots(rows, min(LOT, most)):
        sql = _insert_sql(table, len(lot)) if whole else _update_sql(table, columns, len(lot))
        conn.execute(sql, tuple(chain.from_iterable(map(values_of, lot))))


def _lots(rows: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    start = 0
    while start < len(rows):
        number = 1 << (min(most, len(rows) - start).bit_length() - 1)
        yield rows[start : start + number]
        start += number


def _values(width: int, lot: int) -> str:
    return ", ".join([f"({', '.join('?' * width)})"] * lot)


@cache
def _starts_sql(lot: int) -> str:
    return (
        f"INSERT INTO starts (scope, hour, n) VALUES {_values(3, lot)} "  # noqa: S608 - constants
        "ON CONFLICT (scope, hour) DO UPDATE SET n = n + excluded.n"
    )


@cache
def _insert_sql(table: Table[Row], lot: int) -> str:
    """An attempt may exist already: one that isn't its task's newest, or was loaded, is claimed again by a forged record."""
    verb = "INSERT OR REPLACE" if table is ATTEMPTS else "INSERT"
    return f"{verb} INTO {table.name} ({', '.join(table.columns)}) VALUES {_values(len(table.columns), lot)}"


@lru_cache(256)
def _update_sql(table: Table[Row], columns: tuple[str, ...], lot: int) -> str:
    changes = ", ".join(f"{name} = new.column{at}" for at, name in enumerate(columns, 2))
    return (
        f"UPDATE {table.name} SET {changes} FROM (VALUES {_values(1 + len(columns), lot)}) AS new "  # noqa: S608 - constants
        f"WHERE {table.name}.{table.rowid} = new.column1"
    )


# ---- erasure

_DROPPED = """UPDATE webhook_deliveries SET payload_dropped = ?
    WHERE seq BETWEEN ? AND ? AND payload_dropped IS NULL AND payload_sha256 IS NOT NULL"""
_REDACTED_PAUSES = "UPDATE pauses SET repo = NULL WHERE seq BETWEEN ? AND ?"
_REDACTED_NAMES = "DELETE FROM names_in_records WHERE seq BETWEEN ? AND ?"
_REDACTED_SCOPES = "UPDATE scope_bindings SET repo = NULL WHERE seq BETWEEN ? AND ?"
_NAMELESS_PAUSES = "DELETE FROM pauses WHERE what = 'repo' AND name IS NULL AND repo IS NULL"


@cache
def _redactions() -> tuple[str, str]:
    """The statements that clear what was read out of a payload: of deliveries, and of tasks. Not cheap to make."""
    deliveries, tasks = (", ".join(f"{name} = NULL" for name in names) for names in (DELIVERIES.erased, TASKS.erased))
    return (
        f"UPDATE webhook_deliveries SET redacted = coalesce(redacted, ?), {deliveries} WHERE seq BETWEEN ? AND ?",  # noqa: S608
        f"UPDATE tasks SET {tasks} WHERE created_seq BETWEEN ? AND ?",  # noqa: S608
    )


def erase(conn: sqlite3.Connection, records: Sequence[Record]) -> list[SeqRange]:
    """Clear in the rows what these records allow the log to drop: `drops` and `about`, as `journal.erasure` reads them.

    A range of seqs names the rows that the records with these seqs made. Returned are those of the rows that lost their `about`.
    """
    cleared: list[SeqRange] = []
    for record in [one for one in records if "drops" in one.data]:
        erasure = erasure_of(record.seq, record.data)
        if erasure is None:
            continue
        pairs = erasure.drops
        conn.executemany(_DROPPED, [(record.seq, low, high) for low, high in pairs])
        if erasure.about:
            of_deliveries, of_tasks = _redactions()
            conn.executemany(of_deliveries, [(record.seq, low, high) for low, high in pairs])
            conn.executemany(of_tasks, pairs)
            conn.executemany(_REDACTED_PAUSES, pairs)
            conn.execute(_NAMELESS_PAUSES)
            conn.executemany(_REDACTED_SCOPES, pairs)
            conn.executemany(_REDACTED_NAMES, pairs)
            cleared += pairs
    return cleared
