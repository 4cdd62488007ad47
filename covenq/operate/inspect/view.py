"""The API's JSON objects, from a connection and a journal: both the daemon's API and the reader of the files answer them.

Through `covenq.client.interface` the answers of the two can't be told apart.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

from covenq.config.limits import NO_CAPS, Caps
from covenq.errors import NotFound
from covenq.filter.grammar import Filter
from covenq.model import DeliveryId, JsonObject, State, parse_id
from covenq.state import query
from covenq.tasks.execution.workdir import AttemptDirectory
from journal.records import Head, Record

What = Literal["deliveries", "tasks", "attempts"]
Counted = Literal["deliveries", "tasks"]


class ReadableJournal(Protocol):
    """The reading half of a journal."""

    @property
    def epoch(self) -> str: ...

    def read(self, after: int) -> Iterator[Record]: ...

    def get(self, seq: int) -> Record | None: ...

    def head(self) -> Head: ...


def items(
    conn: sqlite3.Connection,
    records: ReadableJournal,
    what: What,
    filter: Filter,
    limit: int,
    after: str | None,
    *,
    caps: Caps = NO_CAPS,
    now: float | None = None,
) -> JsonObject:
    """A page of what matches: {"items": […], "next": …}.

    Of attempts, those of the tasks that match. Tasks have `waits`, what they wait for under the limits `caps`. Raises
    UsageError.
    """
    if what == "attempts":
        found = query.latest_attempts(conn, filter, limit, after)
        return {"items": found.items, "next": found.next}

    def payload_of(seq: int) -> bytes | None:
        record = records.get(seq)
        return None if record is None else record.payload

    ask = query.deliveries if what == "deliveries" else query.tasks
    page = ask(conn, filter, limit, after, payload_of=payload_of)
    if what == "tasks":
        _set_waits(conn, page.items, caps, now)
    return {"items": page.items, "next": page.next}


def count(conn: sqlite3.Connection, what: Counted, filter: Filter) -> int:
    """How many match. Raises UsageError for a filter on the payload."""
    return query.count(conn, "webhook_deliveries" if what == "deliveries" else "tasks", filter)


def task(conn: sqlite3.Connection, id: str, *, caps: Caps = NO_CAPS, now: float | None = None) -> JsonObject:
    """One task, with `waits`. Raises NotFound."""
    found = query.task(conn, id)
    _set_waits(conn, [found], caps, now)
    return found


def _set_waits(conn: sqlite3.Connection, tasks: Iterable[JsonObject], caps: Caps, now: float | None) -> None:
    """Set `waits`: {"word", "why", "position"} of queued tasks, None of others."""
    waiting = None
    for one in tasks:
        if one["state"] != State.QUEUED:
            one["waits"] = None
            continue
        if waiting is None:
            from covenq.tasks.scheduling.waiting import Waiting  # most answers have no queued task

            waiting = Waiting(conn, time.time() if now is None else now, caps)
        one["waits"] = waiting.reason_for(one["id"])


def delivery(conn: sqlite3.Connection, records: ReadableJournal, id: str) -> JsonObject:
    """One delivery with the headers it came with, as `headers`.

    With `dropped_by`, if its content is gone: {"seq", "at", "kind", "by", "reason"} of the record that erased or dropped it.
    Raises NotFound, Ambiguous, UsageError.
    """
    found = query.delivery(conn, *parse_id(id))
    record = records.get(found["seq"])
    by = found["redacted"] or found["payload_dropped"]
    return {
        **found,
        "headers": None if record is None else record.data.get("headers"),
        "dropped_by": None if by is None else dropped_by(records, by),
    }


def dropped_by(records: ReadableJournal, seq: int) -> JsonObject:
    record = records.get(seq)
    data = {} if record is None else record.data
    return {
        "seq": seq,
        "at": None if record is None else record.at,
        "kind": None if record is None else record.kind,
        "by": data.get("by"),
        "reason": data.get("reason"),
    }


def payload(conn: sqlite3.Connection, records: ReadableJournal, id: str) -> bytes:
    """The received bytes. Raises NotFound, also where they were dropped; Ambiguous, UsageError."""
    return body(records, query.delivery(conn, *parse_id(id)))[0]


def body(records: ReadableJournal, found: JsonObject) -> tuple[bytes, str]:
    """A delivery's received bytes, and their format: "json", "form", or "" where its headers don't give one.

    Raises NotFound.
    """
    name = DeliveryId(found["hook"], found["guid"])
    record = records.get(found["seq"])
    if record is None:
        raise NotFound(f"the record of {name} can't be read", hint="Run `covenq verify`.")
    if record.payload is None:
        raise NotFound(f"the payload of {name} was dropped by record {record.dropped}", hint="Only its hash was kept.")
    said = next((value for name, value in record.data.get("headers") or () if name.lower() == "content-type"), "")
    kind = said.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return record.payload, "form"
    return record.payload, "json" if kind == "application/json" or kind.endswith("+json") else ""


def event(record: Record) -> JsonObject:
    """One record's object in the event stream."""
    return {"seq": record.seq, "at": record.at, "subject": record.subject, "kind": record.kind}


def counts(conn: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """{"deliveries": {state: n}, "tasks": {state: n}}, without states that count 0."""
    return {what: {state: n for state, n in found.items() if n} for what, found in query.counts(conn).items()}


def pauses(conn: sqlite3.Connection) -> list[JsonObject]:
    """What is paused, oldest first: {"what", "name", "repo", "since", "seq", "by", "reason"}.

    `name` of a repository is its number as text, where a delivery of it had been seen; `repo` its name, unless it was erased.
    """
    found = conn.execute("SELECT what, name, repo, since, seq, by, reason FROM pauses ORDER BY seq").fetchall()
    return [dict(row) for row in found]


def log(data: Path, task: str, attempt: int, stream: str, last: int) -> bytes:
    """The last `last` bytes of what an attempt wrote, as it is now; `stream` is "stdout" or "stderr". Raises NotFound."""
    try:
        directory = AttemptDirectory.for_attempt(data, task, attempt)
    except ValueError:
        raise NotFound(f"no attempt {attempt} of {task[:80]!r}") from None
    path = directory.stdout if stream == "stdout" else directory.stderr
    try:
        # A command may have put a link or a pipe in the file's place: neither is followed or waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - last))
            return file.read(last)
    except OSError:
        raise NotFound(
            f"attempt {attempt} of {task[:80]} has no {stream}",
            hint="Retention may have removed it; see `covenq show`.",
        ) from None
