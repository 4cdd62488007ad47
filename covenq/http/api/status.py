"""GET /api/v1/status: the daemon's state, for `covenq status`, the dashboard and whoever polls."""

from __future__ import annotations

import os

import falcon

from covenq.config.load import Config
from covenq.http.answers import say
from covenq.http.services import Services
from covenq.model import JsonObject
from covenq.operate.inspect import throughput, view
from covenq.operate.maintain import verify_note
from covenq.paths import JOURNAL_NAME
from covenq.state import query


class Status:
    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        say(resp, 200, status(self._services))


def status(services: Services) -> JsonObject:
    """The daemon's state. Answers even while the fold is stuck: it says so."""
    journal = services.journal.status()
    reasons = [reason.sentence for reason in services.admission.reasons()]
    last_sync = journal.last_sync_s
    return {
        "ok": True,
        "ready": not reasons,
        "reasons": reasons,
        "version": services.version,
        "pid": os.getpid(),
        "started_at": services.started_at,
        "data": str(services.data),
        "webhook_url": services.webhook_url,
        "api_url": services.api_url,
        "journal": {
            "id": services.journal.id,
            "epoch": services.journal.epoch,
            "head": view.head(journal.head),
            "segments": journal.segments,
            "bytes": journal.bytes,
            "poisoned": journal.poisoned is not None,
            "full": journal.full is not None,
            "last_sync_ms": None if last_sync is None else round(last_sync * 1000, 3),
            "recent_syncs_ms": view.spread(journal.recent_syncs_s),
            "recent_batches": view.batches(journal.recent_batches),
        },
        "state": {"seq": services.folder.folded, "lag": services.folder.lag, "error": services.folder.error},
        **_counts(services),
        "oldest": query.oldest(services.store.reader()),
        "disk": view.disk(services.data),
        "worker": {
            "id": services.pool.id,
            "concurrency": services.pool.concurrency,
            "running": services.pool.running(),
            "error": services.pool.error,
        },
        "upkeep": {"doing": services.upkeep.doing, "error": services.upkeep.error},
        "routes": routes(services.config),
        "reload": services.live.status(),
        "refused": services.refusals.counts(),
        "pauses": view.pauses(services.store.reader()),
        "segments": view.segments(services.data / JOURNAL_NAME),
        "verified": verify_note.last(services.data),
        "running": throughput.running(services.store.reader()),
        "stuck": throughput.stuck(services.store.reader(), services.clock(), services.caps),
        "secrets": [{"secret": one.name, "problem": why} for one, why in services.live.secret_status() if why],
    }


def routes(config: Config) -> list[str]:
    return [route.name for route in config.routes]


def _counts(services: Services) -> dict[str, dict[str, int]]:
    """By a state that has folded all there was when the question came, or, where that takes too long, as far as it is."""
    services.folder.wait_for(services.journal.head().seq, 1.0)
    return view.counts(services.store.reader())
