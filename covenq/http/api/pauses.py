"""GET /api/v1/pauses. /pause and /resume are operations: see `act`."""

from __future__ import annotations

import falcon

from covenq.http.answers import respond_ok
from covenq.http.guard import scope_of_request
from covenq.operate.inspect import view
from covenq.state.folded import FoldedState


class Pauses:
    """GET: what is paused, oldest first."""

    def __init__(self, state: FoldedState) -> None:
        self._state = state

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, {"items": view.pauses(self._state.reader(scope_of_request(req))), "next": None})
