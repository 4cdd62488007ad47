"""Shutdown: drain the listeners, end the running commands, stop the threads, in this order.

Readiness goes false first; the webhook's listener then accepts no more and answers what is in flight, running commands are ended
and recorded as interrupted, the API's streams end, and the fold stops. `covenq.daemon.start`'s cleanup closes what is left.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from covenq.daemon.parts import Daemon

DRAIN_S = 10.0
"""Seconds for requests in flight."""
GRACE_S = 5.0
"""Seconds for running commands."""
UPKEEP_S = 60.0
"""Seconds for the segment that is being rewritten, which takes one or two."""
POISONED_S = 4.0
"""Seconds after which a poisoned process exits, whatever hangs."""

log = logging.getLogger("covenq.daemon")


def stop(
    daemon: Daemon,
    *,
    drain_s: float = DRAIN_S,
    grace_s: float = GRACE_S,
    keep_alive: Callable[[], object] = lambda: None,
) -> None:
    """Stop in order. `keep_alive` is called between the steps: the service manager's watchdog keeps waiting for signs of life."""
    listeners = daemon.listeners
    daemon.intake.admission.stopping = True
    if not listeners.webhook.drain(drain_s):
        log.warning("some requests did not come to an end within %g s", drain_s)
    listeners.webhook.close()
    keep_alive()
    if not daemon.workers.pool.stop(grace_s):
        log.warning("some tasks could not be recorded as interrupted; the next start does it")
    daemon.stopping.set()
    daemon.workers.claims.stop()
    keep_alive()
    daemon.upkeep.stop(UPKEEP_S)
    keep_alive()
    for listener in (listeners.phases, listeners.remote, listeners.api):
        if listener is not None:
            listener.drain(min(drain_s, 5.0))
            listener.close()
    daemon.storage.fold_thread.stop()


def stop_poisoned(daemon: Daemon) -> int:
    """Stop after a failed sync: exit code 1, and the process is gone after POISONED_S even if a step hangs."""
    watchdog = threading.Timer(POISONED_S, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    health = daemon.storage.journal.health()
    log.critical("the journal can't be relied on any more, so covenq ends: %s", health.poisoned)
    log.critical("check the disk (dmesg), then start covenq again: it recovers what is proven")
    daemon.stopping.set()
    stop(daemon, drain_s=1.0, grace_s=0.5)
    return 1
