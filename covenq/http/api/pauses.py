"""/api/v1/pause, /resume and /pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

from covenq.http.answers import respond_ok
from covenq.http.api.params import body_of
from covenq.http.api.resource import OperationParts, Resource
from covenq.model import JsonObject
from covenq.operate.act import pauses
from covenq.operate.inspect import view
from covenq.operate.inspect.status import route_names


class Pauses(Resource):
    """GET: what is paused, oldest first."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, {"items": view.pauses(self._services.reader()), "next": None})


class PauseChange(Resource):
    """POST {"what": …, "name"?: …, "reason"?: …, "by"?: …}, in effect for the intake before it answers."""

    def __init__(self, services: OperationParts, change: Callable[..., JsonObject]) -> None:
        super().__init__(services)
        self._change = change

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"what", "name", "reason", "by"})
        answer = self._change(
            what=body.text("what", ""), name=body.text("name"), reason=body.text("reason"), by=body.text("by")
        )
        self._services.admission.refresh()
        respond_ok(resp, answer)


def pause(services: OperationParts) -> PauseChange:
    def change(**wanted: Any) -> JsonObject:
        return pauses.pause(services.journal, services.reader, routes=route_names(services.config.routes), **wanted)

    return PauseChange(services, change)


def resume(services: OperationParts) -> PauseChange:
    return PauseChange(services, lambda **wanted: pauses.resume(services.journal, services.reader, **wanted))
