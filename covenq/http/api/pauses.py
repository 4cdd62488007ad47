"""/api/v1/pause, /resume and /pauses."""

from __future__ import annotations

from typing import Any

import falcon

from covenq.http.answers import say
from covenq.http.api.params import body_of, typed
from covenq.http.services import Services
from covenq.operate.act import pauses
from covenq.operate.inspect import view
from covenq.operate.inspect.status import route_names


class Pauses:
    """GET: what is paused, oldest first."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        say(resp, 200, {"ok": True, "items": view.pauses(self._services.reader()), "next": None})


class Pause:
    """POST {"what": …, "name"?: …, "reason"?: …, "by"?: …}."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        services = self._services
        done = pauses.pause(
            services.journal, services.reader, routes=route_names(services.config.routes), **_wanted(req)
        )
        services.admission.refresh()
        say(resp, 200, {"ok": True, **done})


class Resume:
    """POST as for Pause."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        services = self._services
        done = pauses.resume(services.journal, services.reader, **_wanted(req))
        services.admission.refresh()
        say(resp, 200, {"ok": True, **done})


def _wanted(req: falcon.Request) -> dict[str, Any]:
    """Raises UsageError."""
    body = body_of(req, {"what", "name", "reason", "by"})
    return {
        "what": typed(body, "what", str, "a text", ""),
        "name": typed(body, "name", str, "a text", None),
        "reason": typed(body, "reason", str, "a text", None),
        "by": typed(body, "by", str, "a text", None) or "api",
    }
