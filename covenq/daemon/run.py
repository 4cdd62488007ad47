"""The daemon: the one place that knows all parts. It puts them together, waits, and takes them apart in order.

SIGHUP, or a change of the configuration's files, has them read again (`covenq.config.live`); neither ever stops it.

Stopping (SIGTERM, SIGINT): readiness goes false; the webhook's listener accepts no more and answers what is in
flight; running commands are ended and recorded as interrupted; the API's streams end; the fold and the journal close.
A poisoned journal (a sync failed) ends the process with 1 within five seconds: what is in flight gets its 503, and only
a new process can tell what the disk really holds.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from covenq import __version__
from covenq.config.api_tokens import Tokens
from covenq.config.live import Snapshot, open_live
from covenq.config.load import Config, parse_bind
from covenq.config.secret_keys import default_file
from covenq.daemon import allocator, greeting, logs
from covenq.daemon.datadir import make_directory, make_secret, open_locked, tell_recovery
from covenq.daemon.log_masking import LogMask
from covenq.daemon.signals import Signals
from covenq.daemon.systemd import Notifier
from covenq.errors import CovenqError
from covenq.filter.grammar import parse
from covenq.http.app import make_app
from covenq.http.server.listener import CONNECTIONS, Listener, address_of, bind_tcp
from covenq.http.server.parser import Limits
from covenq.http.services import API_THREADS, Services
from covenq.http.webhook_fast import PlainWebhook
from covenq.intake import resume
from covenq.intake.admission import Admission, CachedSpace
from covenq.intake.refusal_log import Refusals
from covenq.model import at_text
from covenq.net import unix_socket
from covenq.operate.act import pauses
from covenq.operate.maintain.upkeep import Upkeep
from covenq.paths import JOURNAL_NAME, REFUSALS_NAME, SOCKET_NAME, STATE_NAME
from covenq.state import query
from covenq.state.follow import Folder
from covenq.state.store import StateStore
from covenq.tasks.execution import process_tree
from covenq.tasks.execution.pool import Pool
from covenq.tasks.execution.scrub import Scrubber
from covenq.tasks.remote.claims import Claims
from covenq.tasks.scheduling.dispatcher import Dispatcher
from journal.errors import JournalError
from journal.file.reserve import Reserve

LOOK_S = 0.2
"""How often the disk and the journal are looked at."""
DRAIN_S = 10.0
GRACE_S = 5.0
"""Seconds for requests in flight, and for running commands, when stopping."""
UPKEEP_S = 60.0
"""Seconds for the segment that is being rewritten, a matter of one or two."""
POISONED_S = 4.0
"""Seconds after which a poisoned process is gone, whatever hangs."""

log = logging.getLogger("covenq.daemon")


def version() -> str:
    return __version__


def run(
    config: Config,
    data: Path,
    *,
    env: Mapping[str, str] | None = None,
    accept_head: int | None = None,
    adjust: Callable[[Config], Config] = lambda config: config,
) -> int:
    """Serve until a signal or a poisoned journal; the exit code. Raises classes of covenq.errors and journal.errors.

    `accept_head` is an operator's word that a log shorter than its caches is to go on from this seq. `adjust` is what the
    command line says over the file, whenever that is read again; `config` has it already.
    """
    env = os.environ if env is None else env
    mask = LogMask()
    logs.configure(config.log_format, config.log_level, mask=mask)
    allocator.give_back()
    process_tree.adopt()
    stop = Signals()
    with ExitStack() as cleanup:
        cleanup.callback(stop.restore)
        services, listeners = _start(config, data, env, cleanup, accept_head, adjust, mask)
        # What is there now stays: the collector need not look at it, with every thread waiting, for as long as we run.
        gc.collect()
        gc.freeze()
        return _serve(services, listeners, stop, Notifier(env))


@dataclass(frozen=True, slots=True)
class Listeners:
    """`webhook` is the world's, `api` the Unix socket's, `remote` that of [api], if there is one."""

    webhook: Listener
    api: Listener
    remote: Listener | None = None

    @property
    def alive(self) -> bool:
        return all(one.alive for one in (self.webhook, self.api, self.remote) if one is not None)


# ---- starting


def _start(
    config: Config,
    data: Path,
    env: Mapping[str, str],
    cleanup: ExitStack,
    accept_head: int | None,
    adjust: Callable[[Config], Config],
    mask: LogMask,
) -> tuple[Services, Listeners]:
    """Everything running and listening; `cleanup` takes it apart again, in the reverse order."""
    bound = bind_tcp(*config.address)
    cleanup.callback(bound.close)
    api_bound = None if config.api_bind is None else _bind_api(config.api_bind)
    if api_bound is not None:
        cleanup.callback(api_bound.close)
    made = make_directory(data)
    secret_made = not config.secrets and not default_file(data).exists() and make_secret(data)
    live = open_live(config, env, data, adjust)
    mask.use(lambda: live.now.keys)
    live.subscribe(lambda _, now: logs.configure(now.config.log_format, now.config.log_level, mask=mask))
    for warning in live.last.warnings:
        log.warning("%s", warning)
    journal = open_locked(data, accept_head=accept_head)
    cleanup.callback(journal.close)
    tell_recovery(journal)
    resume.resume(journal, config)
    store = StateStore(data / STATE_NAME, journal)
    cleanup.callback(store.close)
    folder = Folder(store, journal)
    cleanup.callback(folder.stop, 2.0)
    reserve = Reserve(data / JOURNAL_NAME)
    admission = Admission(
        journal,
        data,
        CachedSpace(),
        missing=reserve.missing,
        paused=lambda: pauses.intake(journal),
        damaged=lambda: folder.damage is not None,
    )
    dispatcher = Dispatcher(journal, lambda: folder.folded, lambda: live.now.config.caps)
    upkeep = Upkeep(journal, store, folder, data, lambda: live.now.config.retention, reserve=reserve)
    cleanup.callback(upkeep.stop, UPKEEP_S)
    claims = Claims(
        journal,
        store,
        folder,
        data,
        dispatcher=dispatcher,
        room=admission.has_room,
        on_full=lambda: _release(reserve),
    )
    cleanup.callback(claims.stop)
    url = f"http://{_reachable(address_of(bound))}/webhook"
    services = Services(
        live=live,
        data=data,
        journal=journal,
        store=store,
        folder=folder,
        pool=Pool(
            journal,
            store,
            folder,
            data,
            dispatcher=dispatcher,
            concurrency=config.concurrency,
            scrubber=lambda secrets: Scrubber(
                live.now.config.scrub, [*secrets, *(key.secret for key in live.now.keys)]
            ),
            room=admission.has_room,
            on_full=lambda: _release(reserve),
        ),
        claims=claims,
        admission=admission,
        upkeep=upkeep,
        refusals=Refusals(data / REFUSALS_NAME, room=admission.has_room, mask=mask),
        webhook_url=url,
        api_url=None if api_bound is None else f"http://{_reachable(address_of(api_bound))}",
        started_at=at_text(time.time()),
        version=__version__,
    )
    path = data / SOCKET_NAME
    unix = unix_socket.bind(path)
    cleanup.callback(path.unlink, missing_ok=True)
    cleanup.callback(unix.close)
    connections = _connections(2 if api_bound is None else 3)

    def on_refusal(word: str, status: int, detail: str, at: str, client: str) -> None:
        services.refusals.note(word, status, detail, path=at, client=client)

    limits = Limits(config.body_limit, config.header_timeout_s, config.body_timeout_s)
    webhook = Listener(
        make_app(services, {"webhook", "health"}),
        bound,
        name="webhook",
        threads=config.threads,
        limits=limits,
        on_refusal=on_refusal,
        connections=connections,
        way=PlainWebhook(services),
    )
    cleanup.callback(webhook.close)
    api = Listener(
        make_app(services, {"webhook", "health", "api"}),
        unix,
        name="api",
        threads=API_THREADS,
        limits=limits,
        on_refusal=on_refusal,
        streams=True,
        connections=connections,
    )
    cleanup.callback(api.close)
    remote = None
    if api_bound is not None:
        tokens = Tokens(config.token_file(data))
        # Nobody waits for this one but who waits for the API: its streams and long polls hold threads of its own.
        remote = Listener(
            make_app(services, {"health", "api"}, tokens),
            api_bound,
            name="remote",
            threads=API_THREADS,
            limits=limits,
            on_refusal=on_refusal,
            streams=True,
            connections=connections,
        )
        cleanup.callback(remote.close)
        _tell_remote(api_bound, tokens)
    for listener in (webhook, api, remote):
        if listener is not None:
            services.listeners[listener.name] = listener.stats
    folder.start()
    services.pool.start()
    claims.start()
    upkeep.start()
    api.start()
    if remote is not None:
        remote.start()
    webhook.start()
    _start_reroute(services)
    live.subscribe(lambda before, now: _reroute_if_mended(services, before, now))
    live.subscribe(lambda before, now: services.pool.look())
    if config.log_format == "json":
        routes = [route.name for route in config.routes]
        log.info(
            "ready", extra={"fields": {"webhook": url, "api": services.api_url, "data": str(data), "routes": routes}}
        )
        return services, Listeners(webhook, api, remote)
    said = greeting.words(
        config,
        data,
        version=services.version,
        url=url,
        api_url=services.api_url,
        first=made or journal.recovery.created,
        secret_made=secret_made,
        argv=sys.argv,
        env=env,
    )
    print(said, end="", file=sys.stderr, flush=True)
    return services, Listeners(webhook, api, remote)


def _bind_api(bind: str) -> socket.socket:
    """Raises as `bind_tcp`, with what to do about it."""
    try:
        return bind_tcp(*parse_bind(bind))
    except CovenqError as error:
        error.hint = "Choose another in [api] bind: it shares no port with [server] bind."
        raise


def _tell_remote(bound: socket.socket, tokens: Tokens) -> None:
    """What an operator of [api] should know."""
    known = tokens.now()
    log.info("the API listens on %s; tokens in %s: %d", address_of(bound), tokens.path, len(known))
    if not ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback:
        log.warning(
            "tokens for %s cross the network in clear unless a proxy in front of it speaks TLS", address_of(bound)
        )


def _release(reserve: Reserve) -> bool:
    """Give the ballast up for the ends of running tasks; whether there was one."""
    try:
        released = reserve.release()
    except OSError as error:
        log.error("the ballast can't be released: %s", error.strerror)
        return False
    if released:
        log.warning("the disk is full: the ballast was released, so that running tasks can record their end")
    return released


def _start_reroute(services: Services) -> None:
    threading.Thread(target=_reroute, args=(services,), name="reroute", daemon=True).start()


def _reroute_if_mended(services: Services, before: Snapshot, now: Snapshot) -> None:
    """After a reload: with other routes, what a failed rule left in `received` may find its way."""
    if before.config.sha256 != now.config.sha256:
        _start_reroute(services)


def _reroute(services: Services) -> None:
    """Route what was left in `received`: by a failed rule, or by a crash between a delivery and its tasks.

    Two at a time do no harm: a task's id is derived, and the second append of one is refused.
    """
    try:
        while not services.folder.wait_for(services.journal.head().seq, 1.0):
            if services.stopping.is_set() or services.journal.poisoned:
                return
        after: str | None = None
        while True:
            page = query.deliveries(services.store.reader(), parse("state:received"), 500, after)
            for row in page.items:
                with services.upkeep.acting:
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


def _connections(listeners: int) -> int:
    """How many connections each of them may hold: descriptors are needed elsewhere too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(32, min(CONNECTIONS, (soft - 128) // listeners))


def _reachable(address: str) -> str:
    """An address that a client on this machine can use."""
    host, _, port = address.rpartition(":")
    everywhere = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - read, not bound
    return f"{everywhere.get(host, host)}:{port}"


# ---- running and stopping


def _serve(services: Services, listeners: Listeners, stop: Signals, notifier: Notifier) -> int:
    """Wait for the end, and come to it in order. What is left to close is `_start`'s cleanup."""
    notifier.ready(_in_a_line(services))
    while not stop.asked.wait(LOOK_S):
        if services.journal.poisoned:
            notifier.stopping()
            return _poisoned(services, listeners)
        if not listeners.alive:
            log.error("a listener has ended by itself")
            notifier.stopping()
            _stop(services, listeners, drain_s=1.0, grace_s=GRACE_S)
            return 1
        services.admission.check()
        if stop.reload_asked():
            services.live.request_reload("SIGHUP")
            notifier.reloading()
        if services.live.check() is not None:
            notifier.ready(_in_a_line(services))
        notifier.status(_in_a_line(services))
        notifier.feed(services.journal.beat)
    notifier.stopping()
    log.info("stopping: what is in flight is finished first")
    _stop(services, listeners, drain_s=DRAIN_S, grace_s=GRACE_S, alive=lambda: notifier.feed(services.journal.beat))
    if services.journal.poisoned:
        return _poisoned(services, listeners)
    return 0


def _in_a_line(services: Services) -> str:
    """How it is, for the service manager."""
    reasons = [reason.sentence for reason in services.admission.reasons()]
    return " ".join(["NOT READY:", *reasons]) if reasons else f"receiving on {services.webhook_url}"


def _stop(
    services: Services,
    listeners: Listeners,
    *,
    drain_s: float,
    grace_s: float,
    alive: Callable[[], object] = lambda: None,
) -> None:
    """`alive` is called between the steps: a watchdog goes on waiting for signs of life while we stop."""
    services.admission.stopping = True
    if not listeners.webhook.drain(drain_s):
        log.warning("some requests did not come to an end within %g s", drain_s)
    listeners.webhook.close()
    alive()
    if not services.pool.stop(grace_s):
        log.warning("some tasks could not be recorded as interrupted; the next start does it")
    services.stopping.set()
    services.claims.stop()
    alive()
    services.upkeep.stop(UPKEEP_S)
    alive()
    for listener in (listeners.remote, listeners.api):
        if listener is not None:
            listener.drain(min(drain_s, 5.0))
            listener.close()
    services.folder.stop()


def _poisoned(services: Services, listeners: Listeners) -> int:
    watchdog = threading.Timer(POISONED_S, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    status = services.journal.status()
    log.critical("the journal can't be relied on any more, so covenq ends: %s", status.poisoned)
    log.critical("check the disk (dmesg), then start covenq again: it recovers what is proven")
    services.stopping.set()
    _stop(services, listeners, drain_s=1.0, grace_s=0.5)
    return 1
