"""Rerouting: routes the deliveries that a failed rule, or a crash between a delivery and its tasks, left in `received`.

It runs on a thread of its own, once after the start and again after each reload that changed the configuration.
"""

from __future__ import annotations

import logging
import threading

from covenq.config.live import Snapshot
from covenq.filter.grammar import parse
from covenq.http.services import Services
from covenq.intake import resume
from covenq.state import query
from journal.errors import JournalError

PAGE = 500
"""Deliveries read at a time."""

log = logging.getLogger("covenq.daemon")


def start_reroute(services: Services) -> None:
    threading.Thread(target=_reroute, args=(services,), name="reroute", daemon=True).start()


def reroute_if_changed(services: Services, before: Snapshot, now: Snapshot) -> None:
    """After a reload: other routes may match what a failed rule left in `received`."""
    if before.config.sha256 != now.config.sha256:
        start_reroute(services)


def _reroute(services: Services) -> None:
    """Two at a time do no harm: a task's id is derived, and the second append of one is refused."""
    try:
        while not services.fold_thread.wait_for(services.journal.head().seq, 1.0):
            if services.stopping.is_set() or services.journal.poisoned:
                return
        after: str | None = None
        while True:
            page = query.deliveries(services.store.reader(), parse("state:received"), PAGE, after)
            for row in page.items:
                with services.upkeep.operations_lock:
                    record = services.journal.get(row["seq"])
                    if services.stopping.is_set() or record is None:
                        return
                    if record.dropped is None:
                        resume.route_received(services.journal, services.config, row, record)
            after = page.next
            if after is None:
                return
    except JournalError as error:
        log.error("deliveries left in received wait for the next start: %s", error)
