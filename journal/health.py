"""What an engine says of itself: whether it can append, the room there is, and measurements of its own.

`Health` is what admission and operators decide by, the same of every engine. `Measurements` are what an engine measures beside
that, under names of its own, for status and metrics: what it does not measure is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from journal.histogram import Counts

Measurement = int | float | Counts | tuple[float, ...]
"""A number, a histogram, or the newest of a series of measurements."""

Measurements = Mapping[str, Measurement]
"""By name; a name says its unit. The file engine's are in `journal.file.engine.FileJournal.measurements`."""


@dataclass(frozen=True, slots=True)
class Room:
    """The space an engine has, in bytes."""

    free: int
    """What may still be written."""
    kept: int
    """How much of that new work may not touch, so that what runs can record its end."""
    set_aside: int = 0
    """Held back besides, and given up when nothing else is left (`journal.interface.SpaceReserve`); 0 if there is none."""
    missing: int = 0
    """What is to be set aside again as soon as there is room."""

    @property
    def to_reopen(self) -> int:
        """What has to be free before new work is accepted again: more than `kept`, so that the next one doesn't end it."""
        return self.kept + self.kept // 2 + self.missing


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the engine can append, each part a sentence if it can't."""

    poisoned: str | None = None
    """Why nothing will ever be appended by this process again."""
    full: str | None = None
    """Why the last append could not be written; the next one may succeed."""
    unreachable: str | None = None
    """Why the engine, or the disk under it, can't be asked now."""
    room: Room | None = None
    """None: the engine sets no bound, or can't be asked."""
    database: bool = False
    """Whether it is a database that is meant by `unreachable`, and not the disk."""

    @property
    def ok(self) -> bool:
        return self.sentence is None

    @property
    def sentence(self) -> str | None:
        """The worst of it, for an operator; None if all is well."""
        if self.room is not None and self.room.free < self.room.kept:
            low = f"{self.room.free >> 20} MiB are free, and {self.room.kept >> 20} MiB are to be kept free"
        else:
            low = None
        return self.poisoned or self.unreachable or self.full or low


def count(measurements: Measurements, name: str) -> int:
    """The measurement as a whole number; 0 where the engine has none of that name."""
    found = measurements.get(name, 0)
    return int(found) if isinstance(found, int | float) else 0


def series(measurements: Measurements, name: str) -> tuple[float, ...]:
    """The measurements under that name, oldest first; none where the engine has none."""
    found = measurements.get(name, ())
    return found if isinstance(found, tuple) and not isinstance(found, Counts) else ()
