"""The WSGI application: the groups of routes with their resources, the router, and the error handlers."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import falcon

from covenq.config.api_tokens import Tokens
from covenq.config.webhook_path import DEFAULT_PATH, spellings
from covenq.errors import CovenqError, StateBehind, StateUnreadable
from covenq.http.answers import error_body, respond, respond_error, respond_exception
from covenq.http.api import claims, listings, pauses, queries, status
from covenq.http.api.act import Act
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.events import Events, FollowedJournal
from covenq.http.api.github import CaveSources
from covenq.http.api.node_logs import NodeLogs
from covenq.http.api.snapshot import Snapshot
from covenq.http.api.status import StatusSources
from covenq.http.guard import Guard
from covenq.http.health import Health, Readiness
from covenq.http.metrics import Metrics, MetricSource
from covenq.http.openapi.document import Document
from covenq.http.passing import Passing
from covenq.http.webhook import AnswerRecorder, Webhook, WebhookIntake
from covenq.intake import refusal_evidence
from covenq.intake.admission import Admission
from covenq.intake.read_log import ReadLog
from covenq.intake.refusal_log import Refusals
from covenq.intake.twins import Twins
from covenq.model.notices import Notices
from covenq.operate import operations
from covenq.operate.daemon_context import DaemonContext
from covenq.operate.inspect.alarms import Alarms
from covenq.operate.maintain.known_damage import KnownDamage
from covenq.paths import SOCKET_NAME
from covenq.routing.installation_routing import ConfiguredFamiliars
from covenq.state.folded import FoldedState
from covenq.state.progress import FoldProgress
from covenq.tasks.execution.shortage import no_descriptor_left
from covenq.tasks.remote.claims import Claims
from journal.errors import JournalError

App = falcon.App[falcon.Request, falcon.Response]

PHASE_PATH = "/api/v1/claims/{task}/phase"

log = logging.getLogger("covenq.http")


class RouteGroup(Protocol):
    """Resources that a listener has all of, or none."""

    def resources(self) -> Iterator[tuple[str, object]]:
        """(path, resource), new ones at each call: what a resource bounds (memory, streams, scrapes) is one listener's."""


@dataclass(frozen=True, slots=True)
class WebhookRoutes:
    """What GitHub posts to."""

    intake: WebhookIntake
    twins: Twins
    recorder: AnswerRecorder
    path: str
    passing: Passing | None = None

    def resources(self) -> Iterator[tuple[str, object]]:
        webhook = Webhook(self.intake, self.twins, self.recorder, self.passing)
        for path in spellings(self.path):
            yield path, webhook


@dataclass(frozen=True, slots=True)
class HealthRoutes:
    """What load balancers and clients ask without a token."""

    version: str
    admission: Admission
    alarms: Alarms
    known_damage: KnownDamage
    fold: FoldProgress
    webhook_path: str

    def resources(self) -> Iterator[tuple[str, object]]:
        yield "/healthz", Health()
        yield "/readyz", Readiness(self.admission, self.alarms, self.known_damage, self.fold)
        yield "/openapi.json", Document(self.version, self.webhook_path)


@dataclass(frozen=True, slots=True)
class MetricsRoutes:
    """What Prometheus asks: not for the webhook's callers, who behind a proxy all look as if they were on this machine."""

    sources: Sequence[MetricSource]

    def resources(self) -> Iterator[tuple[str, object]]:
        yield "/metrics", Metrics(self.sources)


@dataclass(frozen=True, slots=True)
class ApiRoutes:
    """The API. `stopping` is set when event streams and waiting requests have to end."""

    data: Path
    journal: FollowedJournal
    state: FoldedState
    config: EffectiveConfig
    refusals: Refusals
    claims: Claims
    operations: DaemonContext
    notices: Callable[[], Notices]
    status: StatusSources
    logs: NodeLogs
    snapshot: Snapshot
    stopping: threading.Event
    reads: ReadLog
    """What was asked with tokens."""
    clock: Callable[[], float] = time.time

    def resources(self) -> Iterator[tuple[str, object]]:
        for resources in (self._listings, self._queries, self._operations, self._claims):
            for path, resource in resources():
                yield f"/api/v1/{path}", resource
        familiars = lambda: ConfiguredFamiliars(self.config.config.familiars)  # noqa: E731 - one that is asked at each request
        yield from CaveSources(self.state, self.config, familiars).resources()

    def _listings(self) -> Iterator[tuple[str, object]]:
        yield "deliveries", listings.Deliveries(self.state, self.journal)
        yield "deliveries/{one}", listings.Delivery(self.state, self.journal)
        yield "deliveries/{one}/{two}", listings.Delivery(self.state, self.journal)
        yield "deliveries/{one}/payload", listings.Payload(self.state, self.journal)
        yield "deliveries/{one}/{two}/payload", listings.Payload(self.state, self.journal)
        yield "tasks", listings.Tasks(self.state, self.journal, self.config)
        yield "attempts", listings.LatestAttempts(self.state)
        yield "count", listings.Count(self.state)
        yield "tasks/{id}", listings.Task(self.state, self.config)
        yield "tasks/{id}/attempts", listings.Attempts(self.state)
        for stream in ("stdout", "stderr", "result"):
            yield f"tasks/{{id}}/attempts/{{attempt}}/{stream}", listings.Log(self.state, self.logs, stream)
        yield "secrets", listings.Secrets(self.state, self.config.live, self.clock)
        yield "refused", listings.Refused(self.data, self.config)

    def _queries(self) -> Iterator[tuple[str, object]]:
        yield "status", status.Status(self.status)
        yield "why", queries.Why(self.state, self.journal, self.config, self.data, self.logs, self.clock)
        yield "tail", queries.Tail(self.state, self.journal, self.clock, self.stopping)
        yield "stats", queries.Stats(self.state, self.clock)
        yield "audit", queries.Audit(self.state, self.journal, self.data, self.clock, self.reads.flush)
        yield "usage", queries.Usage(self.state, self.clock)
        yield "ledger", queries.Ledger(self.state, self.config, self.clock)
        yield "pace", queries.Throughput(self.state, self.refusals, self.data, self.clock)
        yield "notices", queries.NoticeList(self.notices)
        yield "events", Events(self.journal, self.stopping, state=self.state)
        yield "snapshot", self.snapshot

    def _operations(self) -> Iterator[tuple[str, object]]:
        for operation in operations.OPERATIONS:
            yield operation.name, Act(self.operations, self.state, operation)
        yield "pauses", pauses.Pauses(self.state)

    def _claims(self) -> Iterator[tuple[str, object]]:
        reports = self.claims.reports
        state = self.state
        yield "claims", claims.Claim(self.claims, self.config)
        yield "claims/completed", claims.CompleteAll(reports, state)
        yield "claims/{task}/renew", claims.Renew(reports, state)
        yield "claims/{task}/phase", claims.Phase(reports, state)
        yield "claims/{task}/token", claims.Token(reports, state)
        yield "claims/{task}/complete", claims.Complete(reports, state)
        yield "claims/{task}/fail", claims.Fail(reports, state)


@dataclass(frozen=True, slots=True)
class PhaseRoutes:
    """What the daemon's own commands post to, and nothing else: they are not operators."""

    claims: Claims

    def resources(self) -> Iterator[tuple[str, object]]:
        yield PHASE_PATH, claims.Phase(self.claims.reports, None)


def make_phase_app(routes: PhaseRoutes) -> App:
    """The application of the commands' socket. What is refused there is no refusal of a sender, and is not noted as one."""
    app = make_app([routes], Refusals(None))
    app.add_error_handler(falcon.HTTPError, _refuse_all_but_phases)
    return app


def _refuse_all_but_phases(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, object]
) -> None:
    if error.status_code not in (404, 405):
        respond_error(resp, error.status_code, "request_malformed", f"{error.title or 'The request is malformed'}.")
        return
    detail = "Commands report phases on this socket, and nothing else: they are not operators."
    hint = f"`covenq` commands use {SOCKET_NAME} in the data directory."
    respond(resp, 403, {**error_body("phases_only", detail), "hint": hint})


def make_app(
    groups: Collection[RouteGroup],
    refusals: Refusals,
    tokens: Tokens | None = None,
    *,
    webhook_path: str | None = DEFAULT_PATH,
    met: Callable[[BaseException], None] = lambda error: None,
) -> App:
    """The application of one listener, with these groups of routes. With `tokens`, the API requires one of them.

    `webhook_path` is told to who posts elsewhere, None: nothing is posted here; `met` is `Readers.met`.
    """
    # The webhook's own listener has no guard: nothing on it needs a token, and it is the hot path.
    api = next((group for group in groups if isinstance(group, ApiRoutes)), None)
    app: App = falcon.App(middleware=[] if api is None else [Guard(refusals, tokens, api.reads)])
    # Resources read bodies themselves: the raw bytes of GitHub's forms are signed.
    app.req_options.auto_parse_form_urlencoded = False
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.keep_blank_qs_values = True
    errors = _ErrorHandlers(refusals, webhook_path, met)
    app.add_error_handler(Exception, errors.unexpected)
    app.add_error_handler(falcon.HTTPError, errors.http)
    app.add_error_handler(CovenqError, errors.failure)
    app.add_error_handler(JournalError, errors.failure)
    app.add_error_handler(sqlite3.DatabaseError, errors.unreadable)
    for group in groups:
        for path, resource in group.resources():
            _add(app, path, resource)
    return app


def _add(app: App, path: str, resource: object) -> None:
    """Add a resource at its path. What answers GET answers HEAD, for which falcon leaves the body out."""
    if hasattr(resource, "on_get") and not hasattr(resource, "on_head"):
        setattr(resource, "on_head", resource.on_get)  # noqa: B010 - falcon looks responders up by name
    app.add_route(path, resource)


class _ErrorHandlers:
    """Answers as JSON what falcon, our own code, or a bug raises."""

    def __init__(self, refusals: Refusals, webhook_path: str | None, met: Callable[[BaseException], None]) -> None:
        self._met = met
        self._refusals = refusals
        self._webhook_path = webhook_path

    def http(
        self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, object]
    ) -> None:
        status, path = error.status_code, self._webhook_path
        where = (
            f"go to {path}" if path is not None else 'are taken from GitHub\'s log alone ([github] ingress is "log")'
        )
        word, detail = {
            404: ("path_unknown", f"There is nothing at {req.path[:100]!r}; deliveries {where}."),
            405: ("method_not_allowed", f"{req.method} is no method of {req.path[:100]!r}."),
        }.get(status, ("request_malformed", f"{error.title or 'The request can not be understood'}."))
        if status == 404 and req.path == "/metrics":
            detail = "Metrics are on the Unix socket, on [api], on [metrics] bind, and here only with [server] metrics = true."
        # A hook with the wrong address, or one whose POST was redirected as a GET.
        if req.method == "POST" or req.get_header("X-GitHub-Event"):
            self._note(req, word, status, detail)
        respond_error(resp, status, word, detail)
        for name, value in dict(error.headers or {}).items():
            resp.set_header(name, value)

    def failure(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        error: CovenqError | JournalError,
        params: dict[str, object],
    ) -> None:
        word = "state_behind" if isinstance(error, StateBehind) else "state_unreadable"
        if isinstance(error, StateBehind | StateUnreadable):
            respond(resp, 503, {**error_body(word, f"{error}."), "hint": error.hint})
        else:
            respond_exception(resp, error)

    def unreadable(
        self, req: falcon.Request, resp: falcon.Response, error: sqlite3.DatabaseError, params: dict[str, object]
    ) -> None:
        """What SQLite says of state.db. A mistake in a statement has the class of a table that is gone, so the log says where."""
        if type(error) not in (sqlite3.DatabaseError, sqlite3.OperationalError) or no_descriptor_left():
            self.unexpected(req, resp, error, params)
            return
        log.error("%s %s failed: state.db can't be read: %s in %s", req.method, req.path[:200], error, raised_in(error))
        self._met(error)
        self.failure(req, resp, StateUnreadable(f"state.db can't be read: {error}"), params)

    def unexpected(
        self, req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, object]
    ) -> None:
        # The type and place, not the text: an error may quote the payload.
        log.error("%s %s failed: %s in %s", req.method, req.path[:200], type(error).__name__, raised_in(error))
        short = no_descriptor_left()
        detail = f"covenq can't answer: {short}." if short else "covenq failed to answer; its log says where."
        status = 503 if short else 500
        if req.method == "POST":
            self._note(req, "internal", status, detail)
        respond(resp, status, {**error_body("internal", detail), "hint": _RAISE_LIMIT if short else _SEE_LOG})

    def _note(self, req: falcon.Request, word: str, status: int, detail: str) -> None:
        shown = refusal_evidence.evidence_of(lambda name: req.get_header(name.replace("_", "-")), None)
        self._refusals.note(word, status, detail, path=req.path, client=req.remote_addr, **shown)


_RAISE_LIMIT = (
    "Raise the daemon's limit of open files: LimitNOFILE=65536 in the unit, or `ulimit -Hn` before `covenq serve`."
)
_SEE_LOG = "Look at the daemon's log: on its standard error, or `journalctl -u covenq`. It is a fault of covenq's own."


def raised_in(error: Exception) -> str:
    """Where it was raised: file:line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
