"""The operations that CovenCave asks: a part of the table of HTTP operations."""

from __future__ import annotations

from covenq.http.openapi import schemas
from covenq.http.openapi.operation import PAGE_MAX, WHOLE, Operation, Query
from covenq.http.openapi.schemas import ref

COVENCAVE: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/api/github/tasks",
        "read",
        "For CovenCave: the tasks that changed last, newest change first.",
        {
            200: schemas.answer({"tasks": schemas.array_of(ref("cave_task")), "next": schemas.nullable(schemas.TEXT)}),
            304: "",
        },
        (400,),
        (
            Query(
                "limit",
                {"type": "integer", "minimum": 0, "maximum": 999999999, "default": 500},
                f"At most so many; 0 is as many as there may be, and there are never more than {PAGE_MAX}.",
            ),
            Query("after", WHOLE, "`next` of the page before."),
        ),
        notes={304: "Nothing of it changed since the answer whose ETag If-None-Match has."},
        scoped="filter",
    ),
    Operation(
        "GET",
        "/api/github/usage",
        "read",
        "For CovenCave: tasks and the time of their attempts, by installation, repository and familiar.",
        {200: schemas.answer({"usage": schemas.array_of(ref("cave_usage"))})},
        scoped="filter",
    ),
    Operation(
        "GET",
        "/api/github/audit",
        "read",
        "For CovenCave: the newest 200 deliveries that were ignored, attempts and pull requests, newest first.",
        {200: schemas.answer({"events": schemas.array_of(ref("cave_event"))})},
        scoped="filter",
    ),
    Operation(
        "GET",
        "/api/github/routing",
        "read",
        "For CovenCave: what the configuration says of an installation.",
        {200: schemas.answer({"routing": ref("installation_routing")})},
        (400, 404),
        (
            Query(
                "installation_id",
                {"type": "string", "pattern": "^0*[1-9][0-9]*$", "maxLength": 18},
                "The installation's number.",
                required=True,
            ),
        ),
        notes={400: "installation_id required: it wasn't said."},
        scoped="one",
    ),
)
