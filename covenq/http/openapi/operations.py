"""The table of HTTP operations: method, path, access, parameters and answers.

To add what operators do: see `covenq.operate.operations`; it is in this table by itself. To add another route: add it to the
application in `app.py` and here to OPERATIONS (its objects in `schemas.py`, its body in `requests.py`). Then generate the
document with `python -m covenq.http.openapi.document > man/openapi.json`. What a token with a scope gets of it is said by
`scoped`; what says nothing is closed to it. From this table come the OpenAPI document that is served at /openapi.json, the roles
that the TCP listener requires (an operation that is not in the table needs `operate`), and the check of query parameters;
tests/http/test_openapi.py fails for a route that is not in the table, and for one that is only there.
"""

from __future__ import annotations

from typing import get_args

from covenq.config.webhook_path import DEFAULT_PATH
from covenq.http.answers import status_of
from covenq.http.openapi import schemas
from covenq.http.openapi.covencave import COVENCAVE
from covenq.http.openapi.from_types import Schema
from covenq.http.openapi.operation import PAGE_MAX, WHOLE, Operation, Query
from covenq.http.openapi.requests import REQUESTS, parameters_schema
from covenq.http.openapi.schemas import page, ref
from covenq.model.audit import Doer, What
from covenq.model.usage import By
from covenq.operate import operations
from covenq.operate.operations import AnyOperation

_FILTER = Query("filter", {"type": "string"}, "The filter grammar, covenq-filter(7). Empty is everything.")
_LIMIT = Query(
    "limit",
    {"type": "integer", "minimum": 0, "maximum": 999999999, "default": 50},
    f"At most so many; 0 is as many as there may be, and there are never more than {PAGE_MAX}.",
)
_AFTER = Query("after", {"type": "string", "pattern": "^[0-9]{0,18}$"}, "`next` of the page before.")
_LIST = (_FILTER, _LIMIT, _AFTER)
_MINUTES: Schema = {"type": "string", "pattern": "^([1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)$"}
_MONTH: Schema = {"type": "string", "pattern": "^([0-9]{4}-(0[1-9]|1[0-2])|all)$"}
_DOERS = "|".join(get_args(Doer))
_CURSOR = r"^([0-9]{1,18}(\.[a-z][0-9]{1,20}-[0-9]{1,18}){0,8})?$"
_SEQ = Query("after", WHOLE, "Records newer than this seq; 0 is everything.")

_BYTES = "application/json application/x-www-form-urlencoded application/octet-stream"
_ANY_BYTES = "application/octet-stream"
_STREAM = "text/event-stream"
_TEXT = "text/plain"

_AMBIGUOUS = {409: "Several hooks share the GUID: `ids` has them."}


def _list_of(one: str) -> Schema:
    """Texts of that pattern, divided by commas."""
    return {"type": "string", "pattern": f"^({one})(,({one}))*$"}


def _one_delivery(id: str, summary: str) -> Operation:
    """A delivery; a GUID alone may be ambiguous."""
    alone = "/" not in id
    errors = (400, 404, 409) if alone else (400, 404)
    notes = _AMBIGUOUS if alone else {}
    return Operation(
        "GET",
        f"/api/v1/deliveries/{id}",
        "read",
        summary,
        {200: ref("one_delivery")},
        errors,
        notes=notes,
        scoped="one",
    )


def _payload(id: str, summary: str) -> Operation:
    errors = (400, 404) if "/" in id else (400, 404, 409)
    decoded = Query("decoded", {"type": "string", "enum": ["0", "1"]}, "1: the JSON, also of what came as a form.")
    path = f"/api/v1/deliveries/{id}/payload"
    return Operation("GET", path, "read", summary, {200: _BYTES}, errors, (decoded,), workers=True, scoped="one")


def _act(operation: AnyOperation) -> Operation:
    """An operation of `covenq.operate.operations`: its body are its parameters."""
    errors = tuple(sorted({status_of(kind) for kind in operation.raises}))
    return Operation(
        "POST",
        f"/api/v1/{operation.name}",
        "operate",
        operation.summary,
        {200: ref(schemas.name_of(operation.answer))},
        errors,
        body=parameters_schema(operation.parameters),
        scoped=operation.scoped,
    )


def _held(action: str, summary: str, answer: str) -> Operation:
    """What a worker reports of a task that it holds, by the claim's fencing token."""
    return Operation(
        "POST",
        f"/api/v1/claims/{{task}}/{action}",
        "worker",
        summary,
        {200: ref(answer)},
        (400, 404, 409),
        body=REQUESTS[action],
        notes={409: "stale_fence: the task is not held by this token." + (_NONE_GIVEN if action == "token" else "")},
        scoped="one",
    )


_NONE_GIVEN = " token_refused: GitHub gives none, and would give none the next time."

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        DEFAULT_PATH,
        "open",
        "A delivery, signed by GitHub. Not on the API's own listener.",
        {202: ref("accepted"), 200: ref("accepted")},
        errors=(400, 401, 409, 413, 415),
        notes={
            200: "A ping, or seen before.",
            202: "New, and on disk.",
            409: "The same delivery with another body; or a twin, where those are refused.",
        },
        scoped="open",
    ),
    Operation("GET", "/healthz", "open", "The process answers.", {200: schemas.answer({})}, scoped="open"),
    Operation(
        "GET", "/readyz", "open", "A delivery posted now would be accepted.", {200: ref("readiness")}, scoped="open"
    ),
    Operation(
        "GET",
        "/metrics",
        "read",
        "Figures for Prometheus.",
        {200: _TEXT},
        notes={503: "Too many scrapes at once."},
        scoped="never",
    ),
    Operation("GET", "/openapi.json", "open", "This document.", {200: {"type": "object"}}, scoped="open"),
    Operation("GET", "/api/v1/status", "read", "How the daemon is.", {200: ref("status")}, scoped="never"),
    Operation(
        "GET",
        "/api/v1/deliveries",
        "read",
        "Deliveries, newest first.",
        {200: page("delivery")},
        (400,),
        _LIST,
        scoped="filter",
    ),
    _one_delivery("{one}", "One delivery, by its GUID."),
    _one_delivery("{one}/{two}", "One delivery, by hook and GUID."),
    _payload("{one}", "The bytes as they were received, by GUID."),
    _payload("{one}/{two}", "The bytes as they were received, by hook and GUID."),
    Operation(
        "GET", "/api/v1/tasks", "read", "Tasks, newest first.", {200: page("task")}, (400,), _LIST, scoped="filter"
    ),
    Operation(
        "GET",
        "/api/v1/attempts",
        "read",
        "Attempts of the tasks that match, newest first.",
        {200: page("latest_attempt")},
        (400,),
        _LIST,
        scoped="filter",
    ),
    Operation(
        "GET",
        "/api/v1/count",
        "read",
        "How many match.",
        {200: schemas.answer({"count": schemas.COUNT})},
        (400,),
        (
            Query("what", {"enum": ["deliveries", "tasks", "attempts"]}, "Which; deliveries if it is left out."),
            _FILTER,
            Query("limit", WHOLE, "Count no further than this; 0, and none, is all."),
        ),
        scoped="filter",
    ),
    Operation("GET", "/api/v1/tasks/{id}", "read", "One task.", {200: ref("one_task")}, (404,), scoped="one"),
    Operation(
        "GET",
        "/api/v1/tasks/{id}/attempts",
        "read",
        "A task's attempts, first to last, if it matches.",
        {200: page("attempt")},
        (400, 404),
        _LIST,
        scoped="one",
    ),
    *(
        Operation(
            "GET",
            f"/api/v1/tasks/{{id}}/attempts/{{attempt}}/{stream}",
            "read",
            f"What the attempt {what}: the last of it, or from an offset on.",
            {200: _ANY_BYTES if stream == "result" else _TEXT},
            (400, 404, 502),
            (
                Query("last", {"type": "integer", "minimum": 1, "maximum": 1 << 20}, "At most so many bytes."),
                Query(
                    "offset",
                    {"type": "integer", "minimum": 0, "maximum": 1 << 53},
                    "From this byte on, if there is more.",
                ),
            ),
            scoped="one",
        )
        for stream, what in (
            ("stdout", "wrote to stdout"),
            ("stderr", "wrote to stderr"),
            ("result", "left as its result"),
        )
    ),
    Operation(
        "GET",
        "/api/v1/why",
        "read",
        "The story of a delivery, of a task's, or of the newest of an issue or pull request.",
        {200: ref("why")},
        (400, 409),
        (
            Query(
                "id",
                {"type": "string", "minLength": 1},
                "GUID, hook/GUID, a task's id, owner/name#number, or its address on GitHub.",
                required=True,
            ),
        ),
        notes=_AMBIGUOUS,
        scoped="one",
    ),
    Operation(
        "GET",
        "/api/v1/stats",
        "read",
        "How much came, of what, from where, and what became of it.",
        {200: ref("stats")},
        (400,),
        (_FILTER, Query("since_ms", WHOLE, "What came in so many milliseconds until now; a day.")),
        scoped="filter",
    ),
    Operation(
        "GET",
        "/api/v1/audit",
        "read",
        "What senders, operators, tokens and the system did, oldest first.",
        {200: ref("audit")},
        (400,),
        (
            _FILTER,
            Query("who", _list_of(f"({_DOERS})(:[^,]*)?"), "Whose doing: a kind, or KIND:NAME; several with commas."),
            Query("what", _list_of("|".join(get_args(What))), "What was done; several with commas."),
            Query(
                "after", {"type": "string", "pattern": _CURSOR}, "`next` of the page before; empty is the beginning."
            ),
            Query("newest", WHOLE, "Without `after`, the newest so many that match."),
            _LIMIT,
        ),
        scoped="never",
    ),
    Operation(
        "GET",
        "/api/v1/usage",
        "read",
        "What a month had of each installation, repository and familiar: sums over the records of that month.",
        {200: ref("usage")},
        (400,),
        (
            Query("month", _MONTH, "The month, in UTC, or all; without it, this month."),
            Query("by", {"enum": [*get_args(By)]}, "Sum up by one of these; without it, by all of them."),
            *_LIST,
        ),
        scoped="filter",
    ),
    Operation(
        "GET",
        "/api/v1/pace",
        "read",
        "How many came, were refused and ended in each of the last minutes.",
        {200: ref("pace")},
        (400,),
        (Query("minutes", _MINUTES, "How many minutes, up to 720; 60."),),
        scoped="never",
    ),
    Operation(
        "GET",
        "/api/v1/ledger",
        "read",
        "What GitHub's delivery logs list, what of it is held, and what became of the rest, by the hour, newest first.",
        {200: page("ledger_hour")},
        (400,),
        (Query("since_ms", WHOLE, "The hours of so many milliseconds until now; three days."),),
        scoped="never",
    ),
    Operation(
        "GET",
        "/api/v1/notices",
        "read",
        "What those whom [notify] names are still to be told, and what they were told last.",
        {200: ref("notices")},
        scoped="never",
    ),
    Operation(
        "GET",
        "/api/v1/tail",
        "read",
        "What the journal records, told with whose it is.",
        {200: ref("tail")},
        (400,),
        (
            _FILTER,
            Query("after", WHOLE, "Records newer than this seq."),
            Query("since_ms", WHOLE, "Records of so many milliseconds ago and later."),
            Query("newest", WHOLE, "The newest so many that match."),
            Query("wait_ms", WHOLE, "With `after`, hold the answer so long if there is nothing yet; 30,000 at most."),
        ),
        scoped="filter",
    ),
    *(_act(one) for one in operations.OPERATIONS),
    Operation(
        "POST",
        "/api/v1/claims",
        "worker",
        "Take a task of a pull route, for a time.",
        {200: ref("claim"), 204: ""},
        (400,),
        body=REQUESTS["claim"],
        scoped="filter",
        notes={
            204: "There is nothing, or there was nothing within wait_s. The header Covenq-No-Pull-Route names those of `routes` "
            "that are no pull routes now, or is * where there is no such route at all."
        },
    ),
    Operation(
        "POST",
        "/api/v1/claims/completed",
        "worker",
        "End several attempts well, in one append; each is answered by itself.",
        {200: ref("completions")},
        (400,),
        body=REQUESTS["completed"],
        scoped="filter",
    ),
    _held("renew", "Keep a task for longer.", "lease"),
    _held("phase", "Record what an attempt is at. The daemon's own commands may say it too.", "phase"),
    _held(
        "token",
        "Get the installation token for the work, or the same once more; another before it expires.",
        "work_token",
    ),
    _held("complete", "End an attempt well.", "completed"),
    _held("fail", "End an attempt that failed, or give the task back (category interrupted).", "failed"),
    Operation(
        "GET",
        "/api/v1/secrets",
        "read",
        "The webhook secrets: where each is, how it is used, and which may be retired; never what it is.",
        {200: page("secret")},
        scoped="never",
    ),
    Operation(
        "GET",
        "/api/v1/refused",
        "read",
        "The newest requests that were refused, newest first, each with what to do about it.",
        {200: page("refusal")},
        (400,),
        (
            Query(
                "limit",
                {"type": "integer", "minimum": 0, "maximum": 999999999, "default": 50},
                "At most so many; 0 is all that are kept: two logs of 1 MiB.",
            ),
        ),
        scoped="never",
    ),
    Operation("GET", "/api/v1/pauses", "read", "What operators have paused.", {200: page("pause")}, scoped="filter"),
    Operation(
        "GET",
        "/api/v1/events",
        "read",
        "The journal's records as they become durable, as server-sent events; from now on, or after a seq.",
        {200: _STREAM},
        (400,),
        (_SEQ,),
        scoped="filter",
    ),
    Operation(
        "GET",
        "/api/v1/snapshot",
        "operate",
        "A copy of state.db, from which a new node goes on; HEAD says how large one is, and up to which record.",
        {200: _ANY_BYTES},
        notes={503: "One is made already, there is no room for one, or state.db is being made anew."},
        scoped="never",
    ),
    *COVENCAVE,
)
