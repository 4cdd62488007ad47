"""The services that the HTTP resources use: one running daemon, put together by `covenq.daemon.start`."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from covenq.config.limits import Caps
from covenq.config.live import Live
from covenq.config.load import Config
from covenq.config.secret_keys import Key
from covenq.errors import NotFound, StateBehind
from covenq.http.counters import AcceptedCounts
from covenq.http.server.listener import ListenerStats
from covenq.intake.admission import Admission
from covenq.intake.refusal_log import Refusals
from covenq.intake.twins import Twins
from covenq.model import DeliveryId, JsonObject
from covenq.operate.maintain.upkeep import Upkeep
from covenq.state import query
from covenq.state.follow import FoldThread
from covenq.state.store import StateStore
from covenq.tasks.execution.pool import Pool
from covenq.tasks.remote.claims import WAITERS_MAX, Claims
from journal.interface import Engine

FOLD_S = 10.0
"""Seconds a read waits for the state to reach what was durable when it came."""
STREAMS = 16
"""Event streams at a time on one listener: each holds one of its threads, and the others stay free."""

API_THREADS = STREAMS + STREAMS + WAITERS_MAX + 8
"""Threads of each API listener: those that streams, tails and claims may hold while they wait, and some for everything else."""


@dataclass(frozen=True, slots=True)
class Services:
    """One running daemon."""

    live: Live
    data: Path
    journal: Engine
    store: StateStore
    fold_thread: FoldThread
    pool: Pool
    claims: Claims
    admission: Admission
    upkeep: Upkeep
    refusals: Refusals
    webhook_url: str
    started_at: str
    version: str
    api_url: str | None = None
    """Where the API listens on TCP, if [api] is configured."""
    clock: Callable[[], float] = time.time
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when event streams and waiting requests have to end."""
    accepted: AcceptedCounts = field(default_factory=AcceptedCounts)
    """Deliveries that the webhook accepted, by status and event."""
    listeners: dict[str, Callable[[], ListenerStats]] = field(default_factory=dict)
    """The statistics of each listener, by its name."""

    twins: Twins = field(init=False)

    def __post_init__(self) -> None:
        fold_thread, journal = self.fold_thread, self.journal
        twins = Twins(
            self.store.reader,
            head=lambda: journal.head().seq,
            folded=lambda: fold_thread.folded,
            wait_for=lambda seq: fold_thread.wait_for(seq, FOLD_S),
        )
        object.__setattr__(self, "twins", twins)

    @property
    def config(self) -> Config:
        """The configuration in effect now."""
        return self.live.now.config

    @property
    def caps(self) -> Caps:
        """The limits on queued tasks now: those configured, and receivers whose circuit breaker is open."""
        return replace(self.config.caps, backing_off=self.pool.blocked_routes())

    @property
    def secrets(self) -> tuple[Key, ...]:
        """The keys in effect now."""
        return self.live.now.keys

    def reader(self) -> sqlite3.Connection:
        """This thread's connection, once the state has folded all that is durable now. Raises StateBehind and JournalDamaged."""
        self._reach(self.journal.head().seq)
        return self.store.reader()

    def lookup(self, id: DeliveryId, at_least: int) -> JsonObject | None:
        """The delivery's row once `at_least` is folded; None if that takes too long, or there is none."""
        if not self.fold_thread.wait_for(at_least, FOLD_S):
            return None
        try:
            return query.delivery(self.store.reader(), id.hook, id.guid)
        except NotFound:
            return None

    def _reach(self, seq: int) -> None:
        if not self.fold_thread.reach(seq, FOLD_S):
            why = f": {self.fold_thread.error}" if self.fold_thread.error else ""
            raise StateBehind(f"the state is {self.fold_thread.lag} records behind the journal{why}")
