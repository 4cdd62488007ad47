"""A delivery that was imported without tasks, by its records: nothing of it is run until an operator says so.

Its `delivery.received` names no tasks, and `delivery.ignored` follows in the same append. A crash may take that one: then it is
appended again, and today's routes, which were not asked, are not asked then either.
"""

from __future__ import annotations

from collections.abc import Mapping

from covenq.model import DeliveryId, IgnoredReason, Kind
from journal.records import Entry

IMPORTED = IgnoredReason.IMPORTED.value
"""The reason of the delivery."""


def ignored(delivery: DeliveryId, config_sha256: str) -> Entry:
    """That it was given no tasks."""
    told = {"reason": IMPORTED, "detail": "It was imported, and given no tasks: `covenq reroute` makes them."}
    return Entry(delivery.subject, str(Kind.IGNORED), {**told, "config": config_sha256})


def is_without_tasks(data: Mapping[str, object]) -> bool:
    """Whether it was, by the data of its `delivery.received`: so was one that was routed, where no route wanted it."""
    return data.get("source") == "import" and data.get("tasks") == []
