"""POST /api/v1/replay, reroute, requeue, cancel and import: what operators do, as `covenq.operate.act.actions` has it."""

from __future__ import annotations

from typing import Any

import falcon

from covenq.errors import UsageError
from covenq.filter.grammar import Filter, parse
from covenq.http.answers import say
from covenq.http.api.params import body_of, ids_of, typed
from covenq.http.services import Services
from covenq.operate.act import actions, importing
from covenq.operate.act.archive import parse_item

IMPORT_MAX = 48 << 20
"""Bytes of a request to import: the largest payload there may be, as base64, and what goes with it."""


class Replay:
    """POST {"ids": […]} or {"filter": "…"}, and "route" or "to", "force", "dry_run", "reason", "by"."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        wanted = _wanted(req, flags=("force",), texts=("route", "to"))
        services = self._services
        with services.upkeep.acting:
            answer = actions.replay(services.journal, services.reader(), services.config, **wanted)
        say(resp, 200, {"ok": True, **answer})


class Reroute:
    """POST {"ids": […]} or {"filter": "…"}, and "dry_run", "reason", "by"."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        wanted = _wanted(req)
        services = self._services
        with services.upkeep.acting:
            answer = actions.reroute(services.journal, services.reader(), services.config, **wanted)
        say(resp, 200, {"ok": True, **answer})


class Requeue:
    """POST {"ids": […]} or {"filter": "…"}, and "dry_run", "reason", "by"."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        wanted = _wanted(req)
        services = self._services
        with services.upkeep.acting:
            answer = actions.requeue(services.journal, services.reader(), **wanted)
        say(resp, 200, {"ok": True, **answer})


class Cancel:
    """POST {"ids": […]} or {"filter": "…"}, and "dry_run", "reason", "by"."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        wanted = _wanted(req)
        services = self._services
        with services.upkeep.acting:
            answer = actions.cancel(services.journal, services.reader(), **wanted)
        say(resp, 200, {"ok": True, **answer})


class Import:
    """POST {"items": [{"headers", "body64", "origin"}…]}, and "routed", "dry_run", "reason", "by"."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"items", "routed", "dry_run", "reason", "by"}, IMPORT_MAX)
        given = typed(body, "items", list, "a list of deliveries", [])
        services = self._services
        with services.upkeep.acting:
            answer = importing.import_deliveries(
                services.journal,
                services.config,
                [parse_item(one) for one in given],
                routed=typed(body, "routed", bool, "true or false", False),
                dry_run=typed(body, "dry_run", bool, "true or false", False),
                reason=typed(body, "reason", str, "a text", None),
                by=body.get("by") or "api",
                clock=services.clock,
            )
        say(resp, 200, {"ok": True, **answer})


def _wanted(req: falcon.Request, *, flags: tuple[str, ...] = (), texts: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments of an operation, out of a JSON body. Raises UsageError, FilterError."""
    body = body_of(req, {"ids", "filter", "dry_run", "reason", "by", *flags, *texts})
    wanted: dict[str, Any] = {}
    for key in ("dry_run", *flags):
        wanted[key] = typed(body, key, bool, "true or false", False)
    for key in ("reason", *texts):
        wanted[key] = typed(body, key, str, "a text", None)
    wanted["by"] = typed(body, "by", str, "a text", None) or "api"
    wanted["ids"] = ids_of(body)
    wanted["filter"] = filter_of(body.get("filter"))
    return wanted


def filter_of(value: Any) -> Filter | None:
    """What `filter` of a body says. Raises UsageError, FilterError."""
    if value is None:
        return None
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(word, str) for word in value)):
        return parse(value)
    raise UsageError("filter must be a text")
