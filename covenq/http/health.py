"""GET /healthz: the process answers. GET /readyz: a delivery posted now would be accepted, or why not; and what else is wrong."""

from __future__ import annotations

import falcon

from covenq.http.answers import error_body, respond, respond_ok
from covenq.intake.admission import Admission
from covenq.operate.inspect.alarms import Alarms
from covenq.operate.maintain.known_damage import KnownDamage
from covenq.state.progress import DAMAGED, FoldProgress


class Health:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond_ok(resp, {})


class Readiness:
    """Alarms, and damage that only a verification found, don't make it unready.

    Who asks would send deliveries elsewhere, or nowhere, that are accepted here.
    """

    def __init__(self, admission: Admission, alarms: Alarms, known_damage: KnownDamage, fold: FoldProgress) -> None:
        self._admission = admission
        self._alarms = alarms
        self._known_damage = known_damage
        self._fold = fold

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reasons = [reason.sentence for reason in self._admission.reasons()]
        also = [one for one in (self._known_damage.sentence, self._behind()) if one]
        found = {"ready": not reasons, "reasons": reasons, "alarms": self._alarms.sentences() + self._damaged()}
        if reasons:
            detail = " ".join([*reasons, *also])
            respond(resp, 503, {**error_body("not_ready", detail), **found})
        else:
            respond_ok(resp, {**found, "detail": " ".join(also) or None})

    def _damaged(self) -> list[str]:
        return [f"{DAMAGED}; restart covenq, and it is made anew"] if self._fold.distrusted else []

    def _behind(self) -> str | None:
        """How far the state is behind, and until when, if it is far or stands still; it keeps no delivery from being accepted."""
        still = self._fold.still_since is not None and self._fold.error is None
        if self._fold.left_s is None and not still:
            return None
        said = str(self._fold.behind())
        return f"{said[:1].upper()}{said[1:]}."
