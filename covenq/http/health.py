"""GET /healthz: the process answers. GET /readyz: a delivery posted now would be accepted, or why not; and what else is wrong."""

from __future__ import annotations

import falcon

from covenq.http.answers import error_body, respond, respond_ok
from covenq.intake.admission import Admission
from covenq.operate.inspect.alarms import Alarms


class Health:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, {})


class Readiness:
    """Alarms don't make it unready: who asks would send deliveries elsewhere, or nowhere, that are accepted here."""

    def __init__(self, admission: Admission, alarms: Alarms) -> None:
        self._admission = admission
        self._alarms = alarms

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reasons = [reason.sentence for reason in self._admission.reasons()]
        found = {"ready": not reasons, "reasons": reasons, "alarms": self._alarms.sentences()}
        if reasons:
            respond(resp, 503, {**error_body("not_ready", " ".join(reasons)), **found})
        else:
            respond_ok(resp, found)
