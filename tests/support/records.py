"""Entries as intake and workers append them, and records as a journal would return them, for tests of what reads them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from covenq.model import DeliveryId, at_text, task_id, task_subject
from covenq.state import schema, seen
from journal.records import Entry, Record

START = 1_800_000_000.0
"""2027-01-15T08:00:00Z; each record comes a second after the one before."""

POLICY = {"run": ["true"], "timeout_s": 600.0, "retry": {"max": 2, "backoff_s": 2.0, "cap_s": 300.0}}


def received(guid: str, hook: str = "9", *, payload: bytes | None = None, about: Any = None, **data: Any) -> Entry:
    """`delivery.received` of an issue; `data` and `about` override what it says."""
    fields = {"hook": hook, "guid": guid, "event": "issues", "action": "opened", "installation": 5, "repo_id": 6}
    fields |= {"secret": "app", "source": "http", "headers": [["X-GitHub-Event", "issues"]], "twin": None}
    told = {
        "repo": "octo/hello",
        "owner": "octo",
        "sender": "mona",
        "number": 12,
        "head_sha": None,
        "title": "It breaks",
    }
    told |= {"label": None, "labels": ["bug"]}
    body = payload if payload is not None else b'{"guid":"%s"}' % guid.encode()
    subject = DeliveryId(hook, guid).subject
    return Entry(subject, "delivery.received", fields | data, told | (about or {}), body, expect=0)


def note(kind: str, guid: str, hook: str = "9", **data: Any) -> Entry:
    """A later record of a delivery."""
    return Entry(DeliveryId(hook, guid).subject, f"delivery.{kind}", data)


def queued(guid: str, hook: str = "9", route: str = "fix", replay: int = 0, *, about: Any = None, **data: Any) -> Entry:
    """`task.queued` of a delivery for a route."""
    fields = {"hook": hook, "guid": guid, "delivery_seq": None, "route": route, "kind": "run", "replay": replay}
    fields |= {"priority": 0, "policy": POLICY, "config": "c" * 64, "installation": 5, "repo_id": 6}
    fields |= {"event": "issues", "action": "opened"}
    told = {"repo": "octo/hello", "number": 12, "head_sha": None, "key": None}
    return Entry(
        task_subject(of(guid, hook, route, replay)), "task.queued", fields | data, told | (about or {}), expect=0
    )


def of(guid: str, hook: str = "9", route: str = "fix", replay: int = 0) -> str:
    """The task's id."""
    return task_id(DeliveryId(hook, guid), route, replay)


def moved(kind: str, task: str, **data: Any) -> Entry:
    """A later record of a task."""
    return Entry(task_subject(task), f"task.{kind}", data)


def as_records(entries: Iterable[Entry], *, first: int = 1, epoch: str = "e" * 16) -> list[Record]:
    """The entries as records, with seqs from `first`."""
    records = []
    for seq, entry in enumerate(entries, first):
        payload = entry.payload
        records.append(
            Record(
                seq=seq,
                at=at_text(START + seq),
                synced=seq - 1,
                subject=entry.subject,
                kind=entry.kind,
                data=dict(entry.data),
                about=None if entry.about is None else dict(entry.about),
                payload=payload,
                payload_sha256=None if payload is None else hashlib.sha256(payload).hexdigest(),
                payload_bytes=None if payload is None else len(payload),
                dropped=None,
                prev=f"{seq - 1:064x}",
                sum=f"{seq:064x}",
                epoch=epoch,
            )
        )
    return records


class _InMemory(sqlite3.Connection):
    def __del__(self) -> None:
        self.close()


def in_memory(isolation_level: Literal["DEFERRED"] | None = None) -> sqlite3.Connection:
    """A database in memory. It is closed when nobody holds it any more: what was in it was nowhere else."""
    return sqlite3.connect(":memory:", isolation_level=isolation_level, check_same_thread=False, factory=_InMemory)


def empty_state() -> sqlite3.Connection:
    """The tables in memory."""
    conn = in_memory()
    conn.row_factory = sqlite3.Row
    schema.create(conn)
    return conn


def empty_built_state() -> sqlite3.Connection:
    """The tables in memory as they are where they are built anew: see `covenq.state.building`."""
    conn = in_memory()
    conn.row_factory = sqlite3.Row
    schema.create(conn, indexes=False)
    seen.start(conn)
    return conn


def dump_all(conn: sqlite3.Connection) -> Mapping[str, list[tuple[Any, ...]]]:
    """Every row of every table there is, and what the file has of tables, indexes and triggers."""
    things = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    found = {"things": [tuple(row) for row in conn.execute(things)]}
    for name in [name for kind, name, _ in found["things"] if kind == "table"]:
        found[name] = sorted((tuple(row) for row in conn.execute(f"SELECT * FROM {name}")), key=repr)
    return found


def dump(conn: sqlite3.Connection) -> Mapping[str, list[tuple[Any, ...]]]:
    """Every row of every table, in order."""
    tables = {"webhook_deliveries": "seq", "tasks": "created_seq", "task_attempts": "task, attempt", "position": "seq"}
    tables |= {"notes": "seq", "starts": "scope, hour", "pauses": "seq", "usage": "first"}
    return {
        name: [tuple(row) for row in conn.execute(f"SELECT * FROM {name} ORDER BY {order}")]
        for name, order in tables.items()
    }
