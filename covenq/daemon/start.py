"""Startup, in named steps: binds the addresses, opens the configuration and what is stored, makes the parts, starts them.

Each step takes values and returns what it made, and its docstring says why it comes where it does. Whatever has been opened is
closed again in the reverse order, by the `cleanup` that `start` is given.

No thread that works on deliveries or tasks is started, and no request is answered, before every part is made. Where the
webhook's socket was passed, by a service manager or the daemon before, requests are held meanwhile.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from covenq import __version__, log_writer
from covenq.config.journal import FILE, POSTGRES
from covenq.config.live import Live, open_live
from covenq.config.load import Config
from covenq.config.secret_keys import default_file
from covenq.daemon import greeting, logs, preflight, systemd, takeover
from covenq.daemon.acts import make_acts
from covenq.daemon.datadir import TO_END, Storage, make_directory, make_secret, open_storage, release_ballast
from covenq.daemon.handover import Handover
from covenq.daemon.listeners import ListenerParts, bind, descriptor_budget, hold_webhook, make_listeners
from covenq.daemon.log_ingress import LogIngress
from covenq.daemon.log_lock import lock_directory
from covenq.daemon.log_masking import LogMask
from covenq.daemon.new_node import NewNode, may_fetch
from covenq.daemon.notifier import Notifier, Observer, tell_damage
from covenq.daemon.parts import Background, Daemon, Intake, StatsByName, Workers
from covenq.daemon.pass_schedule import PassSchedule, PeriodicPasses
from covenq.daemon.reconciler import Reconciler
from covenq.daemon.restart import Restart, passed_sockets
from covenq.daemon.routes import make_routes
from covenq.daemon.standby_work import standby_work
from covenq.daemon.start_order import start_in_order
from covenq.daemon.succession import Succession
from covenq.daemon.systemd import watchdog_of
from covenq.daemon.takeover import Predecessor, TakeoverServer
from covenq.daemon.upkeep import make_upkeep
from covenq.daemon.work_tokens import scrubber_of, token_keeper
from covenq.errors import ConfigError, PortBusy, Refused, UsageError
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.status import DaemonInfo
from covenq.http.passing import Passing
from covenq.http.server.listener import address_of
from covenq.intake.admission import Admission
from covenq.intake.refusal_log import Refusals
from covenq.intake.scope_bindings import ScopeBindings
from covenq.intake.twins import Twins
from covenq.model import at_text
from covenq.model.status import NodeStatus
from covenq.operate.act import pauses
from covenq.operate.daemon_context import DaemonContext
from covenq.operate.maintain.known_damage import KnownDamage
from covenq.operate.maintain.upkeep import Upkeep
from covenq.paths import NOTICES_NAME, REFUSALS_NAME, TAKEOVER_NAME
from covenq.tasks.execution.pool import Pool, PoolSettings, worker_id
from covenq.tasks.remote.claims import Claims, TimeSources
from covenq.tasks.remote.report_files import ReportFiles
from covenq.tasks.remote.reports import Conditions
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from covenq.tasks.scheduling.dispatcher import Dispatcher
from covenq.tasks.tokens.keeper import TokenKeeper
from journal.errors import JournalDamaged
from journal.interface import Engine
from journal.presence import exists

log = logging.getLogger("covenq.daemon")


class StartObserver(Protocol):
    """Who is told how far a start is, and says what is to be said of it in place of the greeting."""

    def opened(self, journal: Engine) -> None:
        """The journal is open, and nothing has come since. May raise JournalError."""

    def ready(self) -> None:
        """Everything runs, and the Unix socket answers."""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What the command line says beside the configuration."""

    accept_head: int | None = None
    """Consent that a log shorter than its caches goes on from this seq."""
    adjust: Callable[[Config], Config] = lambda config: config
    """Puts the command line's options over the file each time it is read again."""
    take_over: bool = False
    """Whether a daemon that runs in the data directory is to hand over."""
    observer: StartObserver | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What is opened before anything that is stored."""

    live: Live
    parts: ListenerParts
    first: bool
    """Whether the data directory was not there before."""
    secret_made: bool


def start(
    config: Config,
    data: Path,
    env: Mapping[str, str],
    options: StartOptions,
    *,
    cleanup: ExitStack,
    mask: LogMask,
    ask_stop: Callable[[], None],
    stop_asked: Callable[[], bool],
) -> Daemon:
    """Everything running and listening. Raises classes of covenq.errors and journal.errors; StopAsked where `stop_asked()`.

    `ask_stop` has this process stop, from any thread: another one takes over.
    """
    passed, again = passed_sockets(env, config.bind)
    if again:
        options = replace(options, accept_head=None, take_over=False)  # said once, for the first start
    if options.take_over and passed:
        raise UsageError(
            "the service manager has passed the socket", hint="Nothing is to be taken over: leave --take-over out."
        )
    predecessor = takeover.connect(data) if options.take_over else None
    opened = None if predecessor is None else take_over(config, data, env, options, predecessor, cleanup, mask)
    if opened is None:
        opened = open_alone(config, data, env, options, passed, cleanup, mask, again=again)
    live, sockets = opened.live, opened.parts.sockets
    watchdog = watchdog_of(env, os.getpid())
    managed = watchdog is not None or systemd.is_manager(env)
    successors = TakeoverServer(data / TAKEOVER_NAME, sockets.by_name, ask_stop, managed=managed)
    cleanup.callback(successors.release)  # when the journal is closed
    try:
        new = NewNode(config, data, env, opened.parts.held is not None, stop_asked)
        storage = open_storage(
            config, data, sockets.node_address(config), options.accept_head, cleanup, stop_asked, new.begin
        )
    except JournalDamaged as error:
        tell_damage(live.now, env, data, error)
        raise
    if options.observer is not None:
        options.observer.opened(storage.journal)
    reserve = storage.reserve
    succession = Succession(storage.succession, sockets.node_api(config))
    handover = Handover(succession, live, ask_stop, lambda: Restart([sockets.by_name[name] for name in sockets.kept]))
    intake = make_intake(storage, succession, mask)
    upkeep = make_upkeep(live, storage, lambda: succession.works, env, cleanup)
    on_full, tokens = (lambda: release_ballast(reserve, TO_END)), token_keeper(live, storage, env)
    workers = make_workers(live, storage, intake.admission.has_space, on_full, succession, tokens, cleanup)
    info = DaemonInfo(
        __version__,
        at_text(time.time()),
        sockets.webhook_url,
        sockets.api_url,
        sockets.metrics_url,
        descriptors=opened.parts.allowed.shown,
        watchdog=watchdog,
        node=NodeStatus(storage.node.id, storage.node.name, storage.node.address or None),
    )
    stats: StatsByName = {}
    stopping = threading.Event()
    effective = EffectiveConfig(live, workers.pool)
    background = make_background(effective, storage, intake, upkeep, handover, env, cleanup)
    routes = make_routes(info, effective, storage, intake, workers, background, stats, stopping)
    listeners = make_listeners(live.now.config, storage, opened.parts, routes, intake.refusals, stats, cleanup)
    cleanup.callback(successors.close)
    daemon = Daemon(
        info, live, storage, intake, workers, background, listeners, successors, succession, handover, stopping
    )
    start_in_order(daemon, Observer(routes.api.status))
    first = opened.first or storage.created
    if options.observer is not None:
        options.observer.ready()
        return daemon
    _announce(info, config, data, env, first=first, secret_made=opened.secret_made and succession.leads)
    return daemon


def open_alone(
    config: Config,
    data: Path,
    env: Mapping[str, str],
    options: StartOptions,
    passed: list[socket.socket],
    cleanup: ExitStack,
    mask: LogMask,
    *,
    again: bool,
) -> Opened:
    """Bind the addresses, or take the sockets that a service manager passed; open the configuration.

    Where this is a start `again`, another node leads: connections that are refused until this one serves turn to that. So it is
    where this node may have to fetch another's state first.

    Raises ConfigError for a passed socket at no configured address: connections to it would never be answered.
    """
    sockets = bind(config, cleanup, passed, managed=True, listens=not (again or may_fetch(config, data, env)))
    if passed:
        where = address_of(passed[0])
        if config.follows_log:
            raise ConfigError(
                f'the service manager passes a socket at {where}, and nothing is posted here: [github] ingress is "log"',
                hint="Do without the socket unit: systemctl disable --now covenq.socket.",
            )
        raise ConfigError(
            f"the service manager passes a socket at {where}, and the configuration listens elsewhere",
            hint=f"Make them the same: bind in [server], [api] or [metrics], and ListenStream={where} in the socket unit.",
        )
    first = make_directory(data)
    needed = not config.secrets and not config.follows_log
    secret_made = needed and not exists(default_file(data)) and make_secret(data)
    live = open_config(config, env, data, options.adjust, mask)
    allowed = descriptor_budget(live.now.config, sockets)
    held = hold_webhook(config, sockets, allowed, cleanup)
    return Opened(live, ListenerParts(sockets, allowed, held), first, secret_made)


def take_over(
    config: Config,
    data: Path,
    env: Mapping[str, str],
    options: StartOptions,
    predecessor: Predecessor,
    cleanup: ExitStack,
    mask: LogMask,
) -> Opened | None:
    """Take the sockets of the running daemon, hold requests, and wait until it has ended (`covenq.daemon.takeover`).

    Whatever may be wrong with the configuration, its secrets, its addresses and the data directory is found before that one is
    told to stop. None if it has ended meanwhile, by itself or because another process takes over.
    """
    cleanup.callback(predecessor.close)
    live = open_config(config, env, data, options.adjust, mask)
    preflight.check(live.now.config.journal, data, options.accept_head)
    passed = predecessor.listening()
    if passed is None:
        return None
    try:
        sockets = bind(config, cleanup, passed)
    except PortBusy as error:
        hint = "If it is the running daemon's, at another of its names: stop it, and start without --take-over."
        raise Refused(str(error), hint=hint) from error  # it says nothing of a daemon that would still have to be found
    finally:
        for unused in passed:
            unused.close()
    allowed = descriptor_budget(live.now.config, sockets)
    held = hold_webhook(config, sockets, allowed, cleanup)
    predecessor.stop()
    predecessor.wait(socket.socket.close if held is None else held.listener.adopt)
    parts = ListenerParts(sockets, allowed, held)
    return Opened(live, parts, first=False, secret_made=False)


def open_config(
    config: Config, env: Mapping[str, str], data: Path, adjust: Callable[[Config], Config], mask: LogMask
) -> Live:
    """The configuration in effect and its secrets. Raises ConfigError.

    Before the storage, so that what is wrong with a configuration is reported without touching the journal; and the log masks
    the secrets from here on, whatever is logged of what is stored.
    """
    live = open_live(config, env, data, adjust)
    mask.use(lambda: live.now.keys)
    live.subscribe(lambda _, now: logs.configure(now.config.log_format, now.config.log_level, mask=mask))
    for warning in live.last.warnings:
        log.warning("%s", warning)
    return live


def make_intake(storage: Storage, succession: Succession, mask: LogMask) -> Intake:
    """What receives deliveries. Before the workers, who ask its admission whether the disk has room.

    An operator's pause is read here, so nothing is accepted before, and what is known of damage, so it is logged before anything
    is accepted. Raises JournalError.
    """
    journal, fold = storage.journal, storage.fold
    engine = FILE if journal.database() is None else POSTGRES
    known_damage = KnownDamage(storage.data, engine, lambda: fold.damage)
    known_damage.check()
    admission = Admission(
        journal,
        paused=lambda: pauses.intake(journal),
        damaged=lambda: fold.damage is not None,
        standby=succession.standby,
    )
    return Intake(
        admission,
        Refusals(storage.data / REFUSALS_NAME, room=admission.keeps_refusals, mask=mask),
        make_twins(storage),
        ScopeBindings(journal),
        known_damage,
        None
        if storage.succession is None
        else Passing(storage.succession, lambda: succession.accepts, own=storage.node.address),
    )


def make_twins(storage: Storage) -> Twins:
    return Twins(
        storage.readers.reader,
        head=lambda: storage.journal.head().seq,
        folded=lambda: storage.fold.folded,
        wait_for=storage.state.wait_for,
        met=storage.readers.met,
    )


def make_background(
    effective: EffectiveConfig,
    storage: Storage,
    intake: Intake,
    upkeep: Upkeep,
    handover: Handover,
    env: Mapping[str, str],
    cleanup: ExitStack,
) -> Background:
    """What works by itself. The passes over GitHub's logs take deliveries in as the API's import does."""
    live = effective.live
    notifier = Notifier(live, env, storage.data / NOTICES_NAME)
    cleanup.callback(notifier.stop, 0.0)
    operations = DaemonContext(
        live,
        storage.journal,
        storage.state.reader,
        upkeep,
        intake.admission,
        intake.bindings,
        time.time,
        lambda: effective.caps,
        notifier.sender,
        handover.ask,
    )
    schedule: PassSchedule = PeriodicPasses()
    if live.now.config.follows_log:
        schedule = LogIngress(storage.data, lock_directory(env))
    reconciler = Reconciler(operations, env, schedule)
    cleanup.callback(reconciler.ask_stop)
    return Background(operations, reconciler, notifier, make_acts(operations, storage, cleanup))


def make_workers(
    live: Live,
    storage: Storage,
    room: Callable[[], bool],
    on_full: Callable[[], bool],
    succession: Succession,
    tokens: TokenKeeper,
    cleanup: ExitStack,
) -> Workers:
    """What runs tasks: one dispatcher for the pool and for the claims, or a task could be handed out by both.

    `room` and `on_full` are as `Pool` takes them. By `succession` only the node that leads hands tasks out, and only the one that
    appends says whose they are. The pool has no part in the cleanup: `covenq.daemon.stop` ends it. Where a listener can't start
    after it, its threads end with the process, and the next start recovers what they ran.
    """
    fold = storage.fold
    times = AttemptTimes(lambda: {route.name for route in live.now.config.routes})
    dispatcher = Dispatcher(
        storage.journal, lambda: fold.folded, lambda: live.now.config.caps, times, storage.node.name or None
    )

    def room_to_claim() -> bool:
        succession.require_lead()
        return room()

    scrubber = scrubber_of(live, tokens)
    claims = Claims(
        storage.journal,
        storage.readers,
        fold,
        ReportFiles(storage.data, lambda: scrubber(())),
        dispatcher=dispatcher,
        room=room_to_claim,
        conditions=Conditions(on_full, succession.require_appends, tokens),
        sources=TimeSources(lease_clock=storage.journal.lease_clock),
    )
    cleanup.callback(claims.stop)
    worker = worker_id()
    standby = standby_work(live, storage, succession, worker, scrubber)
    pool = Pool(
        storage.journal,
        storage.readers,
        fold,
        storage.data,
        dispatcher=dispatcher,
        settings=PoolSettings(
            live.now.config.concurrency,
            worker,
            scrubber=scrubber,
            secret_of=lambda name: next((key.secret for key in live.now.keys if key.name == name), None),
            lease_s=None if storage.journal.lease_clock is None else live.now.config.lease_s,
            elsewhere=tuple if standby is None else standby.running,
            tokens=tokens,
            node=storage.node_id,
        ),
        room=room,
        on_full=on_full,
    )
    return Workers(pool, claims, times, tokens, standby)


def _announce(
    info: DaemonInfo, config: Config, data: Path, env: Mapping[str, str], *, first: bool, secret_made: bool
) -> None:
    """Readiness as a log line where the log is JSON, else the greeting on stderr."""
    if config.log_format == "json":
        fields = {
            "webhook": info.webhook_url,
            "api": info.api_url,
            "metrics": info.metrics_url,
            "data": str(data),
            "routes": [route.name for route in config.routes],
        }
        log.info("ready", extra={"fields": fields})
        return
    text = greeting.render(config, data, info, first=first, secret_made=secret_made, argv=sys.argv, env=env)
    log_writer.stderr.put(text.removesuffix("\n"))
