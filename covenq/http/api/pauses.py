"""GET /api/v1/pauses. /pause and /resume are operations: see `act`."""

from __future__ import annotations

import falcon

from covenq.http.answers import respond_ok
from covenq.http.api.resource import Resource
from covenq.operate.inspect import view


class Pauses(Resource):
    """GET: what is paused, oldest first."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, {"items": view.pauses(self._services.reader()), "next": None})
