"""GET /api/v1: deliveries, tasks, attempts and their contents, secrets, and refused requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import falcon

from covenq.config.api_tokens import Role
from covenq.config.live import Live
from covenq.errors import NotFound
from covenq.http.answers import respond_error, respond_ok
from covenq.http.api.effective import EffectiveConfig
from covenq.http.api.node_logs import LOG_MAX, NodeLogs, Wanted
from covenq.http.api.params import LIMIT, filter_of, flag_of, id_of, integer_of, limit_of
from covenq.http.guard import presented_token, scope_of_request, token_of
from covenq.http.passing import PASSED
from covenq.intake import refusal_hints
from covenq.model import parse_id
from covenq.model.rows import Page
from covenq.operate.inspect import secret_usage, view
from covenq.state import query
from covenq.state.folded import FoldedState
from journal.interface import Journal


@dataclass(eq=False)
class Secrets:
    """GET …/secrets: how each is used, and which may be retired; never its value."""

    state: FoldedState
    live: Live
    clock: Callable[[], float]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, secret_usage.view(self.state.reader(), self.live.secret_status(), self.clock()))


@dataclass(eq=False)
class Deliveries:
    """GET …/deliveries: `filter=`, `limit=` (0 is the most there may be), `after=`."""

    state: FoldedState
    journal: Journal

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        limit, filter, after = limit_of(req.get_param("limit")), filter_of(req), req.get_param("after")
        respond_ok(resp, view.deliveries(self.state.reader(scope_of_request(req)), self.journal, filter, limit, after))


@dataclass(eq=False)
class Tasks:
    """GET …/tasks, as `Deliveries`."""

    state: FoldedState
    journal: Journal
    config: EffectiveConfig

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        limit, filter, after = limit_of(req.get_param("limit")), filter_of(req), req.get_param("after")
        conn = self.state.reader(scope_of_request(req))
        respond_ok(resp, view.tasks(conn, self.journal, filter, limit, after, caps=self.config.caps))


@dataclass(eq=False)
class LatestAttempts:
    """GET …/attempts of the tasks that match, as `Deliveries`."""

    state: FoldedState

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        limit, filter, after = limit_of(req.get_param("limit")), filter_of(req), req.get_param("after")
        respond_ok(resp, query.latest_attempts(self.state.reader(scope_of_request(req)), filter, limit, after))


@dataclass(eq=False)
class Count:
    """GET …/count: `what=`, `filter=`, `limit=`."""

    state: FoldedState

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        filter = filter_of(req)
        asked = req.get_param("what")
        what: view.Counted = "tasks" if asked == "tasks" else "attempts" if asked == "attempts" else "deliveries"
        limit = integer_of(req, "limit") or 0
        respond_ok(resp, {"count": view.count(self.state.reader(scope_of_request(req)), what, filter, limit)})


@dataclass(eq=False)
class Delivery:
    """GET …/deliveries/GUID and …/deliveries/HOOK/GUID."""

    state: FoldedState
    journal: Journal

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str | None = None) -> None:
        conn = self.state.reader(scope_of_request(req))
        respond_ok(resp, view.delivery(conn, self.journal, id_of(one, two)))


_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded"}


@dataclass(eq=False)
class Payload:
    """GET …/payload: the bytes and media type as they were received, with headers that keep browsers from rendering them.

    With `decoded=1` the JSON, also of what came as a form.

    A token of the role `worker` reads those of deliveries whose task a pull worker holds now.
    """

    state: FoldedState
    journal: Journal

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str | None = None) -> None:
        conn = self.state.reader(scope_of_request(req))
        found = query.delivery(conn, *parse_id(id_of(one, two)))
        token = token_of(req)
        if token is not None and token.role == Role.WORKER and not query.is_pulled(conn, found.seq):
            detail = "A worker's token reads the payload of a task that a worker holds, and only as long as it does."
            respond_error(resp, 403, "not_claimed", detail)
            return
        if flag_of(req, "decoded"):
            content, kind = view.decoded_body(self.journal, found), "json"
        else:
            content, kind = view.body(self.journal, found)
        resp.data = content
        resp.content_type = _TYPES.get(kind, "application/octet-stream")
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Content-Disposition", "attachment")
        resp.set_header("Content-Security-Policy", "sandbox; default-src 'none'")


@dataclass(eq=False)
class Task:
    state: FoldedState
    config: EffectiveConfig

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        respond_ok(resp, view.task(self.state.reader(scope_of_request(req)), id, caps=self.config.caps))


@dataclass(eq=False)
class Attempts:
    """GET …/tasks/ID/attempts: as `Deliveries`, but first to last; the filter applies to the task."""

    state: FoldedState

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        limit = limit_of(req.get_param("limit"))
        filter = filter_of(req)
        found = query.attempts_of(self.state.reader(scope_of_request(req)), id, filter, limit, req.get_param("after"))
        respond_ok(resp, found)


@dataclass(eq=False)
class Log:
    """GET …/tasks/ID/attempts/N/stdout and …/stderr: the last of what the attempt wrote, or what begins at `offset=`.

    As plain text; …/result, the bytes of its result. What lies on another node is fetched from there.
    """

    state: FoldedState
    logs: NodeLogs
    stream: str

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str, attempt: str) -> None:
        last = req.get_param_as_int("last", min_value=1, max_value=LOG_MAX, default=LOG_MAX)
        if not (attempt.isascii() and attempt.isdecimal() and len(attempt) <= 9):
            raise NotFound(f"no attempt {attempt[:20]!r}")
        offset = req.get_param_as_int("offset", min_value=0, max_value=1 << 53)
        wanted, conn = Wanted(id, int(attempt), self.stream, last, offset), self.state.reader(scope_of_request(req))
        if req.get_header(PASSED) is None:
            resp.data = self.logs.read(conn, wanted, presented_token(req))
        else:
            resp.data = self.logs.here(conn, wanted)
        resp.content_type = "application/octet-stream" if self.stream == "result" else "text/plain; charset=utf-8"
        resp.set_header("X-Content-Type-Options", "nosniff")


@dataclass(eq=False)
class Refused:
    """GET …/refused: the newest requests that were refused, each with a hint. `limit=` 0 is all that are kept."""

    data: Path
    config: EffectiveConfig

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        text = req.get_param("limit")
        limit_of(text)
        fetched = bool(self.config.config.github_logs.all)
        found = refusal_hints.latest(self.data, LIMIT if text is None else int(text), fetched)
        respond_ok(resp, Page(found, None))
