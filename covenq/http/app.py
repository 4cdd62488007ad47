"""The WSGI application: the router, and the error handlers."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Collection
from typing import Any, Literal

import falcon

from covenq.config.api_tokens import Tokens
from covenq.errors import CovenqError, StateBehind
from covenq.http.answers import respond_error, respond_exception
from covenq.http.api import claims, listings, pauses, queries, status
from covenq.http.api.act import Act
from covenq.http.api.events import Events
from covenq.http.guard import Guard
from covenq.http.health import Health, Readiness
from covenq.http.metrics import Metrics
from covenq.http.openapi.document import Document
from covenq.http.services import Services
from covenq.http.webhook import Webhook
from covenq.intake import refusal_evidence
from covenq.operate import operations
from covenq.operate.daemon_context import DaemonContext
from journal.errors import JournalError

App = falcon.App[falcon.Request, falcon.Response]
RouteGroup = Literal["webhook", "health", "api"]

log = logging.getLogger("covenq.http")


def make_app(services: Services, groups: Collection[RouteGroup], tokens: Tokens | None = None) -> App:
    """The application of one listener, with these groups of routes. With `tokens`, the API requires one of them."""
    # The webhook's own listener has no guard: nothing on it needs a token, and it is the hot path.
    app: App = falcon.App(middleware=[Guard(services.refusals, tokens)] if "api" in groups else [])
    # Resources read bodies themselves: the raw bytes of GitHub's forms are signed.
    app.req_options.auto_parse_form_urlencoded = False
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.keep_blank_qs_values = True
    errors = _ErrorHandlers(services)
    app.add_error_handler(Exception, errors.unexpected)
    app.add_error_handler(falcon.HTTPError, errors.http)
    app.add_error_handler(CovenqError, errors.failure)
    app.add_error_handler(JournalError, errors.failure)
    if "webhook" in groups:
        _add(app, "/webhook", Webhook(services))
    if "health" in groups:
        _add(app, "/healthz", Health())
        _add(app, "/readyz", Readiness(services.admission))
        _add(app, "/metrics", Metrics(services))
        _add(app, "/openapi.json", Document(services.version))
    if "api" in groups:
        _add_api(app, services)
    return app


def _add(app: App, path: str, resource: Any) -> None:
    """Add a resource at its path. What answers GET answers HEAD, for which falcon leaves the body out."""
    if hasattr(resource, "on_get") and not hasattr(resource, "on_head"):
        resource.on_head = resource.on_get
    app.add_route(path, resource)


def _add_api(app: App, services: Services) -> None:
    _add(app, "/api/v1/status", status.Status(services))
    _add(app, "/api/v1/deliveries", listings.Listing(services, "deliveries"))
    _add(app, "/api/v1/deliveries/{one}", listings.Delivery(services))
    _add(app, "/api/v1/deliveries/{one}/{two}", listings.Delivery(services))
    _add(app, "/api/v1/deliveries/{one}/payload", listings.Payload(services))
    _add(app, "/api/v1/deliveries/{one}/{two}/payload", listings.Payload(services))
    _add(app, "/api/v1/tasks", listings.Listing(services, "tasks"))
    _add(app, "/api/v1/attempts", listings.Listing(services, "attempts"))
    _add(app, "/api/v1/count", listings.Count(services))
    _add(app, "/api/v1/tasks/{id}", listings.Task(services))
    _add(app, "/api/v1/tasks/{id}/attempts", listings.Attempts(services))
    _add(app, "/api/v1/tasks/{id}/attempts/{attempt}/stdout", listings.Log(services, "stdout"))
    _add(app, "/api/v1/tasks/{id}/attempts/{attempt}/stderr", listings.Log(services, "stderr"))
    _add(app, "/api/v1/why", queries.Why(services))
    _add(app, "/api/v1/tail", queries.Tail(services))
    _add(app, "/api/v1/stats", queries.Stats(services))
    _add(app, "/api/v1/pace", queries.Throughput(services))
    _add(app, "/api/v1/claims", claims.Claim(services))
    _add(app, "/api/v1/claims/completed", claims.CompleteAll(services))
    _add(app, "/api/v1/claims/{task}/renew", claims.Renew(services))
    _add(app, "/api/v1/claims/{task}/phase", claims.Phase(services))
    _add(app, "/api/v1/claims/{task}/complete", claims.Complete(services))
    _add(app, "/api/v1/claims/{task}/fail", claims.Fail(services))
    _add(app, "/api/v1/secrets", listings.Secrets(services))
    _add(app, "/api/v1/refused", listings.Refused(services))
    _add(app, "/api/v1/pauses", pauses.Pauses(services))
    _add(app, "/api/v1/events", Events(services))
    context = DaemonContext(
        services.live, services.journal, services.reader, services.upkeep, services.admission, services.clock
    )
    for operation in operations.OPERATIONS:
        _add(app, f"/api/v1/{operation.name}", Act(context, operation))


class _ErrorHandlers:
    """Answers as JSON what falcon, our own code, or a bug raises."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def http(
        self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, object]
    ) -> None:
        status = error.status_code
        word, detail = {
            404: ("path_unknown", f"There is nothing at {req.path[:100]!r}; deliveries go to /webhook."),
            405: ("method_not_allowed", f"{req.method} is no method of {req.path[:100]!r}."),
        }.get(status, ("request_malformed", f"{error.title or 'The request can not be understood'}."))
        # A hook with the wrong address, or one whose POST was redirected as a GET.
        if req.method == "POST" or req.get_header("X-GitHub-Event"):
            shown = refusal_evidence.evidence_of(lambda name: req.get_header(name.replace("_", "-")))
            shown["body"] = None  # it was not looked at
            self._services.refusals.note(word, status, detail, path=req.path, client=req.remote_addr, **shown)
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
        if isinstance(error, StateBehind):
            respond_error(resp, 503, "state_behind", f"{error}.")
        else:
            respond_exception(resp, error)

    def unexpected(
        self, req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, object]
    ) -> None:
        # The type and place, not the text: an error may quote the payload.
        log.error("%s %s failed: %s in %s", req.method, req.path[:200], type(error).__name__, _raised_in(error))
        detail = "covenq failed to answer; its log says where."
        if req.method == "POST":
            self._services.refusals.note("internal", 500, detail, path=req.path, client=req.remote_addr)
        respond_error(resp, 500, "internal", detail)


def _raised_in(error: Exception) -> str:
    """Where it was raised: file:line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
