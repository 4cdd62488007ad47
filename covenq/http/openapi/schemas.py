"""The JSON objects of the API as JSON Schema (2020-12), for the OpenAPI document: what is always there, and of what type.

An object may have more fields than its schema names: readers leave alone what they don't know.
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
ANY: Schema = {}


def maybe(schema: Schema) -> Schema:
    """As `schema`, or null."""
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"oneOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """A list of such."""
    return {"type": "array", "items": schema}


def ref(name: str) -> Schema:
    """The object of that name in SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def thing(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """An object that has all these, but for the `optional`, and perhaps others."""
    required = [name for name in properties if name not in optional]
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties)}
    return {**schema, "required": required} if required else schema


def answer(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """What answers a request that was done: `ok` and these."""
    return thing({"ok": {"const": True}, **properties}, optional)


def page(item: str) -> Schema:
    """A list's answer: a page of items, and the cursor of the next."""
    return answer({"items": many(ref(item)), "next": maybe(TEXT)})


def _texts(names: str) -> dict[str, Schema]:
    return {name: maybe(TEXT) for name in names.split()}


def _numbers(names: str) -> dict[str, Schema]:
    return {name: maybe(NUMBER) for name in names.split()}


_PLAN = {"eligible": many(TEXT), "skipped": many(thing({"id": TEXT, "reason": TEXT}))}

_PAUSE = {"what": TEXT, **_texts("name repo by reason"), "since": maybe(TIME), "seq": maybe(NUMBER)}

SCHEMAS: dict[str, Schema] = {
    "error": thing(
        {
            "ok": {"const": False},
            "error": {"type": "string", "pattern": "^[a-z_]+$", "description": "One word, for machines."},
            "detail": {"type": "string", "description": "One sentence, for people."},
            "hint": {"type": "string", "description": "What to do or type next."},
        },
        optional=("hint",),
    ),
    "delivery": thing(
        {
            "hook": TOKEN,
            "guid": TOKEN,
            "seq": NUMBER,
            "received_at": TIME,
            **_texts("event action repo owner sender head_sha label reason secret source"),
            **_numbers("repo_id installation number payload_bytes payload_dropped redacted"),
            "state": STATE,
            "payload_sha256": maybe(SHA256),
            "duplicates": COUNT,
            "tasks": many(TEXT),
        }
    ),
    "task": thing(
        {
            "id": TEXT,
            "hook": TOKEN,
            "guid": TOKEN,
            "route": TEXT,
            "state": TASK_STATE,
            **_texts("kind reason repo head_sha key worker"),
            **_numbers("repo_id installation number priority"),
            "attempts": COUNT,
            "policy": maybe({"type": "object"}),
            "created_at": TIME,
            "updated_at": TIME,
            "not_before": maybe(TIME),
            "lease_until": maybe(TIME),
            "waits": maybe(
                {
                    "type": "object",
                    "properties": {"word": TEXT, "why": TEXT, "position": maybe({"type": "integer", "minimum": 1})},
                }
            ),
        }
    ),
    "claim": thing(
        {
            "ok": FLAG,
            "task": ref("task"),
            "attempt": {"type": "integer", "minimum": 1},
            "fence": TEXT,
            "lease_until": TIME,
            "payload_url": TEXT,
            "more": many(
                thing(
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
    "completions": thing({"ok": FLAG, "items": many(thing({"task": TEXT, "ok": FLAG}))}),
    "lease": thing({"ok": FLAG, "lease_until": TIME}),
    "phase": thing({"ok": FLAG, "phase": TEXT, "seq": COUNT}),
    "ended": thing(
        {"ok": FLAG, "state": TASK_STATE, "duplicate": FLAG, "result": maybe(TEXT), "not_before": maybe(TIME)},
        optional=("result", "not_before"),
    ),
    "attempt": thing(
        {
            "task": TEXT,
            "attempt": {"type": "integer", "minimum": 1},
            "fence": TEXT,
            **_texts("worker result stdout stderr"),
            "started_at": TIME,
            "ended_at": maybe(TIME),
            "outcome": maybe(TEXT),
            "category": CATEGORY,
            "exit_code": maybe(NUMBER),
            "phases": {"type": "array", "items": {"type": "array", "prefixItems": [TEXT, TIME]}},
        }
    ),
    "latest_attempt": {
        "allOf": [
            ref("attempt"),
            thing({**_texts("route event action repo hook guid"), "number": maybe(NUMBER)}),
        ]
    },
    "one_delivery": {
        "allOf": [
            ref("delivery"),
            answer({"headers": maybe(many(many(TEXT))), "dropped_by": maybe({"type": "object"})}),
        ]
    },
    "one_task": {"allOf": [ref("task"), answer({})]},
    "secret": thing(
        {
            "name": TOKEN,
            "source": {"enum": ["file", "env", "credential", "value", None]},
            "place": maybe(TEXT),
            "scope": maybe(thing({"hooks": many(TEXT), "installations": many(NUMBER), "repositories": many(TEXT)})),
            "readable": FLAG,
            "problem": maybe(TEXT),
            "first_used_at": maybe(TIME),
            "last_used_at": maybe(TIME),
            "last_delivery": maybe(TEXT),
            "recent": COUNT,
            "hooks": COUNT,
            "waiting_for": many(TEXT),
            "verdict": {"enum": ["in_use", "wait", "retire", "unused", "only", "unreadable", "gone"]},
            "retire": FLAG,
            "reason": TEXT,
        }
    ),
    "pause": thing(_PAUSE),
    "refusal": thing({"at": TIME, "error": TEXT, "status": NUMBER, "detail": TEXT, "hint": TEXT}),
    "paused": answer({**_PAUSE, "paused": FLAG, "changed": FLAG}),
    "event": thing({"seq": NUMBER, "at": TIME, "subject": TEXT, "kind": TEXT}),
    "accepted": answer(
        {
            "duplicate": FLAG,
            "delivery": TOKEN,
            "seq": NUMBER,
            "state": STATE,
            "tasks": many(TEXT),
            "durability": {"type": "string", "enum": ["fsync", "replicated"]},
            "pong": {"const": True},
        },
        optional=("pong",),
    ),
    "readiness": answer({"ready": {"const": True}, "reasons": many(TEXT)}),
    "status": answer(
        {
            "ready": FLAG,
            "reasons": many(TEXT),
            "version": TEXT,
            "pid": maybe(NUMBER),
            "started_at": maybe(TIME),
            "data": TEXT,
            "webhook_url": maybe(TEXT),
            "api_url": maybe(TEXT),
            "journal": thing(
                {
                    "id": TEXT,
                    "epoch": TEXT,
                    "head": thing({"seq": COUNT, "sum": TEXT}),
                    "segments": COUNT,
                    "bytes": COUNT,
                    "poisoned": FLAG,
                    "full": FLAG,
                    "last_sync_ms": maybe(REAL),
                }
            ),
            "segments": many(thing({"name": TEXT, "first": COUNT, "bytes": COUNT})),
            "verified": maybe(
                thing({"at": TIME, "ok": FLAG, "records": COUNT, "findings": COUNT, "seq": COUNT, "first": maybe(TEXT)})
            ),
            "running": many(
                thing({"task": TEXT, "attempt": COUNT, "route": maybe(TEXT), "repo": maybe(TEXT), "since": maybe(TIME)})
            ),
            "stuck": many(thing({"task": TEXT, "state": TASK_STATE, "since": maybe(TIME), "why": TEXT})),
            "secrets": many(thing({"secret": TEXT, "problem": TEXT})),
            "state": thing({"seq": COUNT, "lag": NUMBER, "error": maybe(TEXT)}),
            "deliveries": {"type": "object", "additionalProperties": COUNT},
            "tasks": {"type": "object", "additionalProperties": COUNT},
            "worker": maybe({"type": "object"}),
            "upkeep": {"type": "object"},
            "routes": many(TEXT),
            "reload": thing(
                {
                    "at": TIME,
                    "ok": FLAG,
                    "error": maybe(TEXT),
                    "hint": maybe(TEXT),
                    "number": NUMBER,
                    "warnings": many(TEXT),
                }
            ),
            "refused": {"type": "object", "additionalProperties": COUNT},
        }
    ),
    "why": answer(
        {
            "asked": TEXT,
            "kind": {"type": "string", "enum": ["delivery", "target", "nothing"]},
            "task": maybe(TEXT),
            "target": maybe(thing({"repo": TEXT, "number": NUMBER})),
            "stories": many(ref("story")),
            "more": FLAG,
            "refused": many(thing({})),
        }
    ),
    "tail": answer({"items": many(ref("told")), "next": NUMBER, "head": NUMBER, "epoch": TEXT}),
    "stats": answer(
        {
            "since": TIME,
            "until": TIME,
            **dict.fromkeys(("deliveries", "duplicates", "bytes"), COUNT),
            "states": thing({}),
            **dict.fromkeys(
                ("events", "repos"),
                many(thing({"name": maybe(TEXT), "deliveries": COUNT, "failed": COUNT, "ignored": COUNT})),
            ),
            "routes": many(thing({"name": maybe(TEXT), "tasks": COUNT, "attempts": COUNT, "states": thing({})})),
            "more": thing(dict.fromkeys(("events", "repos", "routes"), COUNT)),
            "time": many(thing({"at": TIME, "deliveries": COUNT, "failed": COUNT})),
        }
    ),
    "pace": answer(
        {
            "at": TIME,
            "minutes": COUNT,
            **dict.fromkeys(("accepted", "refused", "completed", "failed"), many(COUNT)),
        }
    ),
    "told": thing(
        {
            "seq": NUMBER,
            "at": TIME,
            "kind": TEXT,
            **dict.fromkeys(("hook", "guid", "task", "event", "action", "repo"), maybe(TEXT)),
            "number": maybe(NUMBER),
            **dict.fromkeys(("sender", "route", "state"), maybe(TEXT)),
            "data": thing({}),
        }
    ),
    "story": thing(
        {
            "id": TEXT,
            "delivery": ref("delivery"),
            "tasks": many(thing({"id": TEXT, "attempt_objects": many(ref("attempt")), "waiting": maybe(thing({}))})),
            "answers": thing(
                {
                    name: thing({"yes": maybe(FLAG), "words": TEXT})
                    for name in ("accepted", "ignored", "failed", "retried", "duplicated", "now")
                }
            ),
            "events": many(thing({"at": TEXT, "seq": maybe(NUMBER), "word": TEXT, "task": maybe(TEXT), "words": TEXT})),
            "rules": thing(
                {
                    "same": maybe(FLAG),
                    "routes": many(
                        thing(
                            {
                                "route": TEXT,
                                "match": TEXT,
                                "matches": maybe(FLAG),
                                "terms": many(
                                    thing(
                                        {"term": TEXT, "holds": maybe(FLAG), "seen": many(TEXT), "problem": maybe(TEXT)}
                                    )
                                ),
                            }
                        )
                    ),
                }
            ),
            "next": many(thing({"words": TEXT, "command": TEXT})),
        }
    ),
    "operation": answer({**_PLAN, "done": many(thing({"id": TEXT}))}),
    "redaction": answer(
        {
            **_PLAN,
            "done": many(thing({"id": TEXT})),
            "segments": COUNT,
            "freed": NUMBER,
            "attempts": COUNT,
            "left": many(TEXT),
            "copies": many(TEXT),
            "copies_unread": many(TEXT),
        }
    ),
    "compaction": answer(
        {
            "policy": thing({"payloads_s": maybe(REAL), "attempts_s": maybe(REAL)}),
            "deliveries": COUNT,
            "payload_bytes": COUNT,
            "segments": COUNT,
            "freed": NUMBER,
            "attempts": COUNT,
            "left": many(TEXT),
            "dry_run": FLAG,
        }
    ),
}
"""By the name that `ref` takes."""
