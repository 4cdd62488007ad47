"""A configuration of coven-github's as a TOML file. It isn't covenq's own writer that writes what covenq's translation reads."""

from __future__ import annotations

import json
from typing import Any

from tests.support.coven_reading import Json


def written(config: Json) -> str:
    """Each section, and each entry of a list of them, with its tables inline: one line a section."""
    lines = []
    for name, value in config.items():
        for one in value if isinstance(value, list) else [value]:
            lines.append(f"[[{name}]]" if isinstance(value, list) else f"[{name}]")
            lines += [f"{key} = {_value(inner)}" for key, inner in one.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(value)
