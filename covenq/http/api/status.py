"""GET /api/v1/status: the daemon's state, for `covenq status`, the dashboard and whoever polls."""

from __future__ import annotations

import os

import falcon

from covenq.config.load import Config
from covenq.http.answers import say
from covenq.http.services import Parts
from covenq.model import JsonObject
from covenq.operate.inspect import throughput, view
from covenq.operate.maintain import verify_note
from covenq.state import query


class Status:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        say(resp, 200, status(self._parts))


def status(parts: Parts) -> JsonObject:
    """The daemon's state. Answers even while the fold is stuck: it says so."""
    journal = parts.journal.status()
    reasons = [reason.sentence for reason in parts.gate.reasons()]
    last_sync = journal.last_sync_s
    return {
        "ok": True,
        "ready": not reasons,
        "reasons": reasons,
        "version": parts.version,
        "pid": os.getpid(),
        "started_at": parts.started_at,
        "data": str(parts.data),
        "webhook_url": parts.webhook_url,
        "api_url": parts.api_url,
        "journal": {
            "id": parts.journal.id,
            "epoch": parts.journal.epoch,
            "head": view.head(journal.head),
            "segments": journal.segments,
            "bytes": journal.bytes,
            "poisoned": journal.poisoned is not None,
            "full": journal.full is not None,
            "last_sync_ms": None if last_sync is None else round(last_sync * 1000, 3),
            "recent_syncs_ms": view.spread(journal.recent_syncs_s),
            "recent_batches": view.batches(journal.recent_batches),
        },
        "state": {"seq": parts.folder.folded, "lag": parts.folder.lag, "error": parts.folder.error},
        **_counts(parts),
        "oldest": query.oldest(parts.store.reader()),
        "disk": view.disk(parts.data),
        "worker": {
            "id": parts.pool.id,
            "concurrency": parts.pool.concurrency,
            "running": parts.pool.running(),
            "error": parts.pool.error,
        },
        "upkeep": {"doing": parts.upkeep.doing, "error": parts.upkeep.error},
        "routes": routes(parts.config),
        "reload": parts.live.status(),
        "refused": parts.refusals.counts(),
        "pauses": view.pauses(parts.store.reader()),
        "segments": view.segments(parts.data / "journal"),
        "verified": verify_note.last(parts.data),
        "running": throughput.running(parts.store.reader()),
        "stuck": throughput.stuck(parts.store.reader(), parts.clock(), parts.caps),
        "secrets": [{"secret": one.name, "problem": why} for one, why in parts.live.held() if why],
    }


def routes(config: Config) -> list[str]:
    return [route.name for route in config.routes]


def _counts(parts: Parts) -> dict[str, dict[str, int]]:
    """By a state that has folded all there was when the question came, or, where that takes too long, as far as it is."""
    parts.folder.wait_for(parts.journal.head().seq, 1.0)
    return view.counts(parts.store.reader())
