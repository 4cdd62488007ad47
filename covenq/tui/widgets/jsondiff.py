"""The differences between two JSON documents, path by path. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from covenq.tui.widgets.jsontree import path_step

DIFFERENCES_MAX = 2_000
"""Differences shown: two unrelated documents differ everywhere, and no reader needs more."""

ABSENT = object()
"""Stands for a value that one side doesn't have."""


@dataclass(frozen=True, slots=True)
class Difference:
    """At `path` the first has `old` and the second `new`; ABSENT on the side that has nothing there."""

    path: str
    old: object
    new: object


def differences(old: object, new: object) -> Iterator[Difference]:
    """In the order of the first document, then what only the second has. Lists are compared index by index."""
    # A stack, because payloads may be nested deeper than Python recurses.
    stack: list[tuple[str, object, object]] = [("", old, new)]
    while stack:
        path, one, other = stack.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [*one, *(key for key in other if key not in one)]
            pairs = [(path + path_step(key), one.get(key, ABSENT), other.get(key, ABSENT)) for key in keys]
        elif isinstance(one, list) and isinstance(other, list):
            indexes = range(max(len(one), len(other)))
            pairs = [(path + path_step(n), _at(one, n), _at(other, n)) for n in indexes]
        else:
            if type(one) is not type(other) or one != other:
                yield Difference(path, one, other)
            continue
        stack.extend(reversed(pairs))


def _at(values: list[object], index: int) -> object:
    return values[index] if index < len(values) else ABSENT
