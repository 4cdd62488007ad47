"""Deliveries that come late: those of whose key a task was made by a delivery that GitHub sent later.

By order in the journal a task of theirs would be the newest of its key; by when GitHub sent it, it isn't, and is never to run
where the route supersedes. So the newest task of that key is looked at: if its delivery was sent later, the late task is born
superseded by it (`covenq.routing.late`), takes part in no superseding, and runs if an operator requeues it.

Where a task of the key is recorded at this moment, it isn't found here. Then the late one is superseded as any older one is
(`covenq.tasks.scheduling.supersede`), which goes by the same order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from covenq.model import Kind
from covenq.tasks.scheduling.supersede import NEWEST
from journal.records import Entry

MomentOf = Callable[[sqlite3.Connection], int | None]
"""The moment of a delivery (`covenq.state.send_order`), by the state as it is now; None where it comes now."""


def find_late(entries: Sequence[Entry], sent_at: MomentOf, rows: Callable[[], sqlite3.Connection]) -> dict[str, str]:
    """Of a decision's entries the routes whose tasks are late, and the task that supersedes each.

    `rows` gives the state as it is now, and is called only where a route supersedes.
    """
    found: dict[str, str] = {}
    for entry in entries:
        by = _superseded_by(entry, sent_at, rows)
        if by is not None:
            found[entry.data["route"]] = by
    return found


def _superseded_by(entry: Entry, sent_at: MomentOf, rows: Callable[[], sqlite3.Connection]) -> str | None:
    if entry.kind != Kind.QUEUED or entry.data["policy"].get("supersede") in (None, "never"):
        return None
    key = (entry.about or {}).get("key")
    if key is None:
        return None
    conn = rows()
    newest, moment = conn.execute(NEWEST, (entry.data["route"], key)).fetchone(), sent_at(conn)
    return None if newest is None or moment is None or newest["sent_at"] <= moment else str(newest["id"])
