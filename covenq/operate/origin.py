"""Where an imported delivery comes from, by its record. A record is checked, not trusted: what is of another type is left out."""

from __future__ import annotations

from collections.abc import Mapping

from covenq.model.rows import Origin
from journal.records import Record

FETCHED = "reconcile"
"""The reason of what a pass over GitHub's delivery log has fetched."""
_INTEGERS = 1 << 63


def origin_of(record: Record | None) -> Origin | None:
    """None for what was not imported."""
    found = None if record is None else record.data.get("origin")
    if not isinstance(found, dict):
        return None
    seq, redelivery = found.get("seq"), found.get("redelivery")
    return Origin(
        format=_text(found, "format"),
        received_at=_text(found, "received_at"),
        seq=seq if type(seq) is int and abs(seq) < _INTEGERS else None,
        state=_text(found, "state"),
        id=_text(found, "id"),
        delivered_at=_text(found, "delivered_at"),
        redelivery=redelivery if isinstance(redelivery, bool) else None,
        body=_text(found, "body"),
        by=_text(found, "by"),
        reason=_text(found, "reason"),
    )


def is_unverified(record: Record) -> bool:
    """Whether its body is the JSON of GitHub's delivery log, which no secret signed as it stands."""
    found = origin_of(record)
    return found is not None and found.body == "unverified"


def _text(found: Mapping[str, object], name: str) -> str | None:
    """A text, or a whole number in digits: the id was one in earlier records."""
    value = found.get(name)
    return str(value) if isinstance(value, str) or type(value) is int else None
