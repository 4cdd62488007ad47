"""The rows that a batch may change, where state.db is built anew: those that `rows.load` finds, by `covenq.state.seen`."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from covenq.model.rows import AttemptRow, DeliveryRow, Row, TaskRow
from covenq.state.rows import Rows, Wanted, json_text, load_rows, select
from covenq.state.seen import SeenKeys, attempt_key, body_key, delivery_key, task_key
from covenq.state.tables import ATTEMPTS, DELIVERIES, TASKS, R, Table, decoder_of

_TASKS_OF = f"""SELECT {", ".join("t." + name for name in TASKS.columns)} FROM json_each(?) named
    CROSS JOIN tasks t ON t.delivery_seq = named.value"""  # noqa: S608 - constants
_ANY_ORPHAN = "SELECT 1 FROM tasks WHERE delivery_seq IS NULL AND guid IS NOT NULL LIMIT 1"
_ORPHANS = f"""SELECT {", ".join("t." + name for name in TASKS.columns)} FROM json_each(?) named CROSS JOIN tasks t
    ON t.guid = json_extract(named.value, '$[1]') AND t.hook = json_extract(named.value, '$[0]')
    AND t.delivery_seq IS NULL"""  # noqa: S608 - constants
_BODIES = """SELECT d.payload_sha256 AS body, d.guid FROM json_each(?) named
    CROSS JOIN webhook_deliveries d ON d.seq = named.value WHERE d.payload_sha256 IS NOT NULL ORDER BY d.seq"""
_ADD_TALLY = "INSERT INTO tallies VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_ADD_ENDED = "INSERT INTO ended VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
_BODIES_DECODER = decoder_of(tuple[str, str])


def load(conn: sqlite3.Connection, wanted: Wanted, seen: SeenKeys) -> Rows:
    """As `rows.load`."""
    rows = Rows()
    deliveries: dict[int, DeliveryRow] = {}

    def add_deliveries(found: Iterable[DeliveryRow]) -> None:
        for one in found:
            deliveries[one.seq] = one
            rows.deliveries[one.hook, one.guid] = one

    by_seq = {one.created_seq: one for one in _at(conn, rows, TASKS, seen.find(map(task_key, wanted.tasks)))}
    tasks: dict[int, TaskRow] = {seq: one for seq, one in by_seq.items() if one.id in wanted.tasks}
    at = seen.find(delivery_key(hook, guid) for hook, guid in wanted.deliveries)
    add_deliveries(one for one in _at(conn, rows, DELIVERIES, at) if (one.hook, one.guid) in wanted.deliveries)
    of = {*deliveries, *(one.delivery_seq for one in tasks.values() if one.delivery_seq is not None)}
    if of:
        others = load_rows(conn, rows, TASKS, _TASKS_OF, json_text(sorted(of)))
        tasks |= {one.created_seq: one for one in others if one.created_seq not in tasks}
        add_deliveries(_at(conn, rows, DELIVERIES, sorted(of - deliveries.keys())))
    if wanted.deliveries and conn.execute(_ANY_ORPHAN).fetchone() is not None:
        orphans = load_rows(conn, rows, TASKS, _ORPHANS, json_text(list(wanted.deliveries)))
        tasks |= {one.created_seq: one for one in orphans if one.created_seq not in tasks}
    for _, task in sorted(tasks.items()):
        rows.tasks[task.id] = task
        if task.hook is not None and task.guid is not None and task.delivery_seq is None:
            rows.orphans.setdefault((task.hook, task.guid), []).append(task.id)
    newest = [(one, rows.tasks[one].attempts) for one in wanted.tasks if one in rows.tasks]
    rows.attempts = _attempts(conn, rows, {key: attempt_key(*key) for key in newest}, seen)
    at = seen.find(map(body_key, wanted.bodies))
    if at:
        for body, guid in select(conn, _BODIES_DECODER, _BODIES, "body, guid", json_text(at)):
            if body in wanted.bodies:
                rows.first_of_body.setdefault(body, guid)
    return rows


def note(conn: sqlite3.Connection, rows: Rows, seen: SeenKeys) -> None:
    """Before `rows.store`: note the keys of the rows that it will insert, and make way for an attempt that is claimed again."""
    pairs: list[tuple[int, int]] = []
    loaded, first_of_body = rows.loaded, rows.first_of_body
    for seq, delivery in rows.changed_deliveries.items():
        if seq not in loaded:
            pairs.append((delivery_key(delivery.hook, delivery.guid), seq))
            body = delivery.payload_sha256
            if body is not None and first_of_body.get(body) == delivery.guid:
                pairs.append((body_key(body), seq))
    pairs += [(task_key(task.id), seq) for seq, task in rows.changed_tasks.items() if seq not in loaded]
    begun = {
        key: attempt_key(*key) for key, attempt in rows.changed_attempts.items() if attempt.claim_seq not in loaded
    }
    pairs += [(number, rows.changed_attempts[key].claim_seq) for key, number in begun.items()]
    known = _attempts(conn, Rows(), begun, seen)
    conn.executemany("DELETE FROM task_attempts WHERE claim_seq = ?", [(one.claim_seq,) for one in known.values()])
    seen.add(pairs)
    _count(conn, rows)


def _count(conn: sqlite3.Connection, rows: Rows) -> None:
    """What the triggers of `covenq.state.schema` would count when these rows are written."""
    tallies: dict[tuple[str, str, str], int] = {}
    ended: dict[tuple[str, str], int] = {}

    loaded = rows.loaded
    words = Counter(delivery.state for delivery in rows.changed_deliveries.values())
    words.subtract(_states(loaded[seq] for seq in rows.changed_deliveries.keys() & loaded.keys()))
    tallies |= {("deliveries", word, ""): number for word, number in words.items()}
    words = Counter(task.state for task in rows.changed_tasks.values())
    words.subtract(_states(loaded[seq] for seq in rows.changed_tasks.keys() & loaded.keys()))
    tallies |= {("tasks", word, ""): number for word, number in words.items()}
    for attempt in sorted(rows.changed_attempts.values(), key=attrgetter("claim_seq")):
        old = loaded.get(attempt.claim_seq)
        if attempt.outcome is not None and (not isinstance(old, AttemptRow) or old.outcome is None):
            one = "attempts", attempt.outcome, attempt.category or ""
            tallies[one] = tallies.get(one, 0) + 1
            minute = (attempt.ended_at or "")[:16], attempt.outcome
            ended[minute] = ended.get(minute, 0) + 1
    conn.executemany(_ADD_TALLY, [(*key, number) for key, number in tallies.items() if number])
    conn.execute("DELETE FROM tallies WHERE n = 0")
    conn.executemany(_ADD_ENDED, [(*key, number) for key, number in ended.items()])


def _states(rows: Iterable[Row]) -> Counter[str]:
    return Counter(row.state for row in rows if isinstance(row, DeliveryRow | TaskRow))


def _attempts(
    conn: sqlite3.Connection, rows: Rows, keys: Mapping[tuple[str, int], int], seen: SeenKeys
) -> dict[tuple[str, int], AttemptRow]:
    """Those of these tasks and numbers, by their `attempt_key`."""
    found = _at(conn, rows, ATTEMPTS, seen.find(keys.values()))
    return {(one.task, one.attempt): one for one in found if (one.task, one.attempt) in keys}


def _at(conn: sqlite3.Connection, rows: Rows, table: Table[R], at: Sequence[int]) -> list[R]:
    """The rows at these seqs."""
    if not at:
        return []
    columns = ", ".join(f"r.{name}" for name in table.columns)
    sql = f"SELECT {columns} FROM json_each(?) named CROSS JOIN {table.name} r ON r.{table.rowid} = named.value"  # noqa: S608
    return load_rows(conn, rows, table, sql, json_text(list(at)))
