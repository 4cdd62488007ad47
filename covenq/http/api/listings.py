"""/api/v1: what is stored, asked and acted on. On the Unix socket, whose permissions are the authorisation."""

from __future__ import annotations

import os
from typing import Any

import falcon
import orjson

from covenq.config.api_tokens import Role
from covenq.config.load import Config
from covenq.errors import NotFound, UsageError
from covenq.filter.grammar import parse
from covenq.http.answers import say, say_error
from covenq.http.guard import token_of
from covenq.http.services import Parts
from covenq.intake import refusal_hints
from covenq.model import JsonObject, parse_id
from covenq.operate.inspect import secret_usage, throughput, view
from covenq.operate.maintain import verify_note
from covenq.state import query

LIMIT = 50
LIMIT_MAX = 1000
BODY_MAX = 4 << 20
LOG_MAX = 1 << 20
"""Bytes of an attempt's output that one request brings: the last of them."""


class Status:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        say(resp, 200, status(self._parts))


class Secrets:
    """GET …/secrets: how each is used, and which may be retired; never what it is."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parts = self._parts
        say(resp, 200, {"ok": True, **secret_usage.view(parts.reader(), parts.live.held(), parts.clock())})


class Listing:
    """GET …/deliveries and …/tasks: `filter=`, `limit=` (0 is the most there may be), `after=`."""

    def __init__(self, parts: Parts, what: view.What) -> None:
        self._parts = parts
        self._what = what

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        limit = _limit(req.get_param("limit"))
        filter = parse(req.get_param("filter") or "")
        conn = self._parts.reader()
        after, caps = req.get_param("after"), self._parts.caps
        found = view.items(conn, self._parts.journal, self._what, filter, limit, after, caps=caps)
        say(resp, 200, {"ok": True, **found})


class Count:
    """GET …/count: `what=`, `filter=`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        filter = parse(req.get_param("filter") or "")
        what: view.Counted = "tasks" if req.get_param("what") == "tasks" else "deliveries"
        say(resp, 200, {"ok": True, "count": view.count(self._parts.reader(), what, filter)})


class Delivery:
    """GET …/deliveries/GUID and …/deliveries/HOOK/GUID."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str | None = None) -> None:
        conn = self._parts.reader()
        say(resp, 200, {"ok": True, **view.delivery(conn, self._parts.journal, _id(one, two))})


_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded"}


class Payload:
    """GET …/payload: the bytes as they came, of the type they came as, and as no browser will take them for a page.

    A token of the role `worker` gets those of deliveries that a pull worker holds a task of, now.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str | None = None) -> None:
        conn = self._parts.reader()
        found = query.delivery(conn, *parse_id(_id(one, two)))
        token = token_of(req)
        if token is not None and token.role == Role.WORKER and not query.is_pulled(conn, found["seq"]):
            detail = "A worker's token reads the payload of a task that a worker holds, and only as long as it does."
            say_error(resp, 403, "not_claimed", detail)
            return
        content, kind = view.body(self._parts.journal, found)
        resp.data = content
        resp.content_type = _TYPES.get(kind, "application/octet-stream")
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Content-Disposition", "attachment")
        resp.set_header("Content-Security-Policy", "sandbox; default-src 'none'")


class Task:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        say(resp, 200, {"ok": True, **view.task(self._parts.reader(), id, caps=self._parts.caps)})


class Attempts:
    """GET …/tasks/ID/attempts, as `Listing`, but first to last; the filter is held against the task."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        limit = _limit(req.get_param("limit"))
        filter = parse(req.get_param("filter") or "")
        found = query.attempts_of(self._parts.reader(), id, filter, limit, req.get_param("after"))
        say(resp, 200, {"ok": True, "items": found.items, "next": found.next})


class Log:
    """GET …/tasks/ID/attempts/N/stdout and …/stderr: the last of what the attempt wrote, as plain text."""

    def __init__(self, parts: Parts, stream: str) -> None:
        self._parts = parts
        self._stream = stream

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str, attempt: str) -> None:
        last = req.get_param_as_int("last", min_value=1, max_value=LOG_MAX, default=LOG_MAX)
        if not (attempt.isascii() and attempt.isdecimal() and len(attempt) <= 9):
            raise NotFound(f"no attempt {attempt[:20]!r}")
        resp.data = view.log(self._parts.data, id, int(attempt), self._stream, last)
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_header("X-Content-Type-Options", "nosniff")


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


def _id(one: str, two: str | None) -> str:
    return one if two is None else f"{one}/{two}"


class Refused:
    """GET …/refused: the newest requests that were refused, each with a hint. `limit=` 0 is all that are kept."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        text = req.get_param("limit")
        _limit(text)
        found = refusal_hints.latest(self._parts.data, LIMIT if text is None else int(text))
        say(resp, 200, {"ok": True, "items": found, "next": None})


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise UsageError(f"{text[:40]!r} is no limit", hint=f"It is a whole number up to {LIMIT_MAX}.")
    return min(int(text) or LIMIT_MAX, LIMIT_MAX)


def body_of(req: falcon.Request, known: set[str], most: int = BODY_MAX) -> dict[str, Any]:
    """The JSON object of a request, of at most so many bytes, which has none but the known keys. Raises UsageError."""
    raw = req.bounded_stream.read(most + 1)
    try:
        body = orjson.loads(raw) if len(raw) <= most else None
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise UsageError("the body is no JSON object", hint='Send {"ids": [...]} or {"filter": "..."}.')
    for key in body:
        if key not in known:
            raise UsageError(f"unknown key {key[:40]!r}", hint=f"Known are {', '.join(sorted(known))}.")
    if "by" in known:
        body["by"] = _who(req, typed(body, "by", str, "a text", None))
    return body


def _who(req: falcon.Request, said: str | None) -> str:
    """Who acts, for the record: over TCP that is the token's name, and what its bearer says of themselves comes after it."""
    token = token_of(req)
    if token is None:
        return said or "api"
    return f"token:{token.name} ({said})" if said else f"token:{token.name}"


def ids_of(body: dict[str, Any]) -> list[str]:
    """Raises UsageError."""
    ids: list[str] = typed(body, "ids", list, "a list of ids", [])
    if not all(isinstance(id, str) for id in ids):
        raise UsageError("ids must be a list of ids")
    return ids


def typed(body: dict[str, Any], key: str, kind: type, noun: str, default: Any) -> Any:
    """The value of `key`, or the default where it is null or not there. Raises UsageError."""
    value = body.get(key)
    if value is None:
        return default
    if type(value) is not kind:
        raise UsageError(f"{key} must be {noun}")
    return value
