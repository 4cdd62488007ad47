"""The OpenAPI document, made from the table in `covenq.http.openapi.operations`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import falcon
import orjson

from covenq import __version__
from covenq.config.webhook_path import DEFAULT_PATH
from covenq.http.openapi import schemas
from covenq.http.openapi.operation import Access, Answer, Operation
from covenq.http.openapi.operations import OPERATIONS
from covenq.http.openapi.schemas import all_schemas, ref


class Document:
    """GET /openapi.json, made at the first request. The version and the webhook's path are all that it has of this daemon."""

    def __init__(self, version: str, webhook_path: str) -> None:
        self._version = version
        self._webhook_path = webhook_path

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "application/json"
        resp.data = _encoded(self._version, self._webhook_path)


@cache
def _encoded(version: str, webhook_path: str) -> bytes:
    return orjson.dumps(document(version, webhook_path))


def document(version: str = __version__, webhook_path: str = DEFAULT_PATH) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all listeners together."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        path = webhook_path if one.path == DEFAULT_PATH else _shown(one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "covenq",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(all_schemas()),
            "responses": {str(status): _error(status, about) for status, about in _ERRORS.items()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `covenq tokens new`, on the listener of [api]. The Unix socket asks for none.",
                }
            },
        },
    }


_ABOUT = """The durable inbox for GitHub webhooks.

Every answer is a JSON object but payloads, metrics and event streams; an error has `ok` false, a word and a sentence. What
answers GET answers HEAD. On the Unix socket of the data directory nothing asks for a token. `x-access` says which role an
operation needs on the listener of [api]: `read`, `worker`, `operate` (which may all that `read` may), or none: `open`. `x-scope`
says what a token for some installations gets: `filter`, of many what is in its scope; `one`, the thing if it is in scope, and
else the answer of what never was; `never`, 403; `open`, what everybody gets."""

_ERRORS: Mapping[int, str] = {
    400: "The request can't be understood: a parameter, a filter, the body.",
    401: "No token, or none that is known.",
    403: "The token's role, or its scope, does not suffice.",
    404: "There is no such thing.",
    409: "What is there now stands against it.",
    413: "The body is over the limit.",
    415: "The content type is neither JSON nor a form, or the body is compressed.",
    502: "It lies on another node, and can't be had from there now.",
    503: "Not now: `Retry-After` says when to ask again.",
}
_OWN_ERRORS: Mapping[Access, tuple[int, ...]] = {
    "open": (400, 503),
    "read": (400, 401, 403, 503),
    "worker": (400, 401, 403, 503),
    "operate": (400, 401, 403, 503),
}
"""The errors that any operation of that access may answer."""
_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    503: {"Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}}},
}
_SEGMENT = re.compile(r"\{(\w+)\}")


def _shown(path: str) -> str:
    """The path with its segments named for readers: for the router, a hook and a GUID must have the same name."""
    if "{two}" in path:
        return path.replace("{one}", "{hook}").replace("{two}", "{guid}")
    return path.replace("{one}", "{guid}")


def _operation(one: Operation) -> dict[str, Any]:
    path = _shown(one.path)
    found: dict[str, Any] = {
        "operationId": _name(one.method, path),
        "summary": one.summary,
        "x-access": one.access,
        "x-scope": one.scoped or "never",
        "security": [] if one.access == "open" else [{"token": []}, {}],
    }
    segments = [
        {"name": name, "in": "path", "required": True, "schema": schemas.TOKEN} for name in _SEGMENT.findall(path)
    ]
    asked = [
        {"name": q.name, "in": "query", "required": q.required, "schema": q.schema, "description": q.about}
        for q in one.query
    ]
    if segments or asked:
        found["parameters"] = segments + asked
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": one.body}}}
    elif one.path == DEFAULT_PATH:
        found["requestBody"] = {"required": True, "content": {"application/json": {}, _FORM: {}}}
        found["parameters"] = [{"name": name, "in": "header", "schema": schemas.TEXT} for name in _SIGNED]
    answers = {status: _answer(one, status, holds) for status, holds in one.answers.items()}
    for status in {*one.errors, *_OWN_ERRORS[one.access], *((413,) if one.method == "POST" else ())}:
        answers[status] = {"$ref": f"#/components/responses/{status}"}
        if status in one.notes:
            answers[status] = {**_error(status, one.notes[status])}
    found["responses"] = {str(status): answers[status] for status in sorted(answers)}
    return found


_FORM = "application/x-www-form-urlencoded"
_SIGNED = ("X-GitHub-Event", "X-GitHub-Delivery", "X-GitHub-Hook-ID", "X-Hub-Signature-256")


def _name(method: str, path: str) -> str:
    words = [word for word in re.split(r"[/{}.]+", path) if word and word not in ("api", "v1")]
    return "_".join([method.lower(), *words])


def _answer(one: Operation, status: int, holds: Answer) -> dict[str, Any]:
    about = one.notes.get(status, one.summary)
    if status in (204, 304):
        return {"description": about}
    media, content = (holds, {}) if isinstance(holds, str) else ("application/json", {"schema": holds})
    return {"description": about, "content": dict.fromkeys(media.split(), content)}


def _error(status: int, about: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": about,
        "content": {"application/json": {"schema": ref("error")}},
    }
    return {**found, "headers": _HEADERS[status]} if status in _HEADERS else found


if __name__ == "__main__":
    import json
    import sys

    json.dump(document(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
