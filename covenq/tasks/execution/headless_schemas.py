"""The JSON Schemas of the contract coven-headless/2, as the manual has them: `python -m …headless_schemas brief|result`."""

from __future__ import annotations

import json
import sys

import msgspec

from covenq.model import JsonObject
from covenq.tasks.execution.headless_result import Result
from covenq.tasks.execution.session_brief import SessionBrief

SCHEMAS: dict[str, type[msgspec.Struct]] = {"brief": SessionBrief, "result": Result}
"""By the words that name them; the manual's files are man/session-brief.schema.json and man/headless-result.schema.json."""


def schema(name: str) -> JsonObject:
    """The schema, of the 2020-12 draft."""
    (found,), parts = msgspec.json.schema_components([SCHEMAS[name]], ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "$defs": parts}


if __name__ == "__main__":
    json.dump(schema(sys.argv[1]), sys.stdout, indent=1)
    sys.stdout.write("\n")
