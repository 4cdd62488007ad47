"""The facts about one delivery from which its history is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from covenq.model import Kind
from covenq.model.answers import LastOutput
from covenq.model.rows import Attempt, Delivery, Dropped, Origin, SignedLater, Task, Waits
from covenq.operate.inspect.forward_signature import Signing
from covenq.routing.verdicts import Verdict
from journal.records import Record


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """The rows and records that a delivery's history is made from."""

    delivery: Delivery
    """The delivery object."""
    tasks: Sequence[Task]
    """Its tasks, oldest first."""
    attempts: Mapping[str, Sequence[Attempt]]
    """By task id."""
    outputs: Mapping[str, LastOutput | None] = field(default_factory=dict)
    """What a task's newest attempt wrote last, if it failed, by task id."""
    notes: Sequence[Record] = ()
    """The newest of the rarer records of it and its tasks, oldest first."""
    now: float | None = None
    """When they were gathered, seconds since 1970."""
    decided_by: str | None = None
    """Hash of the configuration that first decided about it; None where it was not recorded."""
    verdicts: Sequence[Verdict] = ()
    """Today's routes on it."""
    config: str | None = None
    """Hash of today's configuration."""
    config_path: str | None = None
    """Its file."""
    waiting: Mapping[str, Waits] = field(default_factory=dict)
    """Why a queued task doesn't run, by task id."""
    dropped_by: Dropped | None = None
    origin: Origin | None = None
    """Of one that was imported."""
    signed_later: SignedLater | None = None
    """Of one that is held without its signature."""
    signing: Signing = field(default_factory=Signing)
    """Of its forwards."""

    @property
    def rerouted(self) -> Record | None:
        """The newest note that an operator had it decided."""
        return next((note for note in reversed(self.notes) if note.kind == Kind.REROUTED), None)

    @property
    def ignored_at(self) -> str | None:
        """When it was decided that nothing is to be done: as it came, or when an operator had it decided."""
        return self.delivery.received_at if self.rerouted is None else self.rerouted.at


def newest_by_route(tasks: Sequence[Task]) -> list[Task]:
    """The newest replay of each route: what the delivery's state is folded from."""
    newest: dict[str | None, Task] = {}
    for task in tasks:
        newest[task.route] = task
    return list(newest.values())
