"""Startup: binds the addresses, opens what is stored, makes the services, and starts threads and listeners, in this order.

Whatever has been opened is closed again in the reverse order, by the `cleanup` that `start` is given.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from covenq import __version__
from covenq.config.live import Live, open_live
from covenq.config.load import Config
from covenq.config.secret_keys import default_file
from covenq.daemon import greeting, logs
from covenq.daemon.datadir import Storage, make_directory, make_secret, open_storage
from covenq.daemon.listeners import Listeners, TcpSockets, bind, make_listeners
from covenq.daemon.log_masking import LogMask
from covenq.daemon.reroute import reroute_if_changed, start_reroute
from covenq.daemon.stop import UPKEEP_S
from covenq.http.services import Services
from covenq.intake.admission import Admission
from covenq.intake.refusal_log import Refusals
from covenq.model import at_text
from covenq.operate.act import pauses
from covenq.operate.maintain.upkeep import Upkeep
from covenq.paths import REFUSALS_NAME
from covenq.tasks.execution.pool import Pool
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.remote.claims import Claims
from covenq.tasks.scheduling.dispatcher import Dispatcher
from journal.interface import SpaceReserve

log = logging.getLogger("covenq.daemon")


def start(
    config: Config,
    data: Path,
    env: Mapping[str, str],
    *,
    cleanup: ExitStack,
    accept_head: int | None,
    adjust: Callable[[Config], Config],
    mask: LogMask,
) -> tuple[Services, Listeners]:
    """Everything running and listening. Raises classes of covenq.errors and journal.errors."""
    sockets = bind(config, cleanup)
    directory_made = make_directory(data)
    secret_made = not config.secrets and not default_file(data).exists() and make_secret(data)
    live = _open_config(config, env, data, adjust, mask)
    storage = open_storage(config, data, accept_head, cleanup)
    services = _make_services(live, storage, data, sockets, mask, cleanup)
    listeners = make_listeners(services, sockets, cleanup)

    services.fold_thread.start()
    services.pool.start()
    services.claims.start()
    services.upkeep.start()
    listeners.start()
    start_reroute(services)
    live.subscribe(lambda before, now: reroute_if_changed(services, before, now))
    live.subscribe(lambda before, now: services.pool.wake())
    first = directory_made or storage.created
    _announce(services, config, env, first=first, secret_made=secret_made)
    return services, listeners


def _open_config(
    config: Config, env: Mapping[str, str], data: Path, adjust: Callable[[Config], Config], mask: LogMask
) -> Live:
    """The configuration in effect and its secrets, which the log masks from here on. Raises ConfigError."""
    live = open_live(config, env, data, adjust)
    mask.use(lambda: live.now.keys)
    live.subscribe(lambda _, now: logs.configure(now.config.log_format, now.config.log_level, mask=mask))
    for warning in live.last.warnings:
        log.warning("%s", warning)
    return live


def _make_services(
    live: Live, storage: Storage, data: Path, sockets: TcpSockets, mask: LogMask, cleanup: ExitStack
) -> Services:
    """The parts that work on what is stored, none of them started."""
    journal, store, fold_thread = storage.journal, storage.store, storage.fold_thread
    reserve = storage.reserve
    admission = Admission(
        journal,
        paused=lambda: pauses.intake(journal),
        damaged=lambda: fold_thread.damage is not None,
    )
    dispatcher = Dispatcher(journal, lambda: fold_thread.folded, lambda: live.now.config.caps)
    upkeep = Upkeep(journal, store, fold_thread, data, lambda: live.now.config.retention, reserve=reserve)
    cleanup.callback(upkeep.stop, UPKEEP_S)
    claims = Claims(
        journal,
        store,
        fold_thread,
        data,
        dispatcher=dispatcher,
        room=admission.has_space,
        on_full=lambda: _release_ballast(reserve),
    )
    cleanup.callback(claims.stop)
    pool = Pool(
        journal,
        store,
        fold_thread,
        data,
        dispatcher=dispatcher,
        concurrency=live.now.config.concurrency,
        scrubber=lambda secrets: Scrubber(live.now.config.scrub, [*secrets, *(key.secret for key in live.now.keys)]),
        room=admission.has_space,
        on_full=lambda: _release_ballast(reserve),
    )
    return Services(
        live=live,
        data=data,
        journal=journal,
        store=store,
        fold_thread=fold_thread,
        pool=pool,
        claims=claims,
        admission=admission,
        upkeep=upkeep,
        refusals=Refusals(data / REFUSALS_NAME, room=admission.has_space, mask=mask),
        webhook_url=sockets.webhook_url,
        api_url=sockets.api_url,
        started_at=at_text(time.time()),
        version=__version__,
    )


def _release_ballast(reserve: SpaceReserve | None) -> bool:
    """Free the ballast file, so that running tasks can record their ends on a full disk; whether there was one."""
    try:
        released = reserve is not None and reserve.release()
    except OSError as error:
        log.error("the ballast can't be released: %s", error.strerror)
        return False
    if released:
        log.warning("the disk is full: the ballast was released, so that running tasks can record their end")
    return released


def _announce(services: Services, config: Config, env: Mapping[str, str], *, first: bool, secret_made: bool) -> None:
    """Readiness as a log line where the log is JSON, else the greeting on stderr."""
    if config.log_format == "json":
        fields = {
            "webhook": services.webhook_url,
            "api": services.api_url,
            "data": str(services.data),
            "routes": [route.name for route in config.routes],
        }
        log.info("ready", extra={"fields": fields})
        return
    text = greeting.render(
        config,
        services.data,
        version=services.version,
        url=services.webhook_url,
        api_url=services.api_url,
        first=first,
        secret_made=secret_made,
        argv=sys.argv,
        env=env,
    )
    print(text, end="", file=sys.stderr, flush=True)
