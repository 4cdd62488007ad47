"""The daemon's listeners: the webhook's, the API's on the Unix socket, and those of [api] and [metrics], if configured.

Where deliveries come out of GitHub's log alone (`[github] ingress`), the webhook has none, and no other takes a delivery.

TCP addresses are bound before anything else is opened, so that a busy port is reported at once; a socket listens for the daemon
only when `Listener.start` is called. But where the webhook's socket was passed, by a service manager or the daemon before,
connections are made to it all the time: its listener accepts them from the beginning, and holds their requests until then.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from covenq.config.api_tokens import Tokens
from covenq.config.load import Config, parse_bind
from covenq.daemon.datadir import Storage
from covenq.daemon.descriptors import Budget, budget, check
from covenq.daemon.parts import Listeners, StatsByName
from covenq.daemon.routes import Routes
from covenq.errors import CovenqError
from covenq.http.api.events import STREAMS
from covenq.http.app import RouteGroup, make_app, make_phase_app
from covenq.http.metrics import SCRAPES_MAX
from covenq.http.page.dispatch import with_pages
from covenq.http.server.deferred import FastPath
from covenq.http.server.held import HELD_MAX
from covenq.http.server.listener import Listener, ListenerSettings, address_of, bind_tcp, take_bound
from covenq.http.server.parser import RequestLimits
from covenq.http.webhook_fast import WebhookFastPath
from covenq.intake.refusal_evidence import Header, evidence_of
from covenq.intake.refusal_log import Refusals
from covenq.net import unix_socket
from covenq.paths import PHASE_SOCKET_NAME, SOCKET_NAME
from covenq.tasks.execution import process_setup
from covenq.tasks.remote.claims import WAITERS_MAX

API_THREADS = STREAMS + STREAMS + WAITERS_MAX + 8
"""Threads of each API listener: those that streams, tails and claims may hold while they wait, and some for everything else."""
METRICS_THREADS = SCRAPES_MAX + 2
"""Threads of [metrics]'s listener: a refused scrape, and a health check, don't wait for the others."""

PHASE_THREADS = 4
PHASE_REQUEST_S = 2.0
"""Seconds in which a command sends its request's headers, and its body."""
PHASE_BODY_MAX = 64 << 10
"""Of the socket on which commands report phases: each waits for a sync, and no longer."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - read, not bound
"""Addresses that stand for all of this machine's, and what a client here uses in their place."""

log = logging.getLogger("covenq.daemon")


@dataclass(frozen=True, slots=True)
class TcpSockets:
    """Bound, and not served yet."""

    webhook: socket.socket | None
    """None where nothing is posted here."""
    api: socket.socket | None
    metrics: socket.socket | None
    webhook_path: str
    passed: Collection[str] = ()
    """Names of those that were passed: connections are made to them already."""
    managed: bool = False
    """Whether a service manager passed them, and keeps them open, with what waits in their queues."""

    @property
    def by_name(self) -> dict[str, socket.socket]:
        found = {"webhook": self.webhook, "api": self.api, "metrics": self.metrics}
        return {name: bound for name, bound in found.items() if bound is not None}

    @property
    def kept(self) -> Collection[str]:
        """Names of those that a service manager keeps open."""
        return self.passed if self.managed else ()

    @property
    def webhook_url(self) -> str | None:
        return None if self.webhook is None else f"http://{_reachable(address_of(self.webhook))}{self.webhook_path}"

    def node_address(self, config: Config) -> str:
        """Where other nodes reach this one's webhook; empty where nothing is posted here."""
        if self.webhook is None:
            return ""
        return config.node.address or address_of(self.webhook)

    def node_api(self, config: Config) -> str:
        """Where other nodes ask this one's API; empty where they can't. Of one that listens everywhere, where its webhook is."""
        if config.node.api is not None or self.api is None:
            return config.node.api or ""
        host, _, port = address_of(self.api).rpartition(":")
        if host in _EVERYWHERE:
            address = self.node_address(config)
            found = urlsplit(address if "://" in address else f"//{address}").hostname or ""
            host = f"[{found}]" if ":" in found else found
        return f"http://{host}:{port}" if host and host not in _EVERYWHERE else ""

    @property
    def api_url(self) -> str | None:
        return None if self.api is None else f"http://{_reachable(address_of(self.api))}"

    @property
    def metrics_url(self) -> str | None:
        return None if self.metrics is None else f"http://{_reachable(address_of(self.metrics))}/metrics"


def bind(
    config: Config,
    cleanup: ExitStack,
    passed: list[socket.socket] | None = None,
    *,
    managed: bool = False,
    listens: bool = True,
) -> TcpSockets:
    """The TCP addresses: those of `passed` that are configured are taken out of it, the others are bound.

    First of all, so that a busy port is reported before anything is touched. `managed`: a service manager passed them.
    `listens`: as `bind_tcp`. Raises PortBusy, Refused.
    """
    passed = [] if passed is None else passed
    given = list(passed)
    webhook = None
    if not config.follows_log:
        webhook = take_bound(passed, *config.address) or bind_tcp(*config.address, listens=listens)
        cleanup.callback(webhook.close)
    api = _bind_section("api", config.api_bind, passed, cleanup, listens)
    metrics = _bind_section("metrics", config.metrics_bind, passed, cleanup, listens)
    sockets = {"webhook": webhook, "api": api, "metrics": metrics}
    taken = frozenset(name for name, one in sockets.items() if one in given)
    return TcpSockets(webhook, api, metrics, config.webhook_path, taken, managed)


class KeptRefusals:
    """The refusals of the time in which the log of them isn't open yet: the newest are kept, and told to it then."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: deque[Callable[[Refusals], None]] = deque(maxlen=HELD_MAX)
        self._log: Refusals | None = None

    def __call__(self, word: str, status: int, detail: str, path: str, client: str, header: Header) -> None:
        evidence, now = evidence_of(header, None), self._clock()

        def note(log: Refusals) -> None:
            log.note(word, status, detail, at=now, path=path, client=client, **evidence)

        with self._lock:
            if self._log is None:
                self._kept.append(note)
                return
        note(self._log)

    def use(self, log: Refusals) -> None:
        with self._lock:
            self._log = log
        while self._kept:
            self._kept.popleft()(log)


@dataclass(frozen=True, slots=True)
class HeldWebhook:
    """The webhook's listener, holding requests, and what it has refused."""

    listener: Listener
    refusals: KeptRefusals


@dataclass(frozen=True, slots=True)
class ListenerParts:
    """What the listeners are made from, before what they answer with."""

    sockets: TcpSockets
    allowed: Budget
    held: HeldWebhook | None = None
    """The webhook's listener, if it was made already."""


def hold_webhook(config: Config, sockets: TcpSockets, allowed: Budget, cleanup: ExitStack) -> HeldWebhook | None:
    """Accept the connections that are made to a passed socket, and hold their requests; None where it was not passed.

    Before anything is opened. If what follows fails, those that are held are refused with 503. Raises PortBusy.
    """
    if "webhook" not in sockets.passed or sockets.webhook is None:
        return None
    refusals = KeptRefusals()
    settings = ListenerSettings(
        "webhook",
        config.threads,
        _limits(config),
        connections=allowed.connections,
        kept="webhook" in sockets.kept,
    )
    listener = Listener(_never_called, sockets.webhook, settings, on_refusal=refusals)
    cleanup.callback(listener.close)
    listener.hold()
    return HeldWebhook(listener, refusals)


def _never_called(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise AssertionError("a request that is held was answered")


def make_listeners(
    config: Config,
    storage: Storage,
    parts: ListenerParts,
    routes: Routes,
    refusals: Refusals,
    stats: StatsByName,
    cleanup: ExitStack,
) -> Listeners:
    """Bind the Unix sockets and make the listeners, none of them started; one that holds requests goes on with that.

    Their statistics are added to `stats`.

    After everything that answers requests, and closed before it. The socket is bound only under the journal's lock: its path may
    be that of a daemon that runs.
    """
    sockets, connections, held = parts.sockets, parts.allowed.connections, parts.held
    unix = _bind_unix(storage.data / SOCKET_NAME, cleanup)
    limits = _limits(config)
    kept = [sockets.by_name[name] for name in sockets.kept]

    def on_refusal(word: str, status: int, detail: str, at: str, client: str, header: Header) -> None:
        refusals.note(word, status, detail, path=at, client=client, **evidence_of(header, None))

    def application(groups: Collection[RouteGroup], tokens: Tokens | None = None) -> WSGIApplication:
        path = None if config.follows_log else config.webhook_path
        app: WSGIApplication = make_app(groups, refusals, tokens, webhook_path=path, met=storage.readers.met)
        if tokens is not None and config.page is not None:
            app = with_pages(app, routes.api, tokens, config.page, refusals)
        return _releasing(app, storage.readers.release_reader)

    def make(
        name: str,
        bound: socket.socket,
        groups: Collection[RouteGroup],
        threads: int,
        tokens: Tokens | None = None,
        fast_path: FastPath | None = None,
    ) -> Listener:
        listener = Listener(
            application(groups, tokens),
            bound,
            ListenerSettings(name, threads, limits, routes.api in groups, connections, kept=bound in kept),
            on_refusal=on_refusal,
            fast_path=fast_path,
        )
        cleanup.callback(listener.close)
        stats[name] = listener.stats
        return listener

    phases = _make_phases(config, storage, routes, parts.allowed.phase_connections, cleanup)
    stats["phases"] = phases.stats
    fast_path = WebhookFastPath(
        routes.webhook.intake, routes.webhook.recorder, config.webhook_path, routes.webhook.passing
    )
    public: list[RouteGroup] = [routes.webhook, routes.health, *([routes.metrics] if config.webhook_metrics else [])]
    posted: list[RouteGroup] = [] if sockets.webhook is None else [routes.webhook]
    webhook = None
    if sockets.webhook is not None and held is None:
        webhook = make("webhook", sockets.webhook, public, config.threads, fast_path=fast_path)
    elif held is not None:
        webhook = held.listener
        # It was made before what it is served with, and has to be closed before that too.
        cleanup.callback(webhook.close)
        webhook.serve(application(public), fast_path)
        stats["webhook"] = webhook.stats
        held.refusals.use(refusals)
    api = make("api", unix, [*posted, routes.health, routes.metrics, routes.api], API_THREADS)
    metrics = remote = None
    if sockets.metrics is not None:
        metrics = make("metrics", sockets.metrics, [routes.health, routes.metrics], METRICS_THREADS)
        _log_metrics(sockets.metrics)
    if sockets.api is not None:
        # A listener of its own: streams and long polls of remote clients hold its threads, not those of the Unix socket.
        tokens = _make_tokens(config, storage, routes, cleanup)
        remote = make("remote", sockets.api, [routes.health, routes.metrics, routes.api], API_THREADS, tokens)
        _log_remote_api(sockets.api, tokens)
        if config.page is not None:
            log.info("pages for browsers are on %s/page, as %s", sockets.api_url, ", ".join(config.page.hosts))
    return Listeners(webhook, api, phases, remote, metrics)


def _make_tokens(config: Config, storage: Storage, routes: Routes, cleanup: ExitStack) -> Tokens:
    """Who is let in on the listener of [api]. What was asked with tokens is written to its end when that is closed."""
    cleanup.callback(routes.api.reads.flush)
    return Tokens(config.token_file(storage.data))


def _make_phases(config: Config, storage: Storage, routes: Routes, connections: int, cleanup: ExitStack) -> Listener:
    """The listener of the daemon's own commands: few threads, small bodies, and phases alone (`make_phase_app`)."""
    limits = RequestLimits(
        PHASE_BODY_MAX, min(config.header_timeout_s, PHASE_REQUEST_S), min(config.body_timeout_s, PHASE_REQUEST_S)
    )
    listener = Listener(
        _releasing(make_phase_app(routes.phases), storage.readers.release_reader),
        _bind_unix(storage.data / PHASE_SOCKET_NAME, cleanup),
        ListenerSettings("phases", PHASE_THREADS, limits, connections=connections, crowded=True),
        on_refusal=lambda *_: None,
    )
    cleanup.callback(listener.close)
    return listener


def _bind_unix(path: Path, cleanup: ExitStack) -> socket.socket:
    """Raises as `unix_socket.bind`."""
    bound = unix_socket.bind(path)
    cleanup.callback(path.unlink, missing_ok=True)
    cleanup.callback(bound.close)
    return bound


def _bind_section(
    section: str, bind: str | None, passed: list[socket.socket], cleanup: ExitStack, listens: bool
) -> socket.socket | None:
    """The address of [api] or [metrics], if it has one: taken out of `passed`, or bound.

    Raises as `bind_tcp`, with what to do about it.
    """
    if bind is None:
        return None
    try:
        bound = take_bound(passed, *parse_bind(bind)) or bind_tcp(*parse_bind(bind), listens=listens)
    except CovenqError as error:
        error.hint = f"Choose another in [{section}] bind: each section has a port of its own."
        raise
    cleanup.callback(bound.close)
    return bound


def _log_metrics(bound: socket.socket) -> None:
    log.info("/metrics is on %s", address_of(bound))
    if not _is_loopback(bound):
        log.warning("whoever reaches %s may read the metrics: nothing is asked for there", address_of(bound))


def _is_loopback(bound: socket.socket) -> bool:
    return ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def _log_remote_api(bound: socket.socket, tokens: Tokens) -> None:
    """Log where [api] listens, and warn where its tokens could be read on the way."""
    known = tokens.now()
    log.info("the API listens on %s; tokens in %s: %d", address_of(bound), tokens.path, len(known))
    if not _is_loopback(bound):
        log.warning(
            "tokens for %s cross the network in clear unless a proxy in front of it speaks TLS", address_of(bound)
        )


def _limits(config: Config) -> RequestLimits:
    return RequestLimits(config.body_limit, config.header_timeout_s, config.body_timeout_s)


def _releasing(app: WSGIApplication, release: Callable[[], None]) -> WSGIApplication:
    """The application; after each request its thread gives back what it read with, which idle threads don't hold."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return app(environ, start_response)
        finally:
            release()

    return answer


def descriptor_budget(config: Config, sockets: TcpSockets) -> Budget:
    """What the limit of open files allows; a warning if that is less than what is configured."""
    limit = process_setup.descriptor_limit()
    check(limit)
    found = budget(
        limit,
        config.concurrency,
        1 + len(sockets.by_name),
    )
    if found.commands < config.concurrency:
        log.warning(
            "%s open files are allowed, enough for %d commands at a time: raise the hard limit (LimitNOFILE=, ulimit -Hn), "
            "or lower [worker] concurrency from %d",
            found.limit,
            found.commands,
            config.concurrency,
        )
    return found


def _reachable(address: str) -> str:
    """An address that a client on this machine can use."""
    host, _, port = address.rpartition(":")
    return f"{_EVERYWHERE.get(host, host)}:{port}"
