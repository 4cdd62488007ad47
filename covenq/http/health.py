"""GET /healthz: the process answers. GET /readyz: a delivery posted now would be accepted, or why not; and what else is wrong."""

from __future__ import annotations

import falcon

from covenq.http.answers import error_body, respond, respond_ok
from covenq.intake.admission import Admission
from covenq.operate.inspect.alarms import Alarms
from covenq.operate.maintain.known_damage import KnownDamage


class Health:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, {})


class Readiness:
    """Alarms, and damage that only a verification found, don't make it unready.

    Who asks would send deliveries elsewhere, or nowhere, that are accepted here.
    """

    def __init__(self, admission: Admission, alarms: Alarms, known_damage: KnownDamage) -> None:
        self._admission = admission
        self._alarms = alarms
        self._known_damage = known_damage

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reasons = [reason.sentence for reason in self._admission.reasons()]
        damage = self._known_damage.sentence
        found = {"ready": not reasons, "reasons": reasons, "alarms": self._alarms.sentences()}
        if reasons:
            detail = " ".join([*reasons, *([damage] if damage else [])])
            respond(resp, 503, {**error_body("not_ready", detail), **found})
        else:
            respond_ok(resp, {**found, "detail": damage})
