"""The JSON objects of the API as JSON Schema (2020-12), for the OpenAPI document: the required fields and their types.

An object may have more fields than its schema names: clients ignore what they don't know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covenq.model import Category, State

Schema = Mapping[str, Any]

ID = r"^[0-9A-Za-z_-]{1,64}$"
"""A hook id, a GUID, a task's id."""

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
REAL: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, microseconds."}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TOKEN: Schema = {"type": "string", "pattern": ID}
STATE: Schema = {"type": "string", "enum": [str(state) for state in State]}
TASK_STATE: Schema = {
    "type": "string",
    "enum": [str(state) for state in State if state not in (State.RECEIVED, State.IGNORED)],
}
CATEGORY: Schema = {"type": ["string", "null"], "enum": [*(str(category) for category in Category), None]}


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
    """The object of that name in SCHEMAS."""
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


def _nullable_texts(names: str) -> dict[str, Schema]:
    return {name: nullable(TEXT) for name in names.split()}


def _nullable_numbers(names: str) -> dict[str, Schema]:
    return {name: nullable(NUMBER) for name in names.split()}


_PLAN = {"eligible": array_of(TEXT), "skipped": array_of(object_of({"id": TEXT, "reason": TEXT}))}

_PAUSE = {"what": TEXT, **_nullable_texts("name repo by reason"), "since": nullable(TIME), "seq": nullable(NUMBER)}

SCHEMAS: dict[str, Schema] = {
    "error": object_of(
        {
            "ok": {"const": False},
            "error": {"type": "string", "pattern": "^[a-z_]+$", "description": "One word, for machines."},
            "detail": {"type": "string", "description": "One sentence, for people."},
            "hint": {"type": "string", "description": "What to do or type next."},
        },
        optional=("hint",),
    ),
    "delivery": object_of(
        {
            "hook": TOKEN,
            "guid": TOKEN,
            "seq": NUMBER,
            "received_at": TIME,
            **_nullable_texts("event action repo owner sender head_sha label reason secret source"),
            **_nullable_numbers("repo_id installation number payload_bytes payload_dropped redacted"),
            "state": STATE,
            "payload_sha256": nullable(SHA256),
            "duplicates": COUNT,
            "tasks": array_of(TEXT),
        }
    ),
    "task": object_of(
        {
            "id": TEXT,
            "hook": TOKEN,
            "guid": TOKEN,
            "route": TEXT,
            "state": TASK_STATE,
            **_nullable_texts("kind reason repo head_sha key worker"),
            **_nullable_numbers("repo_id installation number priority"),
            "attempts": COUNT,
            "policy": nullable({"type": "object"}),
            "created_at": TIME,
            "updated_at": TIME,
            "not_before": nullable(TIME),
            "lease_until": nullable(TIME),
            "waits": nullable(
                {
                    "type": "object",
                    "properties": {"word": TEXT, "why": TEXT, "position": nullable({"type": "integer", "minimum": 1})},
                }
            ),
        }
    ),
    "claim": object_of(
        {
            "ok": FLAG,
            "task": ref("task"),
            "attempt": {"type": "integer", "minimum": 1},
            "fence": TEXT,
            "lease_until": TIME,
            "payload_url": TEXT,
            "more": array_of(
                object_of(
                    {
                        "task": ref("task"),
                        "attempt": {"type": "integer", "minimum": 1},
                        "fence": TEXT,
                        "lease_until": TIME,
                        "payload_url": TEXT,
                    }
                )
            ),
        }
    ),
    "completions": object_of({"ok": FLAG, "items": array_of(object_of({"task": TEXT, "ok": FLAG}))}),
    "lease": object_of({"ok": FLAG, "lease_until": TIME}),
    "phase": object_of({"ok": FLAG, "phase": TEXT, "seq": COUNT}),
    "ended": object_of(
        {"ok": FLAG, "state": TASK_STATE, "duplicate": FLAG, "result": nullable(TEXT), "not_before": nullable(TIME)},
        optional=("result", "not_before"),
    ),
    "attempt": object_of(
        {
            "task": TEXT,
            "attempt": {"type": "integer", "minimum": 1},
            "fence": TEXT,
            **_nullable_texts("worker result stdout stderr"),
            "started_at": TIME,
            "ended_at": nullable(TIME),
            "outcome": nullable(TEXT),
            "category": CATEGORY,
            "exit_code": nullable(NUMBER),
            "phases": {"type": "array", "items": {"type": "array", "prefixItems": [TEXT, TIME]}},
        }
    ),
    "latest_attempt": {
        "allOf": [
            ref("attempt"),
            object_of({**_nullable_texts("route event action repo hook guid"), "number": nullable(NUMBER)}),
        ]
    },
    "one_delivery": {
        "allOf": [
            ref("delivery"),
            answer({"headers": nullable(array_of(array_of(TEXT))), "dropped_by": nullable({"type": "object"})}),
        ]
    },
    "one_task": {"allOf": [ref("task"), answer({})]},
    "secret": object_of(
        {
            "name": TOKEN,
            "source": {"enum": ["file", "env", "credential", "value", None]},
            "place": nullable(TEXT),
            "scope": nullable(
                object_of({"hooks": array_of(TEXT), "installations": array_of(NUMBER), "repositories": array_of(TEXT)})
            ),
            "readable": FLAG,
            "problem": nullable(TEXT),
            "first_used_at": nullable(TIME),
            "last_used_at": nullable(TIME),
            "last_delivery": nullable(TEXT),
            "recent": COUNT,
            "hooks": COUNT,
            "waiting_for": array_of(TEXT),
            "verdict": {"enum": ["in_use", "wait", "retire", "unused", "only", "unreadable", "gone"]},
            "retire": FLAG,
            "reason": TEXT,
        }
    ),
    "pause": object_of(_PAUSE),
    "refusal": object_of({"at": TIME, "error": TEXT, "status": NUMBER, "detail": TEXT, "hint": TEXT}),
    "paused": answer({**_PAUSE, "paused": FLAG, "changed": FLAG}),
    "event": object_of({"seq": NUMBER, "at": TIME, "subject": TEXT, "kind": TEXT}),
    "accepted": answer(
        {
            "duplicate": FLAG,
            "delivery": TOKEN,
            "seq": NUMBER,
            "state": STATE,
            "tasks": array_of(TEXT),
            "durability": {"type": "string", "enum": ["fsync", "replicated"]},
            "pong": {"const": True},
        },
        optional=("pong",),
    ),
    "readiness": answer({"ready": {"const": True}, "reasons": array_of(TEXT)}),
    "status": answer(
        {
            "ready": FLAG,
            "reasons": array_of(TEXT),
            "version": TEXT,
            "pid": nullable(NUMBER),
            "started_at": nullable(TIME),
            "data": TEXT,
            "webhook_url": nullable(TEXT),
            "api_url": nullable(TEXT),
            "journal": object_of(
                {
                    "id": TEXT,
                    "epoch": TEXT,
                    "head": object_of({"seq": COUNT, "sum": TEXT}),
                    "segments": COUNT,
                    "bytes": COUNT,
                    "poisoned": FLAG,
                    "full": FLAG,
                    "last_sync_ms": nullable(REAL),
                }
            ),
            "segments": array_of(object_of({"name": TEXT, "first": COUNT, "bytes": COUNT})),
            "verified": nullable(
                object_of(
                    {"at": TIME, "ok": FLAG, "records": COUNT, "findings": COUNT, "seq": COUNT, "first": nullable(TEXT)}
                )
            ),
            "running": array_of(
                object_of(
                    {
                        "task": TEXT,
                        "attempt": COUNT,
                        "route": nullable(TEXT),
                        "repo": nullable(TEXT),
                        "since": nullable(TIME),
                    }
                )
            ),
            "stuck": array_of(object_of({"task": TEXT, "state": TASK_STATE, "since": nullable(TIME), "why": TEXT})),
            "secrets": array_of(object_of({"secret": TEXT, "problem": TEXT})),
            "state": object_of({"seq": COUNT, "lag": NUMBER, "error": nullable(TEXT)}),
            "deliveries": {"type": "object", "additionalProperties": COUNT},
            "tasks": {"type": "object", "additionalProperties": COUNT},
            "worker": nullable({"type": "object"}),
            "upkeep": {"type": "object"},
            "routes": array_of(TEXT),
            "reload": object_of(
                {
                    "at": TIME,
                    "ok": FLAG,
                    "error": nullable(TEXT),
                    "hint": nullable(TEXT),
                    "number": NUMBER,
                    "warnings": array_of(TEXT),
                }
            ),
            "refused": {"type": "object", "additionalProperties": COUNT},
        }
    ),
    "why": answer(
        {
            "asked": TEXT,
            "kind": {"type": "string", "enum": ["delivery", "target", "nothing"]},
            "task": nullable(TEXT),
            "target": nullable(object_of({"repo": TEXT, "number": NUMBER})),
            "stories": array_of(ref("story")),
            "more": FLAG,
            "refused": array_of(object_of({})),
        }
    ),
    "tail": answer({"items": array_of(ref("told")), "next": NUMBER, "head": NUMBER, "epoch": TEXT}),
    "stats": answer(
        {
            "since": TIME,
            "until": TIME,
            **dict.fromkeys(("deliveries", "duplicates", "bytes"), COUNT),
            "states": object_of({}),
            **dict.fromkeys(
                ("events", "repos"),
                array_of(object_of({"name": nullable(TEXT), "deliveries": COUNT, "failed": COUNT, "ignored": COUNT})),
            ),
            "routes": array_of(
                object_of({"name": nullable(TEXT), "tasks": COUNT, "attempts": COUNT, "states": object_of({})})
            ),
            "more": object_of(dict.fromkeys(("events", "repos", "routes"), COUNT)),
            "time": array_of(object_of({"at": TIME, "deliveries": COUNT, "failed": COUNT})),
        }
    ),
    "pace": answer(
        {
            "at": TIME,
            "minutes": COUNT,
            **dict.fromkeys(("accepted", "refused", "completed", "failed"), array_of(COUNT)),
        }
    ),
    "told": object_of(
        {
            "seq": NUMBER,
            "at": TIME,
            "kind": TEXT,
            **dict.fromkeys(("hook", "guid", "task", "event", "action", "repo"), nullable(TEXT)),
            "number": nullable(NUMBER),
            **dict.fromkeys(("sender", "route", "state"), nullable(TEXT)),
            "data": object_of({}),
        }
    ),
    "story": object_of(
        {
            "id": TEXT,
            "delivery": ref("delivery"),
            "tasks": array_of(
                object_of({"id": TEXT, "attempt_objects": array_of(ref("attempt")), "waiting": nullable(object_of({}))})
            ),
            "answers": object_of(
                {
                    name: object_of({"yes": nullable(FLAG), "words": TEXT})
                    for name in ("accepted", "ignored", "failed", "retried", "duplicated", "now")
                }
            ),
            "events": array_of(
                object_of({"at": TEXT, "seq": nullable(NUMBER), "word": TEXT, "task": nullable(TEXT), "words": TEXT})
            ),
            "rules": object_of(
                {
                    "same": nullable(FLAG),
                    "routes": array_of(
                        object_of(
                            {
                                "route": TEXT,
                                "match": TEXT,
                                "matches": nullable(FLAG),
                                "terms": array_of(
                                    object_of(
                                        {
                                            "term": TEXT,
                                            "holds": nullable(FLAG),
                                            "seen": array_of(TEXT),
                                            "problem": nullable(TEXT),
                                        }
                                    )
                                ),
                            }
                        )
                    ),
                }
            ),
            "next": array_of(object_of({"words": TEXT, "command": TEXT})),
        }
    ),
    "operation": answer({**_PLAN, "done": array_of(object_of({"id": TEXT}))}),
    "redaction": answer(
        {
            **_PLAN,
            "done": array_of(object_of({"id": TEXT})),
            "segments": COUNT,
            "freed": NUMBER,
            "attempts": COUNT,
            "left": array_of(TEXT),
            "copies": array_of(TEXT),
            "copies_unread": array_of(TEXT),
        }
    ),
    "compaction": answer(
        {
            "policy": object_of({"payloads_s": nullable(REAL), "attempts_s": nullable(REAL)}),
            "deliveries": COUNT,
            "payload_bytes": COUNT,
            "segments": COUNT,
            "freed": NUMBER,
            "attempts": COUNT,
            "left": array_of(TEXT),
            "dry_run": FLAG,
        }
    ),
}
"""The objects, by the name that `ref` takes."""
