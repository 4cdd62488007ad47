"""JSON Schemas of the API's objects, derived from their types: what is sent and what is documented can't differ.

msgspec makes a schema of every type; here it gets the form of the whole document. Every field that is always sent is required,
also one that a client may do without because an older daemon doesn't send it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

Schema = Mapping[str, Any]
"""A JSON Schema."""

_REF = "#/components/schemas/"


def components(types: Mapping[str, type]) -> dict[str, Schema]:
    """The schemas of these types by their names, and of all that they consist of, by names made of theirs (`Waits`: `waits`)."""
    named = {kind.__name__: name for name, kind in types.items()}
    _, found = msgspec.json.schema_components(types.values(), ref_template=_REF + "{name}")
    names = {given: named.get(given) or _snake(given) for given in found}
    schemas = {names[given]: _object(schema, names) for given, schema in sorted(found.items())}
    partial = {name for name, kind in types.items() if _may_omit(kind)}
    return {name: schema if name in partial else _required(schema) for name, schema in schemas.items()}


def answered(schema: Schema) -> Schema:
    """The object as the answer to a request that succeeded: with `ok`."""
    return {
        **schema,
        "properties": {"ok": {"const": True}, **schema["properties"]},
        "required": ["ok", *schema["required"]],
    }


def _may_omit(kind: type) -> bool:
    """Whether objects of this type leave fields out."""
    return not issubclass(kind, msgspec.Struct) or kind.__struct_config__.omit_defaults


def _required(schema: Schema) -> Schema:
    return {**schema, "required": list(schema["properties"])} if "properties" in schema else schema


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _object(schema: Schema, names: Mapping[str, str]) -> Schema:
    """A component: without the title and the docstring of its type, which are for who reads the code."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "description")}
    return dict(_plain(kept, names))


def _plain(node: Any, names: Mapping[str, str]) -> Any:
    """msgspec's form in the document's: references by our names, `type: [x, null]` for what may be null, no defaults."""
    if isinstance(node, list):
        return [_plain(one, names) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: _plain(value, names) for key, value in node.items() if key != "default"}
    if isinstance(reference := found.get("$ref"), str):
        found["$ref"] = _REF + names[reference.removeprefix(_REF)]
    choices = found.get("anyOf")
    if isinstance(choices, list) and len(choices) == 2 and {"type": "null"} in choices:
        rest = {key: value for key, value in found.items() if key != "anyOf"}
        (one,) = [choice for choice in choices if choice != {"type": "null"}]
        if isinstance(one.get("type"), str) and "enum" not in one:
            return {**one, "type": [one["type"], "null"], **rest}
        return {"oneOf": choices, **rest}
    return found
