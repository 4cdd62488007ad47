"""The order in which a daemon's threads start: at once, or, where this node stands by, in part when it leads."""

from __future__ import annotations

import logging
from pathlib import Path

from covenq.config.load import Config
from covenq.config.secret_keys import default_file
from covenq.daemon.notifier import Observer
from covenq.daemon.parts import Daemon
from covenq.daemon.reroute import Rerouter
from covenq.intake import resume

log = logging.getLogger("covenq.daemon")


def start_in_order(daemon: Daemon, observer: Observer) -> None:
    """Start every thread, and listen.

    The follower first, since all others wait for what it has folded. Then the socket that commands report on, and what works on
    tasks, whose recovery needs the fold. The other listeners last, the webhook's the very last, so that a delivery is accepted
    only when everything that works on it runs.
    Another process may take over even sooner: then this one stops once it has started.
    Rerouting may come after that: it works on what was accepted before, and what comes in meanwhile is routed as it comes. So may
    the passes over GitHub's logs: what is sent from now on comes by itself.

    What an earlier process left of tokens is revoked whether this node leads or not: nobody else has them. That begins before an
    attempt gets one.

    A node that stands by listens without what works: deliveries are passed on, until it leads (`covenq.daemon.succession`). Its
    upkeep is of its own files, and it may run tasks for the one that does (`covenq.daemon.standby_work`).
    """
    daemon.storage.fold.start()
    daemon.listeners.phases.start()
    daemon.workers.tokens.start()
    leads = daemon.succession.works
    if leads:
        start_work(daemon)
    daemon.background.upkeep.start()
    daemon.takeover.start()
    daemon.listeners.start()
    if leads:
        start_rounds(daemon, observer)
    else:
        if (told := unshared_secret(daemon.live.now.config, daemon.storage.data)) is not None:
            log.warning("%s", told)
        daemon.succession.wait(lambda: take_up(daemon), lambda: start_rounds(daemon, observer))
        if daemon.workers.standby is not None:
            daemon.workers.standby.start()


def unshared_secret(config: Config, data: Path) -> str | None:
    """What to tell of a node that stands by with a secret which it may have made for itself; None where it has none."""
    if config.secrets or config.follows_log:
        return None
    return (
        f"the secret of this node is {default_file(data)}: unless that is a copy of the other nodes', it refuses every delivery "
        "when it leads. Name a copy of one file on each, in [github] webhook_secrets."
    )


def take_up(daemon: Daemon) -> None:
    """What the node that led has left, and what works on it. Before a delivery is taken in here. Raises JournalError.

    As at a start: what a crash cut short is known by being the newest record. Where the journal is away it is begun again, and
    nothing that can be begun only once comes before.
    """
    daemon.intake.bindings.forget()
    if daemon.workers.standby is not None:
        daemon.workers.standby.finish()
    resume.resume(daemon.storage.journal, daemon.live.now.config)
    start_work(daemon)


def start_work(daemon: Daemon) -> None:
    """What works on deliveries and tasks that are accepted."""
    daemon.workers.pool.start()
    daemon.workers.claims.start()


def start_rounds(daemon: Daemon, observer: Observer) -> None:
    """What looks by itself whether there is something to be done. Reloads act on parts only once all of them run."""
    rerouter = Rerouter(daemon.live, daemon.storage, daemon.background.upkeep.operations_lock, daemon.stopping)
    rerouter.start()
    daemon.background.acts.start()
    daemon.background.reconciler.start()
    daemon.live.subscribe(rerouter.start_if_changed)
    daemon.live.subscribe(lambda before, now: daemon.workers.pool.wake())
    daemon.background.notifier.start(observer)
