"""A delivery that comes late, by its record: which of its tasks are born superseded, and by which task.

The record `delivery.received` names them (`data.late`: pairs of a route and a task), since it is the first of its append: what a
crash leaves of that append, and what is routed later, is completed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from covenq.model import TOKEN, Kind, SupersededReason
from journal.records import Entry

LATE = SupersededReason.LATE.value
"""The reason of `task.superseded`."""


def late_of(data: Mapping[str, object]) -> dict[str, str]:
    """Route → the task that supersedes its task, by the data of a `delivery.received`; what is odd in it is left out."""
    pairs = data.get("late")
    return {
        one[0]: one[1]
        for one in (pairs if isinstance(pairs, list) else ())
        if isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) and TOKEN.match(text) for text in one)
    }


def born_superseded(entries: Sequence[Entry], late: Mapping[str, str]) -> Iterator[Entry]:
    """The entries, each task of a late route taking part in no superseding, and followed by its `task.superseded`."""
    for entry in entries:
        by = late.get(entry.data["route"]) if entry.kind == Kind.QUEUED else None
        if by is None:
            yield entry
        else:
            yield entry._replace(data={**entry.data, "policy": {**entry.data["policy"], "supersede": "never"}})
            # In the same append, so nobody claims it between, and no record of it is there yet that could be expected.
            yield superseded(entry.subject, by)


def superseded(subject: str, by: str, expect: int | None = None) -> Entry:
    return Entry(subject, str(Kind.SUPERSEDED), {"by_task": by, "reason": LATE}, expect=expect)
