"""GET /healthz: the process answers. GET /readyz: a delivery posted now would be accepted, or why not."""

from __future__ import annotations

import falcon

from covenq.http.answers import error_body, respond, respond_ok
from covenq.intake.admission import Admission


class Health:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, {})


class Readiness:
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reasons = [reason.sentence for reason in self._admission.reasons()]
        if reasons:
            respond(resp, 503, {**error_body("not_ready", " ".join(reasons)), "ready": False, "reasons": reasons})
        else:
            respond_ok(resp, {"ready": True, "reasons": []})
