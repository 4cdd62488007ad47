"""The API's JSON objects, from a connection and a journal: both the daemon's API and the reader of the files answer them.

Through `covenq.client.interface` the answers of the two can't be told apart.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec.structs import asdict

from covenq.config.limits import NO_CAPS, Caps
from covenq.errors import NotFound
from covenq.filter.grammar import Filter
from covenq.github import request
from covenq.model import DeliveryId, State, parse_id
from covenq.model.rows import Delivery, Dropped, OneDelivery, Page, Task
from covenq.operate.origin import origin_of
from covenq.operate.signed_later import find_signed_later
from covenq.state import query
from covenq.state.scoped import scope_of_reader
from covenq.tasks.execution.workdir import AttemptDirectory
from journal.records import Head, Record

if TYPE_CHECKING:  # lists, which are read most, need neither
    from covenq.model.answers import Event
    from covenq.model.status import ActivePause

Counted = Literal["deliveries", "tasks", "attempts"]


class ReadableJournal(Protocol):
    """The reading half of a journal."""

    @property
    def epoch(self) -> str: ...

    def read(self, after: int, only: Container[int] | None = None, *, payloads: bool = True) -> Iterator[Record]: ...

    def get(self, seq: int) -> Record | None: ...

    def head(self) -> Head: ...


def deliveries(
    conn: sqlite3.Connection, records: ReadableJournal, filter: Filter, limit: int, after: str | None
) -> Page[Delivery]:
    """A page of the deliveries that match. Raises UsageError."""
    return query.deliveries(conn, filter, limit, after, payload_of=_payload_of(records))


def tasks(
    conn: sqlite3.Connection,
    records: ReadableJournal,
    filter: Filter,
    limit: int,
    after: str | None,
    *,
    caps: Caps = NO_CAPS,
    now: float | None = None,
) -> Page[Task]:
    """A page of the tasks that match, with `waits`, what they wait for under the limits `caps`. Raises UsageError."""
    page = query.tasks(conn, filter, limit, after, payload_of=_payload_of(records))
    set_waits(conn, page.items, caps, now)
    return page


def _payload_of(records: ReadableJournal) -> query.PayloadOf:
    def payload_of(seq: int) -> bytes | None:
        record = records.get(seq)
        return None if record is None else record.payload

    return payload_of


def count(conn: sqlite3.Connection, what: Counted, filter: Filter, limit: int = 0) -> int:
    """How many match, up to a limit if there is one. Raises UsageError for a filter on the payload."""
    if what == "attempts":
        return query.count_attempts(conn, filter, limit)
    return query.count(conn, "webhook_deliveries" if what == "deliveries" else "tasks", filter, limit)


def task(conn: sqlite3.Connection, id: str, *, caps: Caps = NO_CAPS, now: float | None = None) -> Task:
    """One task, with `waits`. Raises NotFound."""
    found = query.task(conn, id)
    set_waits(conn, [found], caps, now)
    return found


def set_waits(conn: sqlite3.Connection, tasks: Iterable[Task], caps: Caps, now: float | None) -> None:
    """Set `waits` of queued tasks, None of others."""
    waiting = None
    for one in tasks:
        if one.state != State.QUEUED:
            one.waits = None
            continue
        if waiting is None:
            from covenq.tasks.scheduling.waiting import reasons  # most answers have no queued task

            waiting = reasons(conn, time.time() if now is None else now, caps)
        one.waits = waiting(one.id)


def delivery(conn: sqlite3.Connection, records: ReadableJournal, id: str) -> OneDelivery:
    """One delivery with the headers it came with. Raises NotFound, Ambiguous, UsageError."""
    found = query.delivery(conn, *parse_id(id))
    whole = with_headers(records, found, records.get(found.seq))
    whole.signed_later = find_signed_later(conn, records, found)
    return whole


def with_headers(records: ReadableJournal, found: Delivery, record: Record | None) -> OneDelivery:
    """A delivery with the headers of its `record`."""
    by = found.redacted or found.payload_dropped
    return OneDelivery(
        **asdict(found),
        headers=None if record is None else headers_of(record),
        dropped_by=None if by is None else dropped_by(records, by),
        origin=origin_of(record),
    )


def dropped_by(records: ReadableJournal, seq: int) -> Dropped:
    """The record that erased or dropped a delivery's content."""
    record = records.get(seq)
    data = {} if record is None else record.data
    return Dropped(
        seq=seq,
        at=None if record is None else record.at,
        kind=None if record is None else record.kind,
        by=_text(data.get("by")),
        reason=_text(data.get("reason")),
    )


def headers_of(record: Record) -> list[list[str]] | None:
    """The headers as the record has them: pairs of texts. A record is checked, not trusted; what is no pair is left out."""
    found = record.data.get("headers")
    if not isinstance(found, list):
        return None
    pairs = [one for one in found if isinstance(one, list) and len(one) == 2]
    return [[str(name), "" if value is None else str(value)] for name, value in pairs]


def _text(found: object) -> str | None:
    return None if found is None else str(found)


def payload(conn: sqlite3.Connection, records: ReadableJournal, id: str) -> bytes:
    """The received bytes. Raises NotFound, also where they were dropped; Ambiguous, UsageError."""
    return body(records, query.delivery(conn, *parse_id(id)))[0]


def body(records: ReadableJournal, found: Delivery) -> tuple[bytes, str]:
    """A delivery's received bytes, and their format: "json", "form", or "" where its headers don't give one.

    Raises NotFound.
    """
    return body_of(found, records.get(found.seq))


def body_of(found: Delivery, record: Record | None) -> tuple[bytes, str]:
    """As `body`, of a delivery whose record was read."""
    name = DeliveryId(found.hook, found.guid)
    if record is None:
        raise NotFound(f"the record of {name} can't be read", hint="Run `covenq verify`.")
    if record.payload is None:
        raise NotFound(f"the payload of {name} was dropped by record {record.dropped}", hint="Only its hash was kept.")
    form = request.is_form(request.content_type_of(record.data.get("headers")))
    return record.payload, "" if form is None else "form" if form else "json"


def decoded_body(records: ReadableJournal, found: Delivery) -> bytes:
    """A delivery's JSON: of a form its decoded field `payload`, else the received bytes. Raises NotFound."""
    content, kind = body(records, found)
    if kind == "json":
        return content
    if kind == "form" or request.is_form_with_json(content):
        return request.json_of(content, request.FORM_TYPE)
    if request.decode(content) is None:
        raise NotFound(f"the payload of {found.hook}/{found.guid} is no JSON", hint="Ask for it as it was received.")
    return content


def event(record: Record) -> Event:
    """One record's object in the event stream."""
    from covenq.model.answers import Event

    return Event(record.seq, record.at, record.subject, record.kind)


def counts(conn: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """{"deliveries": {state: n}, "tasks": {state: n}}, without states that count 0."""
    return {what: {state: n for state, n in found.items() if n} for what, found in query.counts(conn).items()}


def pauses(conn: sqlite3.Connection) -> list[ActivePause]:
    """What is paused, oldest first."""
    from covenq.model.status import ActivePause

    columns = ", ".join(ActivePause.__struct_fields__)
    return [ActivePause(*row) for row in conn.execute(f"SELECT {columns} FROM pauses ORDER BY seq")]  # noqa: S608 - constants


_ERASED = """SELECT 1 FROM tasks t JOIN webhook_deliveries d ON d.seq = t.delivery_seq
    WHERE t.id = ? AND d.redacted IS NOT NULL"""


def is_erased(conn: sqlite3.Connection, task: str) -> bool:
    """Whether the content of the task's delivery was erased, as far as is folded."""
    return conn.execute(_ERASED, (task,)).fetchone() is not None


def log(
    conn: sqlite3.Connection, data: Path, task: str, attempt: int, stream: str, last: int, offset: int | None = None
) -> bytes:
    """The last `last` bytes of what an attempt wrote, as it is now; `stream` is "stdout", "stderr" or "result". Raises NotFound.

    With `offset` the bytes from there on, as many at most; none where it ends there. What was erased is shown to nobody, also
    where its file could not be removed yet.
    """
    if scope_of_reader(conn) is not None and query.attempt_location(conn, task, attempt) is None:
        raise _no_output(task, attempt, stream)
    if is_erased(conn, task):
        raise NotFound(f"what {task[:80]} wrote was erased", hint=f"`covenq show {task[:80]}` has what is left of it.")
    try:
        directory = AttemptDirectory.for_attempt(data, task, attempt)
    except ValueError:
        raise NotFound(f"no attempt {attempt} of {task[:80]!r}") from None
    path = {"stdout": directory.stdout, "stderr": directory.stderr}.get(stream, directory.result)
    try:
        with directory.open(path.name) as file:
            size = os.fstat(file.fileno()).st_size
            at = max(0, size - last) if offset is None else offset
            if at >= size:
                return b""
            file.seek(at)
            return file.read(last)
    except OSError as error:
        from covenq.tasks.execution.shortage import is_shortage  # no list needs what it imports

        if is_shortage(error):  # it says nothing about the file
            raise
        raise _no_output(task, attempt, stream) from None


def _no_output(task: str, attempt: int, stream: str) -> NotFound:
    hint = "Retention may have removed it; see `covenq show`."
    return NotFound(f"attempt {attempt} of {task[:80]} has no {stream}", hint=hint)


def recorded_result(
    conn: sqlite3.Connection, records: ReadableJournal, task: str, attempt: int, last: int, offset: int | None = None
) -> bytes | None:
    """The result of an attempt that the journal has, cut as `log` cuts; None if it has none, or none any more."""
    found = query.attempt_location(conn, task, attempt)
    if found is None or found.result_seq is None or is_erased(conn, task):
        return None
    content = _payload_of(records)(found.result_seq)
    if content is None:
        return None
    at = max(0, len(content) - last) if offset is None else offset
    return content[at : at + last]
