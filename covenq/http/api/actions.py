"""POST /api/v1/replay, reroute, requeue, cancel and import: what operators do, planned by `covenq.operate.act.actions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

from covenq.http.answers import respond_ok
from covenq.http.api.params import body_of
from covenq.http.api.resource import OperationParts, Resource
from covenq.model import JsonObject
from covenq.operate.act import actions, importing
from covenq.operate.act.archive import parse_item

IMPORT_MAX = 48 << 20
"""Bytes of a request to import: the largest payload there may be, as base64, and what goes with it."""

Act = Callable[..., JsonObject]
"""Plans an operation from the arguments of a request, and applies it unless `dry_run`."""


class Action(Resource):
    """POST {"ids": […]} or {"filter": "…"}, "dry_run", "reason", "by", and the `flags` and `texts` of this action."""

    def __init__(
        self, services: OperationParts, act: Act, *, flags: tuple[str, ...] = (), texts: tuple[str, ...] = ()
    ) -> None:
        super().__init__(services)
        self._act = act
        self._flags = ("dry_run", *flags)
        self._texts = ("reason", *texts)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"ids", "filter", "by", *self._flags, *self._texts})
        wanted: dict[str, Any] = {key: body.flag(key) for key in self._flags}
        wanted |= {key: body.text(key) for key in self._texts}
        wanted |= {"by": body.text("by"), "ids": body.ids(), "filter": body.filter()}
        with self._services.upkeep.operations_lock:
            answer = self._act(**wanted)
        respond_ok(resp, answer)


def replay(services: OperationParts) -> Action:
    """With "route" or "to", and "force"."""

    def act(**wanted: Any) -> JsonObject:
        return actions.replay(services.journal, services.reader(), services.config, **wanted)

    return Action(services, act, flags=("force",), texts=("route", "to"))


def reroute(services: OperationParts) -> Action:
    return Action(
        services,
        lambda **wanted: actions.reroute(services.journal, services.reader(), services.config, **wanted),
    )


def requeue(services: OperationParts) -> Action:
    return Action(services, lambda **wanted: actions.requeue(services.journal, services.reader(), **wanted))


def cancel(services: OperationParts) -> Action:
    return Action(services, lambda **wanted: actions.cancel(services.journal, services.reader(), **wanted))


class Import(Resource):
    """POST {"items": [{"headers", "body64", "origin"}…]}, and "routed", "dry_run", "reason", "by"."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"items", "routed", "dry_run", "reason", "by"}, IMPORT_MAX)
        given = body.typed("items", list, "a list of deliveries", [])
        services = self._services
        with services.upkeep.operations_lock:
            answer = importing.import_deliveries(
                services.journal,
                services.config,
                [parse_item(one) for one in given],
                routed=body.flag("routed"),
                dry_run=body.flag("dry_run"),
                reason=body.text("reason"),
                by=body.text("by"),
                clock=services.clock,
            )
        respond_ok(resp, answer)
