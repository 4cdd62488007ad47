"""The bodies of requests as JSON Schema (2020-12), for the OpenAPI document. Unknown fields are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from covenq.http.openapi.from_types import Schema
from covenq.http.openapi.schemas import TEXT, TOKEN
from covenq.model import Category
from covenq.tasks.scheduling.outcome import OUTPUT_MAX


def request(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    """The object of a request's body: what is not `required` may be left out, and other properties are not allowed."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def parameters_schema(parameters: type[Struct]) -> Schema:
    """The body of an operation's request, from the types of its parameters."""
    _, components = msgspec.json.schema_components([parameters], ref_template="{name}")
    return _plain(components[parameters.__name__], components)


_DROPPED = frozenset({"title", "default", "contentEncoding", "anyOf", "properties", "required", "items", "prefixItems"})


def _plain(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    """msgspec's schema in the document's form.

    Without references and titles; a choice of types as a list of them; what may be left out may be null, too.
    """
    if "$ref" in schema:
        return _plain(components[schema["$ref"]], components)
    # The description of an object is its class's docstring, which is for readers of the code.
    dropped = {*_DROPPED, "description"} if "properties" in schema else _DROPPED
    plain = {name: value for name, value in schema.items() if name not in dropped}
    for one in schema.get("anyOf", ()):
        part = dict(_plain(one, components))
        plain = {**part, **plain, "type": [*plain.get("type", ()), part["type"]]}
    if "prefixItems" in schema:
        plain["items"] = _plain(schema["prefixItems"][0], components)  # a pair has two of the same type
    elif "items" in schema:
        plain["items"] = _plain(schema["items"], components)
    if "properties" in schema:
        required = schema.get("required", ())
        plain["properties"] = {
            name: _plain(one, components) if name in required else _or_null(_plain(one, components))
            for name, one in schema["properties"].items()
        }
        if required:
            plain["required"] = required
    return plain


def _or_null(schema: Schema) -> Schema:
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return {**schema, "type": [*(kind for kind in kinds if kind != "null"), "null"]}


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

_OUTPUT: Schema = {"type": ["string", "null"], "description": f"What it wrote: its last {OUTPUT_MAX} bytes are kept."}
_OUTPUTS: dict[str, Schema] = {"stdout": _OUTPUT, "stderr": _OUTPUT}

_LEASE_S: Schema = {"type": ["number", "null"], "minimum": 1, "maximum": 3600, "default": 60}

REQUESTS: dict[str, Schema] = {
    "claim": request(
        {
            "worker": {"type": "string", "pattern": r"^[0-9A-Za-z._@:/-]{1,64}$"},
            "routes": {"type": ["array", "null"], "items": TOKEN, "minItems": 1, "maxItems": 100},
            "lease_s": _LEASE_S,
            "wait_s": {"type": ["number", "null"], "minimum": 0, "maximum": 60, "default": 0},
            "max": {"type": ["integer", "null"], "minimum": 1, "maximum": 64, "default": 1},
            "node": {"type": ["string", "null"], "pattern": r"^[0-9A-Za-z._@:/-]{1,64}$"},
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
    "token": request({"fence": TEXT}, required=("fence",)),
    "phase": request(
        {
            "fence": TEXT,
            "phase": {"type": "string", "description": "Recorded for ever; cut at 100 characters."},
            "pr": {"type": "integer", "minimum": 1, "description": "The pull request that it made."},
        },
        required=("fence", "phase"),
    ),
    "complete": request(
        {"fence": TEXT, "result": {"description": "Any JSON, 1 MiB at most."}, **_ENDED, **_OUTPUTS},
        required=("fence",),
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
            **_OUTPUTS,
        },
        required=("fence",),
    ),
}
"""The bodies of requests that are no operation's (`covenq.operate.operations`), by name."""
