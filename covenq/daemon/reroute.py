"""Rerouting: routes the deliveries that a failed rule, or a crash between a delivery and its tasks, left in `received`.

Those that are held back stay so: an operator routes them (`covenq.routing.held`).

It runs on a thread of its own, once after the start and again after each reload that changed the configuration.
"""

from __future__ import annotations

import logging
import threading
from contextlib import AbstractContextManager

from covenq.config.live import Live, Snapshot
from covenq.daemon.datadir import Storage
from covenq.filter.grammar import parse
from covenq.intake import resume
from covenq.model.rows import Delivery
from covenq.routing.held import HELD
from covenq.state import query
from journal.errors import EntryRefused, JournalError
from journal.records import Record

PAGE = 500
"""Deliveries read at a time."""

log = logging.getLogger("covenq.daemon")


class Rerouter:
    """Starts the threads. `operations_lock` (`Upkeep.operations_lock`) keeps erasures away from a delivery while it is routed."""

    def __init__(
        self, live: Live, storage: Storage, operations_lock: AbstractContextManager[object], stopping: threading.Event
    ) -> None:
        self._live = live
        self._storage = storage
        self._operations_lock = operations_lock
        self._stopping = stopping

    def start(self) -> None:
        """Two at a time do no harm: a task's id is derived, and the second append of one is refused."""
        threading.Thread(target=self._run, name="reroute", daemon=True).start()

    def start_if_changed(self, before: Snapshot, now: Snapshot) -> None:
        """After a reload: other routes may match what a failed rule left in `received`."""
        if before.config.sha256 != now.config.sha256:
            self.start()

    def _run(self) -> None:
        journal, fold = self._storage.journal, self._storage.fold
        try:
            while not fold.wait_for(journal.head().seq, 1.0):
                if self._stopping.is_set() or journal.poisoned:
                    return
            after: str | None = None
            while True:
                page = query.deliveries(
                    self._storage.readers.reader(), parse(f"state:received -reason:{HELD}"), PAGE, after
                )
                for row in page.items:
                    with self._operations_lock:
                        record = journal.get(row.seq)
                        if self._stopping.is_set() or record is None:
                            return
                        if record.dropped is None:
                            self._route(row, record)
                after = page.next
                if after is None:
                    return
        except JournalError as error:
            log.error("deliveries left in received wait for the next start: %s", error)

    def _route(self, row: Delivery, record: Record) -> None:
        """Raises JournalError. What is odd in one delivery leaves that one in `received`, and no other."""
        try:
            resume.route_received(self._storage.journal, self._live.now.config, row, record)
        except EntryRefused as error:
            log.error("%s/%s stays received: %s", row.hook, row.guid, error)
        except JournalError:
            raise
        except Exception:
            log.exception("%s/%s stays received", row.hook, row.guid)
