"""Deliveries that come late: those of whose key a task was made by a delivery that GitHub sent later.

By order in the journal a task of theirs would be the newest of its key, and would supersede what GitHub sent after it; or run
again what is out of date. So where the route supersedes, the newest task of that key is looked at: if its delivery was sent
later, the late task is born superseded by it (`covenq.routing.late`), takes part in no superseding, and runs if an operator
requeues it.

By induction tasks of a key that take part are in the order in which GitHub sent them, so that the newest of them decides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence

from covenq.model import Kind
from covenq.operate.origin import origin_of
from covenq.tasks.scheduling.supersede import NEWEST
from covenq.text import instant
from journal.interface import Journal
from journal.records import Entry


def find_late(
    entries: Sequence[Entry], sent_at: float, journal: Journal, rows: Callable[[], sqlite3.Connection]
) -> dict[str, str]:
    """Of a decision's entries the routes whose tasks are late, and the task that supersedes each.

    `sent_at` is when GitHub first sent the delivery, in seconds since 1970; `rows` gives the state as it is now.
    """
    found: dict[str, str] = {}
    for entry in entries:
        by = _superseded_by(entry, sent_at, journal, rows)
        if by is not None:
            found[entry.data["route"]] = by
    return found


def _superseded_by(
    entry: Entry, sent_at: float, journal: Journal, rows: Callable[[], sqlite3.Connection]
) -> str | None:
    if entry.kind != Kind.QUEUED or entry.data["policy"].get("supersede") in (None, "never"):
        return None
    key = (entry.about or {}).get("key")
    if key is None:
        return None
    newest = rows().execute(NEWEST, (entry.data["route"], key)).fetchone()
    if newest is None or _sent_at(newest, journal) <= sent_at:
        return None
    return str(newest["id"])


def _sent_at(task: Mapping[str, object] | sqlite3.Row, journal: Journal) -> float:
    """When the delivery of a task was sent, as far as it is known; what came by webhook came when it was sent."""
    seq = task["delivery_seq"]
    origin = origin_of(journal.get(seq)) if isinstance(seq, int) else None
    sent = None if origin is None else instant(origin.delivered_at)
    return sent if sent is not None else instant(str(task["created_at"])) or 0.0
