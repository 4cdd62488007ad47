"""The audit: one stream, oldest first, of what senders, operators, tokens and the system did, out of the journal and its logs.

The journal's records come in their own order, and the lines of the logs (`audit_logs`) where their times put them between. A
cursor has a place in each, so that who follows it meets each line once, whatever was appended or moved on meanwhile.

A page reads SCAN_MAX records and lines at most: who asks for a month asks many times. The newest lines are looked for from the
end backwards, through LOOK_BACK records at most.
"""

from __future__ import annotations

import heapq
import re
import sqlite3
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, get_args

from msgspec import Struct
from msgspec.structs import asdict

from covenq.errors import NotFound, UsageError
from covenq.filter.grammar import Filter, delivery_fields, task_fields
from covenq.filter.tree import Age, Pattern
from covenq.model import seconds_or
from covenq.model.audit import Audit, AuditLine, Doer, What
from covenq.operate.inspect.audit_logs import LOGS, LogPosition, LogStep, newest_of, steps
from covenq.operate.inspect.audit_records import line_of, with_context
from covenq.operate.inspect.tail import seq_at
from covenq.operate.inspect.view import ReadableJournal
from covenq.state import query, schema

SCAN_MAX = 2000
"""Records and lines that a page reads at most."""
LOOK_BACK = 20_000
"""Records that are looked through for the newest lines."""
CHUNK = 500
LIMIT_MAX = 1000
_CURSOR = re.compile(r"([0-9]{1,18})((?:\.[a-z][0-9]{1,20}-[0-9]{1,18})*)\Z")


def answer(
    conn: sqlite3.Connection,
    records: ReadableJournal,
    data: Path,
    asked: Wanted,
    *,
    after: str | None,
    newest: int | None,
    limit: int,
    now: float,
) -> Audit:
    """The `newest` lines, or those after a cursor, or the first ones; at most LIMIT_MAX. Raises UsageError."""
    if after is None and newest is not None:
        return newest_lines(conn, records, data, asked, min(newest, LIMIT_MAX), now=now)
    return page(conn, records, data, asked, cursor_of(after), min(limit or LIMIT_MAX, LIMIT_MAX), now=now)


class Wanted(Struct, frozen=True, kw_only=True):
    """Which lines: of deliveries and tasks that match, by whom (a kind, and a pattern of names or None for any), and what."""

    filter: Filter
    who: tuple[tuple[Doer, Pattern | None], ...] = ()
    what: frozenset[str] = frozenset()
    """Both empty: any."""


class Cursor(NamedTuple):
    """A place in the journal, and in each log by its letter; what isn't in it begins."""

    seq: int
    places: Mapping[str, LogPosition]

    def text(self) -> str:
        return f"{self.seq}" + "".join(f".{letter}{file}-{at}" for letter, (file, at) in sorted(self.places.items()))


def wanted(filter: Filter, who: str | None, what: str | None) -> Wanted:
    """`who` is KIND or KIND:NAME, `*` is any text in a name; `what` words; several are divided by commas. Raises UsageError."""
    if filter.needs_payload:
        raise UsageError(
            "the audit can't be filtered by payloads", hint="List the deliveries with that filter instead."
        )
    words = frozenset() if what is None else frozenset(what.split(","))
    unknown = sorted(words - set(get_args(What)))
    if unknown:
        raise UsageError(
            f"{unknown[0][:40]!r} is nothing that is told", hint=f"It is one of {', '.join(get_args(What))}."
        )
    return Wanted(filter=filter, who=() if who is None else tuple(map(_doer, who.split(","))), what=words)


def _doer(text: str) -> tuple[Doer, Pattern | None]:
    word, colon, name = text.partition(":")
    kind = next((one for one in get_args(Doer) if one == word), None)
    if kind is None:
        raise UsageError(
            f"{word[:40]!r} is nobody",
            hint=f"It is {', '.join(get_args(Doer))}, or one of them and a name: token:deploy.",
        )
    return kind, Pattern(tuple(name.split("*"))) if colon else None


def cursor_of(text: str | None) -> Cursor:
    """Empty, and None, is the beginning. Raises UsageError."""
    if not text:
        return Cursor(0, {})
    found = _CURSOR.match(text)
    if found is None:
        raise UsageError(f"{text[:40]!r} is no cursor of the audit", hint="Pass `next` of the page before.")
    places = {}
    for part in found[2].split(".")[1:]:
        file, _, offset = part[1:].partition("-")
        places[part[0]] = LogPosition(file, int(offset))
    return Cursor(int(found[1]), places)


def page(
    conn: sqlite3.Connection,
    records: ReadableJournal,
    data: Path,
    asked: Wanted,
    cursor: Cursor,
    limit: int,
    *,
    now: float,
) -> Audit:
    """The next `limit` lines after a cursor that match."""
    span = _span(conn, records, asked.filter, now)
    heads: dict[str, tuple[_Step, Iterator[_Step]]] = {}
    seq, places = min(cursor.seq, records.head().seq), dict(cursor.places)  # beyond the head it is of another history

    def pull(source: str, feed: Iterator[_Step]) -> None:
        step = next(feed, None)
        if step is None:
            heads.pop(source, None)
        else:
            heads[source] = step, feed

    pull("", _of_records(conn, records, asked, max(seq, span.first - 1), span.last, now))
    for letter, log in LOGS.items():
        pull(letter, _of_log(steps(data, log, places.get(letter)), asked, now))
    items: list[AuditLine] = []
    for _ in range(SCAN_MAX):
        if not heads or len(items) == limit:
            break
        source = min(heads, key=lambda one: (heads[one][0].at, one))
        step, feed = heads[source]
        if isinstance(step.place, int):
            seq = step.place
        else:
            places[source] = step.place
        if step.line is not None:
            items.append(step.line)
        pull(source, feed)
    return Audit(items, Cursor(seq, places).text(), bool(heads), whole=True)


def newest_lines(
    conn: sqlite3.Connection, records: ReadableJournal, data: Path, asked: Wanted, number: int, *, now: float
) -> Audit:
    """The newest `number` lines that match, of the newest LOOK_BACK records in the span that the filter has."""
    span = _span(conn, records, asked.filter, now)
    places: dict[str, LogPosition] = {}
    found: list[list[AuditLine]] = []
    for letter, log in LOGS.items():
        lines, place = newest_of(data, log)
        found.append([line for line in lines if _matches(asked, line, None, now)])
        if place is not None:
            places[letter] = place
    of_journal: list[AuditLine] = []
    last, least = span.last, max(span.first, span.last - LOOK_BACK + 1)
    while last >= least and len(of_journal) < number:
        first = max(least, last - CHUNK + 1)
        chunk = [step.line for step in _of_records(conn, records, asked, first - 1, last, now)]
        of_journal = [line for line in chunk if line is not None] + of_journal
        last = first - 1
    merged = list(heapq.merge(of_journal, *found, key=attrgetter("at")))
    whole = len(of_journal) >= number or least == span.first
    return Audit(merged[max(0, len(merged) - number) :], Cursor(span.last, places).text(), False, whole)


# ---- the journal


class _Span(NamedTuple):
    """The records that can match: first and last, both counted."""

    first: int
    last: int


def _span(conn: sqlite3.Connection, records: ReadableJournal, filter: Filter, now: float) -> _Span:
    """By the terms of time that the filter has, and as far as all is folded."""
    position = schema.position(conn)
    first, last = 1, 0 if position is None else position.witness.seq
    for node in filter.node.nodes:
        if isinstance(node, Age):
            seq = seq_at(records, seconds_or(node.moment(now), now))
            if node.op.startswith(">"):
                first = max(first, seq + 1)
            else:
                last = min(last, seq)
    return _Span(first, last)


class _Step(NamedTuple):
    """A record, or a line of a log: when it was, where to go on behind it, and its line if that matches."""

    at: str
    place: int | LogPosition
    line: AuditLine | None


def _of_records(
    conn: sqlite3.Connection, records: ReadableJournal, asked: Wanted, after: int, last: int, now: float
) -> Iterator[_Step]:
    if after >= last:
        return
    for record in records.read(after, payloads=False):
        if record.seq > last:
            return
        line = line_of(record)
        if line is not None:
            line = with_context(conn, record, line) if _may_match(asked, line) else None
        if line is not None and not _matches(asked, line, conn, now):
            line = None
        yield _Step(record.at, record.seq, line)


def _of_log(feed: Iterator[LogStep], asked: Wanted, now: float) -> Iterator[_Step]:
    at = ""
    for place, line in feed:
        at = at if line is None else line.at
        yield _Step(at, place, line if line is not None and _matches(asked, line, None, now) else None)


# ---- what matches


def _may_match(asked: Wanted, line: AuditLine) -> bool:
    """Before rows are looked up, which say the name of a worker, and what a filter asks."""
    if asked.what and line.what not in asked.what:
        return False
    return not asked.who or any(kind == line.who.kind for kind, _ in asked.who)


def _matches(asked: Wanted, line: AuditLine, conn: sqlite3.Connection | None, now: float) -> bool:
    """`conn` has the rows of what the line is about; None of a line of a log."""
    if not _may_match(asked, line):
        return False
    if asked.who and not any(
        kind == line.who.kind and (name is None or name.matches(line.who.name or "")) for kind, name in asked.who
    ):
        return False
    return not asked.filter.node.nodes or asked.filter.matches(_fields(line, conn), now=now)


def _fields(line: AuditLine, conn: sqlite3.Connection | None) -> Mapping[str, object]:
    """What a filter's terms are held against: the delivery or task as it is now; time, and the reason, are the line's own."""
    own = {"at": line.at, "reason": line.reason}
    if conn is not None:
        row = _row_fields(conn, line)
        if row is not None:
            return {**row, **own}
    whole = f"{line.hook}/{line.guid}" if line.hook and line.guid else None
    owner = None if line.repo is None else line.repo.partition("/")[0]
    names = "hook guid event action repo repo_id installation number route".split()
    return {
        **{name: getattr(line, name) for name in names},
        **own,
        "owner": owner,
        "id": line.task if line.task is not None else [line.guid, whole],
        "worker": line.who.name if line.who.kind == "system" else None,
        "secret": line.on.id if line.on.kind == "secret" else None,
        "words": [line.repo, whole or line.guid, line.task],
    }


def _row_fields(conn: sqlite3.Connection, line: AuditLine) -> Mapping[str, object] | None:
    try:
        if line.task is not None:
            task = query.task(conn, line.task)
            delivery = _delivery(conn, task.hook, task.guid)
            return task_fields(asdict(task), delivery)
        if line.guid is not None:
            found = query.delivery(conn, line.hook, line.guid)
            return delivery_fields(asdict(found), [asdict(one) for one in query.tasks_of(conn, found.hook, found.guid)])
    except NotFound:
        return None
    return None


def _delivery(conn: sqlite3.Connection, hook: str | None, guid: str | None) -> Mapping[str, object] | None:
    try:
        return None if guid is None else asdict(query.delivery(conn, hook, guid))
    except NotFound:
        return None
