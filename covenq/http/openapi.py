"""The HTTP surface, said once: which operations there are, who may call them, what they take and answer.

To add a route: give it to the application in `app.py`, say it here in OPERATIONS (its objects in `schemas.py`), and write the
document anew with `python -m covenq.http.openapi > man/openapi.json`. From this table come the OpenAPI document that is
served at /openapi.json, the roles that the TCP listener asks for (an operation that is not in the table needs `operate`), and
the check of query parameters; tests/test_openapi.py fails for a route that is not in the table, and for one that is only there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import falcon
import orjson

from covenq import __version__
from covenq.http import schemas
from covenq.http.schemas import REQUESTS, SCHEMAS, Schema, page, ref

Access = Literal["open", "read", "worker", "operate"]
"""`open` needs no token. `operate` may all that `read` may; `worker` is for claims alone."""

Answer = Schema | str
"""What an answer holds: a schema of JSON, or another media type."""

PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter."""

    name: str
    schema: Schema
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """As the application's router has it: {names} are segments."""
    access: Access
    summary: str
    answers: Mapping[int, Answer]
    """Status to what it holds, for those that are no errors."""
    errors: tuple[int, ...] = ()
    """Statuses of its own errors. Those that any operation may have are added: see `document`."""
    query: tuple[Query, ...] = ()
    body: Schema | None = None
    """Of the JSON that it takes."""
    workers: bool = False
    """Also for a `worker` token, within what the resource itself allows it."""
    notes: Mapping[int, str] = field(default_factory=dict)
    """What a status means here, where that is not plain."""


_FILTER = Query("filter", {"type": "string"}, "The filter grammar, covenq-filter(7). Empty is everything.")
_LIMIT = Query(
    "limit",
    {"type": "integer", "minimum": 0, "maximum": 999999999, "default": 50},
    f"At most so many; 0 is as many as there may be, and there are never more than {PAGE_MAX}.",
)
_AFTER = Query("after", {"type": "string", "pattern": "^[0-9]{0,18}$"}, "`next` of the page before.")
_LIST = (_FILTER, _LIMIT, _AFTER)
_SEQ = Query("after", {"type": "string", "pattern": "^[0-9]{0,18}$"}, "Records newer than this seq; 0 is everything.")

_BYTES = "application/json application/x-www-form-urlencoded application/octet-stream"
_STREAM = "text/event-stream"
_TEXT = "text/plain"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/webhook",
        "open",
        "A delivery, signed by GitHub. Not on the API's own listener.",
        {202: ref("accepted"), 200: ref("accepted")},
        errors=(400, 401, 409, 413, 415),
        notes={200: "A ping, or seen before.", 202: "New, and on disk.", 409: "The same delivery with another body."},
    ),
    Operation("GET", "/healthz", "open", "The process answers.", {200: schemas.answer({})}),
    Operation("GET", "/readyz", "open", "A delivery posted now would be accepted.", {200: ref("readiness")}),
    Operation("GET", "/openapi.json", "open", "This document.", {200: {"type": "object"}}),
    Operation("GET", "/api/v1/status", "read", "How the daemon is.", {200: ref("status")}),
    Operation("GET", "/api/v1/deliveries", "read", "Deliveries, newest first.", {200: page("delivery")}, (400,), _LIST),
    Operation(
    Operation(
        "GET", "/metrics", "read", "Figures for Prometheus.", {200: _TEXT}, notes={503: "Too many scrapes at once."}
    ),
        "GET",
        "/api/v1/deliveries/{one}",
        "read",
        "One delivery, by its GUID.",
        {200: ref("one_delivery")},
        (400, 404, 409),
        notes={409: "Several hooks share the GUID: `ids` has them."},
    ),
    Operation(
        "GET",
        "/api/v1/deliveries/{one}/{two}",
        "read",
        "One delivery, by hook and GUID.",
        {200: ref("one_delivery")},
        (400, 404),
    ),
    Operation(
        "GET",
        "/api/v1/deliveries/{one}/payload",
        "read",
        "The bytes as they were received, by GUID.",
        {200: _BYTES},
        (400, 404, 409),
        workers=True,
    ),
    Operation(
        "GET",
        "/api/v1/deliveries/{one}/{two}/payload",
        "read",
        "The bytes as they were received, by hook and GUID.",
        {200: _BYTES},
        (400, 404),
        workers=True,
    ),
    Operation("GET", "/api/v1/tasks", "read", "Tasks, newest first.", {200: page("task")}, (400,), _LIST),
    Operation("GET", "/api/v1/tasks/{id}", "read", "One task.", {200: ref("one_task")}, (404,)),
    Operation("GET", "/api/v1/tasks/{id}/attempts", "read", "A task's attempts.", {200: page("attempt")}, (404,)),
    Operation(
        "POST",
        "/api/v1/replay",
        "operate",
        "New tasks of stored deliveries, by today's routes.",
        {200: ref("operation")},
        (400, 404, 409),
        body=REQUESTS["replay"],
    ),
    Operation(
        "POST",
        "/api/v1/reroute",
        "operate",
        "Route deliveries that have no task.",
        {200: ref("operation")},
        (400, 404, 409),
        body=REQUESTS["reroute"],
    ),
    Operation(
        "POST",
        "/api/v1/cancel",
        "operate",
        "End tasks that wait or run.",
        {200: ref("operation")},
        (400, 404, 409),
        body=REQUESTS["cancel"],
    ),
    Operation(
        "POST",
        "/api/v1/requeue",
        "operate",
        "Failed, cancelled and superseded tasks once more.",
        {200: ref("operation")},
        (400, 404, 409),
        body=REQUESTS["requeue"],
    ),
    Operation(
        "POST",
        "/api/v1/redact",
        "operate",
        "Erase the content of deliveries, of a repository or of an installation.",
        {200: ref("redaction")},
        (400, 404, 409),
        body=REQUESTS["redact"],
    ),
    Operation(
        "POST",
        "/api/v1/compact",
        "operate",
        "Drop what the configured retention no longer keeps.",
        {200: ref("compaction")},
        (400, 409),
        body=REQUESTS["compact"],
    ),
    Operation("GET", "/api/v1/pauses", "read", "What operators have paused.", {200: page("pause")}),
    Operation(
        "POST",
        "/api/v1/pause",
        "operate",
        "Pause the intake, the worker, a route, a repository or an installation.",
        {200: ref("paused")},
        (400, 404),
        body=REQUESTS["pause"],
    ),
    Operation(
        "POST",
        "/api/v1/resume",
        "operate",
        "End a pause.",
        {200: ref("paused")},
        (400, 404),
        body=REQUESTS["pause"],
    ),
    Operation(
        "GET",
        "/api/v1/events",
        "read",
        "The journal's records as they become durable, as server-sent events; from now on, or after a seq.",
        {200: _STREAM},
        (400,),
        (_SEQ,),
    ),
)


class Document:
    """GET /openapi.json, formed at the first request. It says nothing of this daemon but its version."""

    def __init__(self, version: str) -> None:
        self._version = version

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "application/json"
        resp.data = _encoded(self._version)


@cache
def _encoded(version: str) -> bytes:
    return orjson.dumps(document(version))


# ---- the document


def document(version: str = __version__) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all listeners together."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(_shown(one.path), {})[one.method.lower()] = _operation(one)
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
            "schemas": dict(SCHEMAS),
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
operation needs on the listener of [api]: `read`, `worker`, `operate` (which may all that `read` may), or none: `open`."""

_ERRORS: Mapping[int, str] = {
    400: "The request can't be understood: a parameter, a filter, the body.",
    401: "No token, or none that is known.",
    403: "The token's role does not suffice.",
    404: "There is no such thing.",
    409: "What is there now stands against it.",
    413: "The body is over the limit.",
    415: "The content type is neither JSON nor a form.",
    503: "Not now: `Retry-After` says when to ask again.",
}
_OWN_ERRORS: Mapping[Access, tuple[int, ...]] = {
    "open": (400, 503),
    "read": (400, 401, 403, 503),
    "worker": (400, 401, 403, 503),
    "operate": (400, 401, 403, 503),
}
"""What any operation of that access may answer."""
_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    503: {"Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}}},
}
_SEGMENT = re.compile(r"\{(\w+)\}")


def _shown(path: str) -> str:
    """The path with segments named for readers: the router wants one name for what is a hook here and a GUID there."""
    if "{two}" in path:
        return path.replace("{one}", "{hook}").replace("{two}", "{guid}")
    return path.replace("{one}", "{guid}")


def _operation(one: Operation) -> dict[str, Any]:
    path = _shown(one.path)
    found: dict[str, Any] = {
        "operationId": _name(one.method, path),
        "summary": one.summary,
        "x-access": one.access,
        "security": [] if one.access == "open" else [{"token": []}, {}],
    }
    segments = [
        {"name": name, "in": "path", "required": True, "schema": schemas.TOKEN} for name in _SEGMENT.findall(path)
    ]
    asked = [{"name": q.name, "in": "query", "schema": q.schema, "description": q.about} for q in one.query]
    if segments or asked:
        found["parameters"] = segments + asked
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": one.body}}}
    elif one.path == "/webhook":
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
    if status == 204:
        return {"description": about}
    media, content = (holds, {}) if isinstance(holds, str) else ("application/json", {"schema": holds})
    return {"description": about, "content": {kind: content for kind in media.split()}}


def _error(status: int, about: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": about,
        "content": {"application/json": {"schema": ref("error")}},
    }
    return {**found, "headers": _HEADERS[status]} if status in _HEADERS else found


if __name__ == "__main__":
    import json

    json.dump(document(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
