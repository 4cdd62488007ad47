"""GET /api/v1/status: the daemon's state, for `covenq status`, the dashboard and monitoring."""

from __future__ import annotations

import os

import falcon

from covenq.http.answers import respond
from covenq.http.api.resource import Resource
from covenq.http.services import Services
from covenq.model import JsonObject
from covenq.operate.inspect import status as inspect_status
from covenq.operate.inspect import throughput


class Status(Resource):
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        respond(resp, 200, status(self._services))


def status(services: Services) -> JsonObject:
    """The daemon's state. Answers even while the fold is stuck: it says so."""
    health, measurements = services.journal.health(), services.journal.measurements()
    reasons = [reason.sentence for reason in services.admission.reasons()]
    state = {"seq": services.fold_thread.folded, "lag": services.fold_thread.lag, "error": services.fold_thread.error}
    # The counts are of all there was when the question came, or, where that takes too long, as far as it is folded.
    services.fold_thread.wait_for(services.journal.head().seq, 1.0)
    conn = services.store.reader()
    pool, upkeep, live = services.pool, services.upkeep, services.live
    return inspect_status.status(
        conn,
        services.data,
        services.config.routes,
        version=services.version,
        reasons=reasons,
        journal=inspect_status.journal_object(
            services.journal.id,
            services.journal.epoch,
            services.journal.head(),
            measurements,
            poisoned=health.poisoned is not None,
            full=health.full is not None,
        ),
        state=state,
        process=inspect_status.DaemonProcess(
            pid=os.getpid(),
            started_at=services.started_at,
            webhook_url=services.webhook_url,
            api_url=services.api_url,
            worker={"id": pool.id, "concurrency": pool.concurrency, "running": pool.running(), "error": pool.error},
            upkeep={"doing": upkeep.doing, "error": upkeep.error},
            reload=live.status(),
            refused=services.refusals.counts(),
            stuck=throughput.stuck(conn, services.clock(), services.caps),
            secrets=[{"secret": one.name, "problem": why} for one, why in live.secret_status() if why],
        ),
    )
