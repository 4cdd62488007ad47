"""/api/v1: what is stored, asked and acted on. On the Unix socket, whose permissions are the authorisation."""

from __future__ import annotations

import falcon

from covenq.config.api_tokens import Role
from covenq.errors import NotFound
from covenq.filter.grammar import parse
from covenq.http.answers import say, say_error
from covenq.http.api.params import LIMIT, id_of, limit_of
from covenq.http.guard import token_of
from covenq.http.services import Services
from covenq.intake import refusal_hints
from covenq.model import parse_id
from covenq.operate.inspect import secret_usage, view
from covenq.state import query

LOG_MAX = 1 << 20
"""Bytes of an attempt's output that one request brings: the last of them."""


class Secrets:
    """GET …/secrets: how each is used, and which may be retired; never what it is."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        services = self._services
        say(
            resp,
            200,
            {"ok": True, **secret_usage.view(services.reader(), services.live.secret_status(), services.clock())},
        )


class Listing:
    """GET …/deliveries and …/tasks: `filter=`, `limit=` (0 is the most there may be), `after=`."""

    def __init__(self, services: Services, what: view.What) -> None:
        self._services = services
        self._what = what

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        limit = limit_of(req.get_param("limit"))
        filter = parse(req.get_param("filter") or "")
        conn = self._services.reader()
        after, caps = req.get_param("after"), self._services.caps
        found = view.items(conn, self._services.journal, self._what, filter, limit, after, caps=caps)
        say(resp, 200, {"ok": True, **found})


class Count:
    """GET …/count: `what=`, `filter=`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        filter = parse(req.get_param("filter") or "")
        what: view.Counted = "tasks" if req.get_param("what") == "tasks" else "deliveries"
        say(resp, 200, {"ok": True, "count": view.count(self._services.reader(), what, filter)})


class Delivery:
    """GET …/deliveries/GUID and …/deliveries/HOOK/GUID."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str | None = None) -> None:
        conn = self._services.reader()
        say(resp, 200, {"ok": True, **view.delivery(conn, self._services.journal, id_of(one, two))})


_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded"}


class Payload:
    """GET …/payload: the bytes as they came, of the type they came as, and as no browser will take them for a page.

    A token of the role `worker` gets those of deliveries that a pull worker holds a task of, now.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str | None = None) -> None:
        conn = self._services.reader()
        found = query.delivery(conn, *parse_id(id_of(one, two)))
        token = token_of(req)
        if token is not None and token.role == Role.WORKER and not query.is_pulled(conn, found["seq"]):
            detail = "A worker's token reads the payload of a task that a worker holds, and only as long as it does."
            say_error(resp, 403, "not_claimed", detail)
            return
        content, kind = view.body(self._services.journal, found)
        resp.data = content
        resp.content_type = _TYPES.get(kind, "application/octet-stream")
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Content-Disposition", "attachment")
        resp.set_header("Content-Security-Policy", "sandbox; default-src 'none'")


class Task:
    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        say(resp, 200, {"ok": True, **view.task(self._services.reader(), id, caps=self._services.caps)})


class Attempts:
    """GET …/tasks/ID/attempts, as `Listing`, but first to last; the filter is held against the task."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        limit = limit_of(req.get_param("limit"))
        filter = parse(req.get_param("filter") or "")
        found = query.attempts_of(self._services.reader(), id, filter, limit, req.get_param("after"))
        say(resp, 200, {"ok": True, "items": found.items, "next": found.next})


class Log:
    """GET …/tasks/ID/attempts/N/stdout and …/stderr: the last of what the attempt wrote, as plain text."""

    def __init__(self, services: Services, stream: str) -> None:
        self._services = services
        self._stream = stream

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str, attempt: str) -> None:
        last = req.get_param_as_int("last", min_value=1, max_value=LOG_MAX, default=LOG_MAX)
        if not (attempt.isascii() and attempt.isdecimal() and len(attempt) <= 9):
            raise NotFound(f"no attempt {attempt[:20]!r}")
        resp.data = view.log(self._services.data, id, int(attempt), self._stream, last)
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_header("X-Content-Type-Options", "nosniff")


class Refused:
    """GET …/refused: the newest requests that were refused, each with a hint. `limit=` 0 is all that are kept."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        text = req.get_param("limit")
        limit_of(text)
        found = refusal_hints.latest(self._services.data, LIMIT if text is None else int(text))
        say(resp, 200, {"ok": True, "items": found, "next": None})
