"""GET /healthz: the process answers. GET /readyz: a delivery posted now would be accepted, or why not."""

from __future__ import annotations

import falcon

from covenq.http.answers import error_body, say
from covenq.intake.admission import Admission


class Health:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        say(resp, 200, {"ok": True})


class Readiness:
    def __init__(self, admission: Admission) -> None:
        self._gate = admission

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reasons = [reason.sentence for reason in self._gate.reasons()]
        if reasons:
            say(resp, 503, {**error_body("not_ready", " ".join(reasons)), "ready": False, "reasons": reasons})
        else:
            say(resp, 200, {"ok": True, "ready": True, "reasons": []})
