"""/api/v1/redact and /api/v1/compact: erasure and retention. Answered on completion; progress is in /api/v1/status."""

from __future__ import annotations

import falcon

from covenq.http.answers import respond_ok
from covenq.http.api.params import body_of
from covenq.http.api.resource import Resource


class Redact(Resource):
    """POST {"ids": […]}, {"filter": "…"}, {"repo": "OWNER/NAME"} or {"installation": N}, and "dry_run", "reason", "by"."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"ids", "filter", "repo", "installation", "dry_run", "reason", "by"})
        answer = self._services.upkeep.redact(
            ids=body.ids(),
            filter=body.filter(),
            repo=body.text("repo"),
            installation=body.integer("installation"),
            reason=body.text("reason"),
            by=body.text("by"),
            dry_run=body.flag("dry_run"),
        )
        respond_ok(resp, answer)


class Compact(Resource):
    """POST {} and perhaps "dry_run", "by": drop everything that the configured retention no longer keeps."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = body_of(req, {"dry_run", "by"})
        respond_ok(resp, self._services.upkeep.compact(by=body.text("by"), dry_run=body.flag("dry_run")))
