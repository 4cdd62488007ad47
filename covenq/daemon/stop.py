"""Shutdown: drain the listeners, end the running commands, stop the threads, in this order.

Readiness goes false first; the webhook's listener then accepts no more and answers what is in flight, running commands are ended
and recorded as interrupted, the API's streams end, and the fold stops. `covenq.daemon.start`'s cleanup closes what is left.

Where another process takes over (`covenq.daemon.takeover`), it holds requests for eight seconds at most: so commands are ended
while the webhook still answers what is in flight, and each step gets less time. What is queued in the kernel is left to it, and
it gets the connections that have no request.

Where another node stands by (`covenq.daemon.succession`), deliveries are taken in, and this node is ready, until all else has
stopped: then the other leads, and only after that the webhook's listener closes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from covenq.daemon.parts import Daemon
from covenq.http.server.listener import PassOn
from covenq.intake.admission import poisoned_sentence
from covenq.operate.notify.conditions import Condition

DRAIN_S = 10.0
"""Seconds for requests in flight."""
API_DRAIN_S = 5.0
"""The same for the API's."""
GRACE_S = 5.0
"""Seconds for running commands."""
RECONCILE_S = 2.0
"""Seconds for what was fetched and is being recorded; GitHub is not waited for."""
NOTIFY_S = 2.0
"""Seconds for a command, or a receiver, that is being told of something."""
UPKEEP_S = 60.0
"""Seconds for the segment that is being rewritten, which takes one or two."""
FOLD_S = 4.0
"""Seconds for the follower, which has little left to fold unless it hangs, or builds the state anew."""
TOKENS_S = 3.0
"""Seconds for revoking the tokens of what ran; what GitHub hasn't confirmed by then, the next start has it confirm."""
TAKEN_FOLD_S = 1.5
TAKEN_DRAIN_S = 5.0
TAKEN_GRACE_S = 3.0
TAKEN_API_S = 0.5
TAKEN_NOTIFY_S = 0.5
TAKEN_TOKENS_S = 0.5
"""The same, for requests of the API, for what is told, and for tokens, where another process holds requests meanwhile."""
TELL_S = 0.5
"""Seconds for having kept what is to be told of a poisoned journal."""
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
    daemon.handover.close()
    retires = daemon.takeover.successor is None and daemon.succession.is_succeeded
    daemon.intake.admission.stopping = not retires
    if retires:
        log.info("another node stands by: it is to lead when what runs here has ended")
        if daemon.storage.journal.poisoned:
            daemon.succession.retire()
    daemon.background.notifier.ask_stop()
    daemon.background.reconciler.ask_stop()
    if daemon.takeover.successor is None:
        daemon.takeover.close()  # from now on there is nothing to be handed over
    listeners, successor = daemon.listeners, daemon.takeover.successor
    api_s = min(drain_s, API_DRAIN_S)
    if successor is not None:
        drain_s, grace_s, api_s = min(drain_s, TAKEN_DRAIN_S), min(grace_s, TAKEN_GRACE_S), min(drain_s, TAKEN_API_S)
    deadline = time.monotonic() + drain_s
    pass_on = None if successor is None else successor.pass_on
    if successor is not None:
        _drain_webhook(daemon, 0.0, pass_on)
    elif not retires:
        _close_webhook(daemon, _drain_webhook(daemon, drain_s, None), drain_s)
        keep_alive()
    if daemon.workers.standby is not None:
        daemon.workers.standby.stop(grace_s)
    if not daemon.workers.pool.stop(grace_s):
        log.warning("some tasks could not be recorded as interrupted; the next start does it")
    daemon.workers.tokens.stop(TOKENS_S if successor is None else TAKEN_TOKENS_S)
    daemon.stopping.set()
    daemon.workers.claims.stop()
    daemon.background.acts.stop()
    daemon.background.reconciler.stop(RECONCILE_S)
    daemon.background.notifier.stop(NOTIFY_S if successor is None else TAKEN_NOTIFY_S)
    keep_alive()
    daemon.background.upkeep.stop(UPKEEP_S)
    keep_alive()
    if retires:
        daemon.handover.carry_out()
        daemon.intake.admission.stopping = True
        _close_webhook(daemon, _drain_webhook(daemon, drain_s, None), drain_s)
        keep_alive()
    if successor is not None:
        drained = _drain_webhook(daemon, max(0.0, deadline - time.monotonic()), pass_on)
        _close_webhook(daemon, drained, drain_s)
    daemon.handover.end()
    for listener in (listeners.phases, *listeners.tcp, listeners.api):
        listener.drain(api_s, accept_queued=successor is None or listener not in listeners.tcp)
        listener.close()
    daemon.storage.fold.stop(FOLD_S if successor is None else TAKEN_FOLD_S)


def _drain_webhook(daemon: Daemon, drain_s: float, pass_on: PassOn | None) -> bool:
    return all(listener.drain(drain_s, pass_on=pass_on) for listener in daemon.listeners.posted)


def _close_webhook(daemon: Daemon, drained: bool, drain_s: float) -> None:
    if not drained:
        log.warning("some requests did not come to an end within %g s", drain_s)
    for listener in daemon.listeners.posted:
        listener.close()


def stop_poisoned(daemon: Daemon) -> int:
    """Stop where nothing more can be recorded: exit code 1, and the process is gone after POISONED_S even if a step hangs."""
    watchdog = threading.Timer(POISONED_S, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    health = daemon.storage.journal.health()
    if not daemon.succession.lost:
        _tell_poisoned(daemon, poisoned_sentence(health))
        log.critical("the journal can't be relied on any more, so covenq ends: %s", health.poisoned)
    if daemon.succession.lost:
        log.critical("another node has taken the lead, so covenq ends: started again, it stands by")
    elif health.database:
        log.critical("look at the database, and whether another covenq runs on it; then start covenq again")
    else:
        log.critical("check the disk (dmesg), then start covenq again: it recovers what is proven")
    daemon.stopping.set()
    stop(daemon, drain_s=1.0, grace_s=0.5)
    return 1


def _tell_poisoned(daemon: Daemon, why: str) -> None:
    """Have it told, by another thread: it is written to the disk that failed, perhaps, which may hang."""
    told = Condition("intake", "intake", f"Nothing is received: {why}", "covenq doctor")
    thread = threading.Thread(target=daemon.background.notifier.tell, args=([told],), daemon=True)
    thread.start()
    thread.join(TELL_S)
