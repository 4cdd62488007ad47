"""The running daemon as the context of operations (`covenq.operate.operations.Context`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from covenq.config.limits import Caps
from covenq.config.live import Live
from covenq.config.load import Config
from covenq.intake.admission import Admission
from covenq.intake.scope_bindings import ScopeBindings
from covenq.operate.act.importing import SigningSecrets
from covenq.operate.answers import HandedOver
from covenq.operate.maintain.upkeep import Upkeep
from covenq.operate.maintain.upkeep_work import UpkeepContext
from covenq.operate.notify.send import Sender
from journal.interface import Journal, Progress


@dataclass(frozen=True, slots=True)
class DaemonContext:
    """The daemon's journal and state, shared with everything else that it does.

    `rows` gives the calling thread's connection, once everything durable is folded; raises StateBehind and JournalDamaged.
    `observed` gives the limits with what the daemon knows of receivers, `sending` what brings notices; `handing_over` lets
    another node lead.
    """

    live: Live
    journal: Journal
    rows: Callable[[], sqlite3.Connection]
    upkeep: Upkeep
    admission: Admission
    bindings: ScopeBindings
    clock: Callable[[], float]
    observed: Callable[[], Caps]
    sending: Callable[[], Sender]
    handing_over: Callable[[str | None], HandedOver]

    def sender(self) -> Sender:
        return self.sending()

    def hand_over(self, by: str | None) -> HandedOver:
        return self.handing_over(by)

    @property
    def caps(self) -> Caps:
        return self.observed()

    @property
    def config(self) -> Config:
        return self.live.now.config

    @contextmanager
    def writing(self) -> Iterator[tuple[Journal, sqlite3.Connection]]:
        with self.upkeep.operations_lock:
            yield self.journal, self.rows()

    @contextmanager
    def pausing(self) -> Iterator[tuple[Journal, Callable[[], sqlite3.Connection]]]:
        try:
            yield self.journal, self.rows
        finally:  # a pause that wasn't answered may be recorded
            self.admission.refresh()

    @contextmanager
    def unbinding(self, *, dry_run: bool) -> Iterator[tuple[Journal, Callable[[], sqlite3.Connection]]]:
        try:
            yield self.journal, self.rows
        finally:  # one that wasn't answered may be recorded
            if not dry_run:
                self.bindings.forget()

    @contextmanager
    def importing(self, *, dry_run: bool) -> Iterator[tuple[Journal, SigningSecrets, Callable[[], sqlite3.Connection]]]:
        with self.upkeep.operations_lock:
            yield self.journal, SigningSecrets(self.live.now.keys, self.bindings), self.rows

    def redacting(self, *, dry_run: bool) -> AbstractContextManager[tuple[UpkeepContext, Progress | None]]:
        return self.upkeep.redacting(dry_run=dry_run)

    def compacting(self, *, dry_run: bool) -> AbstractContextManager[tuple[UpkeepContext, Progress | None]]:
        return self.upkeep.compacting(dry_run=dry_run)
