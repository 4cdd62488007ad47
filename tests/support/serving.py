"""The HTTP application over a real journal and state, in this process, on real sockets: the base of the HTTP tests."""

from __future__ import annotations

import errno
import http.client
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

from covenq.config import load as configuration
from covenq.config.api_tokens import Tokens
from covenq.config.live import Live
from covenq.config.load import Config
from covenq.config.secret_keys import Key
from covenq.daemon.acts import Acts
from covenq.daemon.datadir import Storage
from covenq.daemon.handover import Handover
from covenq.daemon.notifier import Notifier
from covenq.daemon.parts import Background, Intake, StatsByName, Workers
from covenq.daemon.pass_schedule import PeriodicPasses
from covenq.daemon.reconciler import Reconciler
from covenq.daemon.restart import Restart
from covenq.daemon.routes import Routes, make_routes
from covenq.daemon.start import make_twins
from covenq.daemon.succession import Succession
from covenq.daemon.work_tokens import token_keeper
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.status import DaemonInfo
from covenq.http.app import RouteGroup, make_app
from covenq.http.page.dispatch import with_pages
from covenq.http.passing import Passing
from covenq.http.server.listener import Listener, ListenerSettings, bind_tcp
from covenq.http.server.parser import RequestLimits
from covenq.http.webhook_fast import WebhookFastPath
from covenq.intake.admission import Admission
from covenq.intake.refusal_evidence import evidence_of
from covenq.intake.refusal_log import Refusals
from covenq.intake.scope_bindings import ScopeBindings
from covenq.net import unix_socket
from covenq.operate.act import pauses
from covenq.operate.daemon_context import DaemonContext
from covenq.operate.maintain.known_damage import KnownDamage
from covenq.operate.maintain.upkeep import Upkeep
from covenq.state.folded import FoldedState
from covenq.state.store import StateStore
from covenq.tasks.execution.pool import Pool
from covenq.tasks.remote.claims import Claims
from covenq.tasks.remote.report_files import ReportFiles
from covenq.tasks.remote.reports import Conditions
from covenq.tasks.scheduling.attempt_times import AttemptTimes
from covenq.tasks.scheduling.dispatcher import Dispatcher
from journal.file.files import OsFiles
from journal.health import Health, Room
from journal.interface import Monitored
from tests.support import chosen_engine
from tests.support.fold_thread import FoldThread
from tests.support.journals.chosen import open_chosen
from tests.support.requests import SECRET, Answer, UnixConnection, ask, encode, signed

ROUTE = {"name": "all", "match": "event:issues", "run": ["true"]}


class Disk:
    """The disk of a journal, whose free space a test sets."""

    def __init__(self, journal: Monitored) -> None:
        self.free = 1 << 40
        self._journal = journal

    def health(self) -> Health:
        return replace(self._journal.health(), room=Room(self.free, 64 << 20))


class HeldFiles(OsFiles):
    """Files whose fdatasync waits until `go` is set, and fails if `broken` is."""

    broken = False

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.syncing = threading.Event()

    def fdatasync(self, fd: int) -> None:
        if not self.go.is_set():
            self.syncing.set()
            assert self.go.wait(30)
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        super().fdatasync(fd)


@dataclass
class Served:
    """A running application, and requests to it."""

    storage: Storage
    intake: Intake
    routes: Routes
    stopping: threading.Event
    webhook: Listener
    api: Listener
    port: int
    disk: Disk
    files: HeldFiles
    remote_port: int = 0
    """Of the listener of [api], if the configuration has that."""

    @property
    def data(self) -> Path:
        return self.storage.data

    @property
    def socket(self) -> Path:
        return self.data / "covenq.sock"

    @property
    def journal(self) -> Any:
        return self.storage.journal

    def connect(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = self.connect()
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def post(self, event: str, payload: Any, guid: str | None = None, hook: str = "7", **options: Any) -> Answer:
        body, headers = signed(event, payload, guid, hook, **options)
        return self.request("POST", "/webhook", body, headers)

    def ask(self, path: str, payload: Any = None) -> Answer:
        """A GET on the Unix socket, or with `payload` a POST."""
        connection = UnixConnection(self.socket, 30.0)
        try:
            if payload is None:
                return ask(connection, "GET", path)
            return ask(connection, "POST", path, encode(payload), {"Content-Type": "application/json"})
        finally:
            connection.close()

    def refused(self) -> dict[str, int]:
        return self.intake.refusals.counts()


@contextmanager
def serving(
    data: Path,
    raw: Mapping[str, Any] | None = None,
    *,
    routes: bool = True,
    threads: int = 8,
    keys: tuple[Key, ...] = (Key("test", SECRET.encode()),),
    passing: Passing | None = None,
) -> Iterator[Served]:
    """Everything but a running worker: tasks stay queued. `raw` is a configuration as TOML gives it."""
    env = {**os.environ, **chosen_engine.variables(data)}
    config: Config = configuration.build({**({"route": [ROUTE]} if routes else {}), **(raw or {})}, None, env)
    data.mkdir(parents=True, exist_ok=True)
    files = HeldFiles()
    with open_chosen(data, files=files) as journal, StateStore(data / "state.db", journal) as store:
        fold_thread = FoldThread(store, journal)
        state = FoldedState(journal, store, fold_thread)
        storage = Storage(data, journal, None, False, store, fold_thread, state)
        disk = Disk(journal)
        admission = Admission(journal, disk.health, paused=lambda: pauses.intake(journal))
        bound = bind_tcp("127.0.0.1", 0)
        port = bound.getsockname()[1]
        unix = unix_socket.bind(data / "covenq.sock")
        refusals = Refusals(data / "refused.jsonl", room=admission.keeps_refusals)
        known_damage = KnownDamage(data, "file", lambda: fold_thread.damage)
        intake = Intake(admission, refusals, make_twins(storage), ScopeBindings(journal), known_damage, passing)
        times = AttemptTimes(lambda: {route.name for route in config.routes})
        dispatcher = Dispatcher(journal, lambda: fold_thread.folded, times=times)
        live = Live(config, keys)
        work_tokens = token_keeper(live, storage, env)
        claims = Claims(
            journal,
            store,
            fold_thread,
            ReportFiles(data),
            dispatcher=dispatcher,
            conditions=Conditions(tokens=work_tokens),
        )
        stats: StatsByName = {}
        stopping = threading.Event()
        upkeep = Upkeep(journal, store, fold_thread, data, lambda: config.retention, truncate_wal=store.truncate_wal)
        effective = EffectiveConfig(live, Pool(journal, store, fold_thread, data, dispatcher=dispatcher))
        notifier = Notifier(live, os.environ, data / "notices.json")
        operations = DaemonContext(
            live,
            journal,
            state.reader,
            upkeep,
            admission,
            intake.bindings,
            time.time,
            lambda: effective.caps,
            notifier.sender,
            lambda by: Handover(Succession(None), live, stopping.set, lambda: Restart([])).ask(by),
        )
        made = make_routes(
            DaemonInfo("0", "2026-11-23T00:00:00.000000Z", f"http://127.0.0.1:{port}/webhook"),
            effective,
            storage,
            intake,
            Workers(effective.pool, claims, times, work_tokens),
            Background(
                operations,
                Reconciler(operations, {}, PeriodicPasses()),
                notifier,
                Acts(operations, store, fold_thread, "acts"),
            ),
            stats,
            stopping,
        )

        def listener(name: str, groups: Sequence[RouteGroup], socket: Any, tokens: Tokens | None = None) -> Listener:
            streams = name != "webhook"
            limits = RequestLimits(config.body_limit, config.header_timeout_s, config.body_timeout_s)
            app: WSGIApplication = make_app(groups, refusals, tokens, webhook_path=config.webhook_path)
            if tokens is not None and config.page is not None:
                app = with_pages(app, made.api, tokens, config.page, refusals)
            return Listener(
                app,
                socket,
                ListenerSettings(name, threads, limits, streams),
                on_refusal=lambda word, status, detail, path, client, header: refusals.note(
                    word, status, detail, path=path, **evidence_of(header, None)
                ),
                fast_path=None
                if streams
                else WebhookFastPath(made.webhook.intake, made.webhook.recorder, config.webhook_path, passing),
            )

        public = [made.webhook, made.health, *([made.metrics] if config.webhook_metrics else [])]
        webhook = listener("webhook", public, bound)
        api = listener("api", [made.webhook, made.health, made.metrics, made.api], unix)
        listeners = [webhook, api]
        remote_port = 0
        if config.api_bind is not None:
            remote_bound = bind_tcp("127.0.0.1", 0)
            remote_port = remote_bound.getsockname()[1]
            tokens = Tokens(config.token_file(data))
            listeners.append(listener("remote", [made.health, made.metrics, made.api], remote_bound, tokens))
        fold_thread.start()
        claims.start()
        work_tokens.start()
        for one in listeners:
            stats[one.name] = one.stats
            one.start()
        try:
            yield Served(storage, intake, made, stopping, webhook, api, port, disk, files, remote_port)
        finally:
            stopping.set()
            files.go.set()
            claims.stop()
            work_tokens.stop(10.0)
            for one in listeners:
                one.close()
            fold_thread.stop()
