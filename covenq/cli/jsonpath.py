"""Paths into a JSON document, in jq's notation: `.issue.labels[0].name`, `.commits[].id`, `.a["b c"]`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from enum import Enum

from covenq.errors import NotFound, UsageError


class Wildcard(Enum):
    """The step `[]`: every element."""

    EACH = "[]"


EACH = Wildcard.EACH

Step = str | int | Wildcard
"""A step into a document: a name in an object, a place in a list, or every element of either."""

_NAME = re.compile(r"\.([^\s.\[\]\"']+)")
_INDEX = re.compile(r"\.?\[(-?[0-9]{1,9})?\]")
_QUOTED = re.compile(r"\.?\[?(\"(?:[^\"\\]|\\.)*\")\]?")
LENGTH_MAX = 1024
KEYS_SHOWN = 12


def parse(text: str) -> list[Step]:
    """The steps of a path; `.` alone has none, and names the whole document. Raises UsageError with the column."""
    if len(text) > LENGTH_MAX:
        raise UsageError("a path that is too long", hint=f"At most {LENGTH_MAX} characters.")
    if not text.startswith((".", "[")):
        raise UsageError(f"{text[:60]!r} is no path", hint="Write it with a dot in front: .issue.title")
    steps: list[Step] = []
    at = 1 if text == "." else 0
    while at < len(text):
        if found := _INDEX.match(text, at):
            steps.append(EACH if found[1] is None else int(found[1]))
        elif found := _QUOTED.match(text, at):
            try:
                steps.append(str(json.loads(found[1])))
            except ValueError:
                raise UsageError(f"a quoted name that can't be read (column {at + 1})") from None
        elif found := _NAME.match(text, at):
            steps.append(found[1])
        else:
            raise UsageError(
                f"{text[:60]!r} can't be read as a path (column {at + 1})",
                hint='Write .issue.labels[0].name, .commits[].id or .a["b c"].',
            )
        at = found.end()
    return steps


def pick(document: object, text: str) -> Iterator[object]:
    """The values that the path names, in order. Raises UsageError, and NotFound with the part of the path that exists."""
    steps = parse(text)
    stack: list[tuple[object, int]] = [(document, 0)]  # a path has more steps than Python may recurse
    while stack:
        value, at = stack.pop()
        if at == len(steps):
            yield value
        else:
            stack.extend((one, at + 1) for one in reversed(_step(value, steps[at], steps[:at])))


def _step(value: object, step: Step, walked: Sequence[Step]) -> list[object]:
    """The values that one step leads to, after those that were walked. Raises NotFound."""
    if step is EACH:
        if not isinstance(value, list | dict):
            raise NotFound(f"{_text(walked)} is {_kind(value)}: it has no elements", hint="Leave out the [].")
        return list(value if isinstance(value, list) else value.values())
    if isinstance(step, int):
        if not isinstance(value, list) or not -len(value) <= step < len(value):
            size = f"has {len(value)} elements" if isinstance(value, list) else f"is {_kind(value)}"
            raise NotFound(f"there is no {_text((*walked, step))}", hint=f"{_text(walked)} {size}.")
        return [value[step]]
    if not isinstance(value, dict) or step not in value:
        raise NotFound(f"there is no {_text((*walked, step))}", hint=f"{_text(walked)} {_holds(value)}.")
    return [value[step]]


def _holds(value: object) -> str:
    if not isinstance(value, dict):
        return f"is {_kind(value)}"
    names = ", ".join(list(value)[:KEYS_SHOWN])
    return f"has {names}{', …' if len(value) > KEYS_SHOWN else ''}" if value else "is empty"


def _kind(value: object) -> str:
    for types, word in (
        (bool, "true or false"), (str, "a text"), (dict, "an object"), (list, "a list"), (int | float, "a number")
    ):  # fmt: skip
        if isinstance(value, types):
            return word
    return "null"


def _text(steps: Sequence[Step]) -> str:
    told = ""
    for step in steps:
        if step is EACH:
            told += "[]"
        elif isinstance(step, int):
            told += f"[{step}]"
        else:
            told += f".{step}" if re.fullmatch(r"[\w-]+", str(step)) else f"[{json.dumps(step)}]"
    return told or "."
