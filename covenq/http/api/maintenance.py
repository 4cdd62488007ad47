"""/api/v1/redact and /api/v1/compact: content taken out of the log. They answer when it is done; the status tells how far."""

from __future__ import annotations

import falcon

from covenq.http.answers import say
from covenq.http.api.actions import filter_of
from covenq.http.api.params import body_of, ids_of, typed
from covenq.http.services import Services


class Redact:
    """POST {"ids": […]}, {"filter": "…"}, {"repo": "OWNER/NAME"} or {"installation": N}, and "dry_run", "reason", "by"."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"ids", "filter", "repo", "installation", "dry_run", "reason", "by"})
        answer = self._services.upkeep.redact(
            ids=ids_of(body),
            filter=filter_of(body.get("filter")),
            repo=typed(body, "repo", str, "a text", None),
            installation=typed(body, "installation", int, "a whole number", None),
            reason=typed(body, "reason", str, "a text", None),
            by=typed(body, "by", str, "a text", None) or "api",
            dry_run=typed(body, "dry_run", bool, "true or false", False),
        )
        say(resp, 200, {"ok": True, **answer})


class Compact:
    """POST {} and perhaps "dry_run", "by": drop all that the configured retention lets go."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"dry_run", "by"})
        answer = self._services.upkeep.compact(
            by=typed(body, "by", str, "a text", None) or "api",
            dry_run=typed(body, "dry_run", bool, "true or false", False),
        )
        say(resp, 200, {"ok": True, **answer})
