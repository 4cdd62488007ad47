"""What the API's operations act on, and the base class of their resources."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from covenq.config.live import Live
from covenq.config.load import Config
from covenq.intake.admission import Admission
from covenq.operate.maintain.upkeep import Upkeep
from covenq.state.folded import FoldedState
from journal.interface import Journal


@dataclass(frozen=True, slots=True)
class OperationParts:
    """What operators' operations append to, plan by, and have take effect."""

    journal: Journal
    state: FoldedState
    live: Live
    upkeep: Upkeep
    admission: Admission
    clock: Callable[[], float] = time.time

    @property
    def config(self) -> Config:
        """The configuration in effect now."""
        return self.live.now.config

    def reader(self) -> sqlite3.Connection:
        """See `FoldedState.reader`."""
        return self.state.reader()


class Resource:
    """A Falcon resource of an operation."""

    def __init__(self, services: OperationParts) -> None:
        self._services = services
