"""JSON answers: an object, and for an error `{"ok":false,"error":word,"detail":sentence}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import falcon
import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from covenq.errors import (
    Ambiguous,
    BodyTooLarge,
    CovenqError,
    FilterError,
    NodeTokenMissing,
    NotDurable,
    NotFound,
    OnAnotherNode,
    Refused,
    ScopeInsufficient,
    StaleFence,
    UsageError,
    WorkTokenRefused,
    WorkTokenUnavailable,
)
from journal.errors import JournalClosed, JournalDamaged, JournalError, JournalFull, JournalPoisoned, JournalStandby

RETRY_AFTER_S = 30

_FAILURES: tuple[tuple[type[Exception], int, str], ...] = (
    (FilterError, 400, "filter_invalid"),
    (Ambiguous, 409, "ambiguous"),
    (BodyTooLarge, 413, "body_too_large"),
    (UsageError, 400, "usage"),
    (NotFound, 404, "not_found"),
    (StaleFence, 409, "stale_fence"),
    (ScopeInsufficient, 403, "scope_insufficient"),
    (WorkTokenRefused, 409, "token_refused"),
    (Refused, 409, "refused"),
    (WorkTokenUnavailable, 503, "token_unavailable"),
    (NodeTokenMissing, 502, "node_token_missing"),
    (OnAnotherNode, 502, "on_another_node"),
    (NotDurable, 503, "not_durable"),
    (JournalFull, 503, "journal_full"),
    (JournalPoisoned, 503, "journal_poisoned"),
    (JournalClosed, 503, "journal_closed"),
    (JournalDamaged, 503, "journal_damaged"),
    (JournalStandby, 503, "standby"),
    (JournalError, 503, "journal_unavailable"),
    (CovenqError, 500, "failed"),
)
"""Kind, status and word of the answer; the first kind that fits."""


def status_of(kind: type[CovenqError | JournalError]) -> int:
    """The status of the answer to an error of that class."""
    return next(status for known, status, _ in _FAILURES if issubclass(kind, known))


def respond(resp: falcon.Response, status: int, body: dict[str, Any]) -> None:
    """Set the response to a JSON object."""
    resp.status = falcon.code_to_http_status(status)
    resp.content_type = "application/json"
    try:
        resp.data = msgspec.json.encode(body)
    except UnicodeEncodeError:  # a file name that is not UTF-8: as the commands print it without a daemon
        resp.data = json.dumps(msgspec.to_builtins(body)).encode()
    if status == 503:
        resp.set_header("Retry-After", str(RETRY_AFTER_S))


def respond_ok(resp: falcon.Response, body: Struct | Mapping[str, Any]) -> None:
    """200 with `ok` and this body. How many things it shows is kept for the log of reads."""
    listed = body.get("items") if isinstance(body, Mapping) else getattr(body, "items", None)
    resp.context.shown = len(listed) if isinstance(listed, list) else 1
    if isinstance(body, Struct):
        respond(resp, 200, {"ok": True, **asdict(body)})
    else:
        respond(resp, 200, {"ok": True, **body})


def error_body(word: str, detail: str) -> dict[str, Any]:
    return {"ok": False, "error": word, "detail": detail}


def respond_error(resp: falcon.Response, status: int, word: str, detail: str) -> None:
    respond(resp, status, error_body(word, detail))


def item_of(said: Mapping[str, object] | CovenqError | JournalError) -> dict[str, object]:
    """One of several in an answer: `ok` and what succeeded with, or the word and the sentence of an error."""
    if isinstance(said, Mapping):
        return {"ok": True, **said}
    return error_body(_word_of(said)[1], str(said))


def _word_of(error: CovenqError | JournalError) -> tuple[int, str]:
    """Status and word."""
    return next((status, word) for kind, status, word in _FAILURES if isinstance(error, kind))


def respond_exception(resp: falcon.Response, error: CovenqError | JournalError) -> None:
    """The status and body of one of our own errors; `covenq.net.http_client.error_of` is the inverse."""
    status, word = _word_of(error)
    hint = UsageError.hint_over_http if error.hint == UsageError.hint else error.hint
    body = {**error_body(word, str(error)), "hint": hint}
    if isinstance(error, Ambiguous):
        body |= {"ids": error.ids, "guid": error.ids[0].rpartition("/")[2]}
    if isinstance(error, FilterError):
        body["column"] = error.column
    respond(resp, status, body)
