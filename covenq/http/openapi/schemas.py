"""The JSON objects of the API as JSON Schema (2020-12), for the OpenAPI document, from the types that are answered.

An object may have more fields than its schema names: clients ignore what they don't know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from covenq.http.openapi.from_types import Schema, answered, components
from covenq.intake.receive import Accepted
from covenq.intake.refusal_log import Refusal
from covenq.model.answers import Event, Grants, Secret, Stats, Tail, TailItem, Throughput
from covenq.model.audit import Audit
from covenq.model.cave import CaveEvent, CaveTask, CaveUsage, InstallationRouting
from covenq.model.notices import Notices, NotifyTest
from covenq.model.rows import Attempt, Delivery, LatestAttempt, OneDelivery, Task
from covenq.model.status import ActivePause, LedgerHour, Status
from covenq.model.usage import Usage
from covenq.operate.answers import (
    Compaction,
    HandedOver,
    Imported,
    Kept,
    Paused,
    PlanAnswer,
    Redaction,
    Redeliveries,
    Unbound,
)
from covenq.operate.inspect.history import Story, Why
from covenq.tasks.remote.reports import Completed, Failed, PhaseRecorded, Renewed
from covenq.tasks.tokens.holding import WorkTokenGiven

ID = r"^[0-9A-Za-z_-]{1,64}$"
"""A hook id, a GUID, a task's id."""

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TOKEN: Schema = {"type": "string", "pattern": ID}


def nullable(schema: Schema) -> Schema:
    """`schema`, or null."""
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"oneOf": [schema, {"type": "null"}]}


def array_of(schema: Schema) -> Schema:
    """An array of such items."""
    return {"type": "array", "items": schema}


def ref(name: str) -> Schema:
    """The object of that name in `all_schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """An object with these properties, all required but the `optional`; others are allowed."""
    required = [name for name in properties if name not in optional]
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties)}
    return {**schema, "required": required} if required else schema


def answer(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """The answer to a request that succeeded: `ok` and these."""
    return object_of({"ok": {"const": True}, **properties}, optional)


def page(item: str) -> Schema:
    """A list's answer: a page of items, and the cursor of the next."""
    return answer({"items": array_of(ref(item)), "next": nullable(TEXT)})


TYPES: Mapping[str, type] = {
    "delivery": Delivery,
    "task": Task,
    "attempt": Attempt,
    "latest_attempt": LatestAttempt,
    "secret": Secret,
    "pause": ActivePause,
    "refusal": Refusal,
    "event": Event,
    "story": Story,
    "told": TailItem,
    "ledger_hour": LedgerHour,
    "cave_task": CaveTask,
    "cave_usage": CaveUsage,
    "cave_event": CaveEvent,
    "installation_routing": InstallationRouting,
}
"""What lists and answers consist of."""

ANSWERS: Mapping[str, type] = {
    "accepted": Accepted,
    "claim": Grants,
    "lease": Renewed,
    "work_token": WorkTokenGiven,
    "phase": PhaseRecorded,
    "completed": Completed,
    "failed": Failed,
    "one_delivery": OneDelivery,
    "status": Status,
    "why": Why,
    "tail": Tail,
    "stats": Stats,
    "audit": Audit,
    "usage": Usage,
    "pace": Throughput,
    "operation": PlanAnswer,
    "imported": Imported,
    "redeliveries": Redeliveries,
    "redaction": Redaction,
    "compaction": Compaction,
    "paused": Paused,
    "kept": Kept,
    "unbound": Unbound,
    "notices": Notices,
    "notice_test": NotifyTest,
    "handed_over": HandedOver,
}
"""Whole answers: with `ok`."""


def name_of(answer: type) -> str:
    """The name of an answer's schema. Raises ValueError where ANSWERS lacks it."""
    try:
        return next(name for name, kind in ANSWERS.items() if kind is answer)
    except StopIteration:
        raise ValueError(f"{answer.__name__} has no name in ANSWERS") from None


@cache
def all_schemas() -> Mapping[str, Schema]:
    """The objects, by the name that `ref` takes: TYPES and ANSWERS, what they consist of, and a few that have no type.

    Made when the document is, since a daemon's start has no use for it.
    """
    found: dict[str, Schema] = dict(components({**TYPES, **ANSWERS}))
    for name in ANSWERS:
        found[name] = answered(found[name])
    # A line of the log has no hint; one that is answered has.
    found["refusal"] = {**found["refusal"], "required": [*found["refusal"]["required"], "hint"]}
    return {
        "error": object_of(
            {
                "ok": {"const": False},
                "error": {"type": "string", "pattern": "^[a-z_ ]+$", "description": "One word, for machines."},
                "detail": {"type": "string", "description": "One sentence, for people."},
                "hint": {"type": "string", "description": "What to do or type next."},
            },
            optional=("hint",),
        ),
        **found,
        "one_task": answered(found["task"]),
        "completions": object_of({"ok": FLAG, "items": array_of(object_of({"task": TEXT, "ok": FLAG}))}),
        "readiness": answer(
            {
                "ready": {"const": True},
                "reasons": array_of(TEXT),
                "alarms": array_of(TEXT),
                "detail": nullable(TEXT),
            }
        ),
    }
