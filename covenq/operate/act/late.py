"""Deliveries that come late: a task of theirs is superseded at once where a later delivery of its key came before.

By order in the journal it would be the newest of its key, and would supersede what GitHub sent after it; or run again what is out
of date. So where the route supersedes, the newest task of that key is looked at: if its delivery was sent later, the late task is
born superseded by it (reason `late`), takes part in no superseding itself, and runs if an operator requeues it.

By induction tasks of a key that take part are in the order in which GitHub sent them, so that the newest of them decides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence

from covenq.model import Kind
from covenq.operate.origin import origin_of
from covenq.text import instant
from journal.interface import Journal
from journal.records import Entry

LATE = "late"

_NEWEST = """SELECT id, delivery_seq, created_at FROM tasks INDEXED BY tasks_rivals
    WHERE route = ? AND key = ? AND supersede IS NOT NULL AND state <> 'cancelled' ORDER BY created_seq DESC LIMIT 1"""


def supersede_late(
    entries: Sequence[Entry], sent_at: float, journal: Journal, rows: Callable[[], sqlite3.Connection]
) -> Iterator[Entry]:
    """The entries of a decision, and after each task that is late that it is superseded.

    `sent_at` is when GitHub first sent the delivery, in seconds since 1970; `rows` gives the state as it is now.
    """
    for entry in entries:
        by = _superseded_by(entry, sent_at, journal, rows)
        if by is None:
            yield entry
        else:
            yield entry._replace(data={**entry.data, "policy": {**entry.data["policy"], "supersede": "never"}})
            # In the same append, so nobody claims it between, and no record of it is there yet that could be expected.
            yield Entry(entry.subject, str(Kind.SUPERSEDED), {"by_task": by, "reason": LATE})


def _superseded_by(
    entry: Entry, sent_at: float, journal: Journal, rows: Callable[[], sqlite3.Connection]
) -> str | None:
    if entry.kind != Kind.QUEUED or entry.data["policy"].get("supersede") in (None, "never"):
        return None
    key = (entry.about or {}).get("key")
    if key is None:
        return None
    newest = rows().execute(_NEWEST, (entry.data["route"], key)).fetchone()
    if newest is None or _sent_at(newest, journal) <= sent_at:
        return None
    return str(newest["id"])


def _sent_at(task: Mapping[str, object] | sqlite3.Row, journal: Journal) -> float:
    """When the delivery of a task was sent, as far as it is known; what came by webhook came when it was sent."""
    seq = task["delivery_seq"]
    origin = origin_of(journal.get(seq)) if isinstance(seq, int) else None
    sent = None if origin is None else instant(origin.delivered_at)
    return sent if sent is not None else instant(str(task["created_at"])) or 0.0
