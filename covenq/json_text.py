"""JSON text of a value that came from outside, however deep it is.

`json.dumps` recurses, and what a signed body may hold is nested deeper than Python recurses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator


def json_text(value: object, *, indent: int | None = None, default: Callable[[object], object] | None = None) -> str:
    """As `json.dumps` without `ensure_ascii`; compact unless `indent` is given. Raises ValueError for NaN."""
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        return json.dumps(
            value, default=default, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators
        )
    except RecursionError:
        return "".join(_pieces(value, indent, default))


def _pieces(value: object, indent: int | None, default: Callable[[object], object] | None) -> Iterator[str]:
    """The text in pieces, by a stack: a part is a text that is ready (level -1), or a value and its level."""
    colon = ":" if indent is None else ": "
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        part, level = stack.pop()
        if level < 0:
            yield str(part)
        elif isinstance(part, dict | list | tuple) and part:
            before, after = _breaks(indent, level)
            names = [_leaf(str(name)) + colon for name in part] if isinstance(part, dict) else [""] * len(part)
            members = list(part.values()) if isinstance(part, dict) else part
            stack.append((after + ("}" if isinstance(part, dict) else "]"), -1))
            for number in range(len(members) - 1, -1, -1):
                stack.append((members[number], level + 1))
                stack.append((("," if number else "") + before + names[number], -1))
            yield "{" if isinstance(part, dict) else "["
        elif default is not None and not isinstance(part, str | int | float | dict | list | tuple | None):
            stack.append((default(part), level))
        else:
            yield _leaf(part)


def _breaks(indent: int | None, level: int) -> tuple[str, str]:
    """What stands before each member of a value at that level, and before its end."""
    if indent is None:
        return "", ""
    return "\n" + " " * (indent * (level + 1)), "\n" + " " * (indent * level)


def _leaf(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
