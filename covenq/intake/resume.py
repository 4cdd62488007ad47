"""Completes routing of durable deliveries that a crash, a pause or a failed rule interrupted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from covenq.config.load import Config
from covenq.github import request
from covenq.intake.receive import decide
from covenq.model import TOKEN, DeliveryId, Kind, State, task_subject
from covenq.model.rows import DeliveryProgress
from covenq.routing.decide import Decision, route
from covenq.routing.imported import IMPORTED, ignored, is_without_tasks
from covenq.routing.late import LATE, born_superseded, late_of, superseded
from journal.append import append_known
from journal.interface import Journal
from journal.records import Appended, Entry, Record

log = logging.getLogger("covenq.intake")


def route_received(
    journal: Journal,
    config: Config,
    row: DeliveryProgress,
    record: Record,
    clock: Callable[[], float] = time.time,
) -> Decision:
    """Route a delivery that is still `received`, by today's routes: queue its tasks, or record why it is ignored.

    `row` is the delivery (its `last_seq` is what `delivery.ignored` is appended against), `record` its
    `delivery.received`. One that was imported without tasks is ignored, whatever they are. What an earlier call that was cut
    short, or another caller, appended already is left as it is. A Decision in `received` means that a rule failed again. Raises
    JournalError.
    """
    delivery = DeliveryId(row.hook, row.guid)
    if is_without_tasks(record.data):
        left = ignored(delivery, config.sha256)
        _append_ignored(journal, left, row.last_seq)
        return Decision(State.IGNORED, (left,), reason=IMPORTED)
    decision = decide(config, delivery, _row(record), _payload(record), clock, record.seq)
    if decision.state is State.IGNORED:
        _append_ignored(journal, decision.entries[0], row.last_seq)
    else:
        _append_missing(journal, list(born_superseded(decision.entries, late_of(record.data))))
    return decision


def resume(journal: Journal, config: Config, clock: Callable[[], float] = time.time) -> DeliveryId | None:
    """Complete the append that a crash cut short. Called once after opening, before anything else is appended.

    After a crash a prefix of an append may survive. A delivery that survives without all of its tasks was never acknowledged;
    but when it is sent again the answer will be "duplicate", so the missing tasks are queued now, and a task that is late, by the
    delivery's record, is superseded. A surviving prefix is at the
    end of the log, so only the newest delivery can be affected. A delivery that survives without any task is `received`, and
    `route_received` handles it. Returns the delivery that was completed. Raises JournalError.
    """
    record = _newest_delivery(journal)
    named = None if record is None else record.data.get("tasks")
    if record is None or not isinstance(named, list):
        return None
    tasks = [one for one in named if isinstance(one, str) and TOKEN.match(one)]
    newest = {one: journal.last(task_subject(one)) for one in tasks}
    missing = [one for one, last in newest.items() if last is None]
    if len(missing) == len(tasks):
        return None
    _, hook, guid = record.subject.split(".")
    delivery = DeliveryId(hook, guid)
    late = late_of(record.data)
    unfinished = [
        superseded(last.subject, late[last.data["route"]], expect=last.seq)
        for last in newest.values()
        if last is not None and last.kind == Kind.QUEUED and last.data.get("route") in late
    ]
    if unfinished:
        _append_missing(journal, unfinished)
    if not missing:
        return delivery if unfinished else None
    decision = route(
        config,
        delivery,
        _row(record),
        _payload(record),
        delivery_seq=record.seq,
        only=missing,
        now=clock,
    )
    if decision.state is not State.QUEUED or not decision.entries:
        log.warning(
            "%s: %d of its tasks were lost in a crash, and today's routes don't make them", delivery, len(missing)
        )
        return None
    _append_missing(journal, list(born_superseded(decision.entries, late)))
    return delivery


def _newest_delivery(journal: Journal) -> Record | None:
    """The `delivery.received` whose append is the last of the log; None if the log ends with anything else."""
    seq = journal.head().seq
    while seq > 0:
        record = journal.get(seq)
        if record is None or record.kind == Kind.RECEIVED:
            return record
        if record.kind == Kind.QUEUED:
            if record.data.get("replay") != 0:
                return None
        elif record.kind == Kind.SUPERSEDED and record.data.get("reason") == LATE:
            pass  # of the same append
        elif record.kind.startswith(("delivery.", "task.")):
            return None
        seq -= 1
    return None


def _append_ignored(journal: Journal, ignored: Entry, last: int) -> None:
    """Append it against the delivery's newest record, unless that record decides about the delivery; a repetition doesn't."""
    while True:
        result = append_known(journal, [Entry(ignored.subject, ignored.kind, ignored.data, expect=last)])
        if isinstance(result, Appended):
            return
        newest = journal.get(result.last)
        if newest is None or newest.kind not in (Kind.RECEIVED, Kind.REPEATED, Kind.CONFLICTED):
            return
        last = result.last


def _append_missing(journal: Journal, entries: Sequence[Entry]) -> None:
    """Append the entries that don't exist yet: a Conflict names one that does, and the others are appended without it."""
    left = list(entries)
    while left:
        result = append_known(journal, left)
        if isinstance(result, Appended):
            return
        left = [entry for entry in left if entry.subject != result.subject]


def _row(record: Record) -> dict[str, object]:
    about = record.about or {}
    return {
        "event": None,
        **record.data,
        **about,
        "seq": record.seq,
        "payload_bytes": record.payload_bytes,
        "received_at": record.at,
    }


def _payload(record: Record) -> Callable[[], object]:
    return lambda: request.decode(record.payload)
