"""The facts about one delivery from which its history is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from covenq.model import JsonObject
from covenq.routing.verdicts import Verdict
from journal.records import Record


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """The rows and records that a delivery's history is made from."""

    delivery: JsonObject
    """The delivery object."""
    tasks: Sequence[JsonObject]
    """Its tasks, oldest first."""
    attempts: Mapping[str, Sequence[JsonObject]]
    """By task id."""
    notes: Sequence[Record] = ()
    """The newest of the rarer records of it and its tasks, oldest first."""
    decided_by: str | None = None
    """Hash of the configuration that first decided about it; None where it was not recorded."""
    verdicts: Sequence[Verdict] = ()
    """Today's routes on it."""
    config: str | None = None
    """Hash of today's configuration."""
    waiting: Mapping[str, JsonObject] = field(default_factory=dict)
    """Why a queued task doesn't run: {"word", "why", "position"}, by task id."""
    dropped_by: JsonObject | None = None
    """{"seq", "at", "kind", "by", "reason"} of the record that dropped or erased its content."""


def newest_by_route(tasks: Sequence[JsonObject]) -> list[JsonObject]:
    """The newest replay of each route: what the delivery's state is folded from."""
    newest: dict[str, JsonObject] = {}
    for task in tasks:
        newest[task["route"]] = task
    return list(newest.values())
