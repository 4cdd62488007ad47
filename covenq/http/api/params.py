"""What requests to the API say: ids, limits and bodies, read and bounded."""

from __future__ import annotations

from typing import Any

import falcon
import orjson

from covenq.errors import UsageError
from covenq.http.guard import token_of

LIMIT = 50

LIMIT_MAX = 1000

BODY_MAX = 4 << 20


def id_of(one: str, two: str | None) -> str:
    return one if two is None else f"{one}/{two}"


def limit_of(text: str | None) -> int:
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
        body["by"] = who_of(req, typed(body, "by", str, "a text", None))
    return body


def who_of(req: falcon.Request, said: str | None) -> str:
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
