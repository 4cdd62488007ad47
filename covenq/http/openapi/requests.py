"""The bodies of requests as JSON Schema (2020-12), for the OpenAPI document. Unknown fields are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covenq.http.openapi.schemas import TEXT, TOKEN, Schema, array_of, nullable
from covenq.model import Category


def request(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    """The object of a request's body: what is not `required` may be left out, and other properties are not allowed."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


_WHY: Schema = {"type": ["string", "null"], "description": "Kept for ever with what is done."}
_WHO: Schema = {"type": ["string", "null"], "description": "Who acts; without it the token's name, or `api`."}
_FILTER: Schema = {
    "type": ["string", "array", "null"],
    "items": TEXT,
    "description": "The filter grammar, covenq-filter(7), whole or word by word. Empty is everything.",
}
_FLAG: Schema = {"type": ["boolean", "null"]}
WHICH: Mapping[str, Schema] = {
    "ids": {"type": ["array", "null"], "items": TEXT},
    "filter": _FILTER,
}
"""What an operation acts on: `ids`, or a `filter`."""
HOW: Mapping[str, Schema] = {"dry_run": _FLAG, "reason": _WHY, "by": _WHO}

_INT32: Schema = {"type": ["integer", "null"], "minimum": -(1 << 31), "maximum": 1 << 31}
_ENDED: dict[str, Schema] = {
    "exit_code": _INT32,
    "usage": {
        "type": ["object", "null"],
        "properties": {
            "user_s": {"type": "number", "minimum": 0, "maximum": 1e9},
            "system_s": {"type": "number", "minimum": 0, "maximum": 1e9},
            "max_rss": {"type": "integer", "minimum": 0, "maximum": 1 << 60},
        },
        "required": ["user_s", "system_s", "max_rss"],
    },
}

_LEASE_S: Schema = {"type": ["number", "null"], "minimum": 1, "maximum": 3600, "default": 60}

REQUESTS: dict[str, Schema] = {
    "replay": request({**WHICH, "route": nullable(TEXT), "to": nullable(TEXT), "force": _FLAG, **HOW}),
    "import": request(
        {
            "items": nullable(
                array_of(
                    {
                        "type": "object",
                        "properties": {
                            "headers": array_of({"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}),
                            "body64": nullable(TEXT),
                            "origin": {"type": ["object", "null"]},
                        },
                        "required": ["headers"],
                        "additionalProperties": False,
                    }
                )
            ),
            "routed": _FLAG,
            **HOW,
        }
    ),
    "reroute": request({**WHICH, **HOW}),
    "cancel": request({**WHICH, **HOW}),
    "pause": request(
        {
            "what": {"type": "string", "enum": ["intake", "worker", "route", "repo", "installation"]},
            "name": {"type": ["string", "null"], "description": "The route, OWNER/NAME, or the installation's number."},
            "reason": _WHY,
            "by": _WHO,
        },
        required=("what",),
    ),
    "requeue": request({**WHICH, **HOW}),
    "claim": request(
        {
            "worker": {"type": "string", "pattern": r"^[0-9A-Za-z._@:/-]{1,64}$"},
            "routes": {"type": ["array", "null"], "items": TOKEN, "minItems": 1, "maxItems": 100},
            "lease_s": _LEASE_S,
            "wait_s": {"type": ["number", "null"], "minimum": 0, "maximum": 60, "default": 0},
            "max": {"type": ["integer", "null"], "minimum": 1, "maximum": 64, "default": 1},
        },
        required=("worker",),
    ),
    "renew": request(
        {
            "fence": TEXT,
            "lease_s": _LEASE_S,
        },
        required=("fence",),
    ),
    "phase": request(
        {"fence": TEXT, "phase": {"type": "string", "description": "Recorded for ever; cut at 100 characters."}},
        required=("fence", "phase"),
    ),
    "complete": request(
        {"fence": TEXT, "result": {"description": "Any JSON, 1 MiB at most."}, **_ENDED}, required=("fence",)
    ),
    "completed": request(
        {
            "done": {
                "type": "array",
                "minItems": 1,
                "maxItems": 64,
                "items": {
                    "type": "object",
                    "properties": {"task": TEXT, "fence": TEXT, **_ENDED},
                    "required": ["task", "fence"],
                    "additionalProperties": False,
                },
            }
        },
        required=("done",),
    ),
    "fail": request(
        {
            "fence": TEXT,
            "category": {
                "type": ["string", "null"],
                "enum": [*(str(one) for one in Category if one is not Category.LEASE_LOST), None],
                "default": "exit",
            },
            "detail": {"type": ["string", "null"], "description": "Recorded for ever; cut at 300 characters."},
            "retry": {"type": ["boolean", "null"], "default": True},
            "retry_after_s": {"type": ["number", "null"], "minimum": 0, "maximum": 1e9},
            "signal": _INT32,
            **_ENDED,
        },
        required=("fence",),
    ),
    "redact": request(
        {
            **WHICH,
            "repo": {"type": ["string", "null"], "description": "OWNER/NAME"},
            "installation": {"type": ["integer", "null"], "minimum": 0, "maximum": (1 << 63) - 1},
            **HOW,
        }
    ),
    "compact": request({"dry_run": _FLAG, "by": _WHO}),
}
"""The bodies of requests, by name."""
