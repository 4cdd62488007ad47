"""The line and column of a key in a TOML file, which the standard library's parser doesn't give, found with that parser.

A file that parses is split into statements: a header, or a key with its whole value, is the fewest lines that parse alone. So
strings and lists of several lines, comments and quoted keys need no grammar here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence

STATEMENT_MAX = 400
"""Lines of one statement. Longer ones are not searched."""
TEXT_MAX = 1 << 20

Step = str | int
"""A key, or an index in a list, from 0."""


def locate(text: str, path: Sequence[Step]) -> tuple[int, int] | None:
    """(line, column), from 1, of the value at `path`, or of what most closely encloses it; None if that is the whole file.

    `text` is TOML that parses.
    """
    return locate_each(text, [path])[0]


def locate_each(text: str, paths: Sequence[Sequence[Step]]) -> list[tuple[int, int] | None]:
    """As `locate`, for each of the paths: the text is split once."""
    if len(text) > TEXT_MAX:
        return [None] * len(paths)
    statements = list(_statements(text))
    return [_locate(statements, path) for path in paths]


def _locate(statements: Sequence[_Statement], path: Sequence[Step]) -> tuple[int, int] | None:
    for end in range(len(path), 0, -1):
        for line, chunk, base, inner in statements:
            found = _in_statement(chunk, base, inner, path[:end])
            if found is not None:
                return line + found[0], found[1]
    return None


def at_end(text: str) -> tuple[int, int]:
    """(line, column), from 1, of the end of the text."""
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


_Statement = tuple[int, str, tuple[Step, ...], "dict[str, object] | None"]


def _statements(text: str) -> Iterator[_Statement]:
    """Each statement: its first line, its text, and the path of its table with its value.

    A header's statement has the path that it opens, and None; any other has the path of the header above it, and its own value.
    """
    base: tuple[Step, ...] = ()
    counts: dict[tuple[Step, ...], int] = {}
    lines = text.replace("\r\n", "\n").split("\n")  # as the parser itself does
    start = 0
    while start < len(lines):
        for end in range(start + 1, min(start + STATEMENT_MAX, len(lines)) + 1):
            chunk = "\n".join(lines[start:end])
            try:
                value = tomllib.loads(chunk)
                break
            except (ValueError, RecursionError):
                continue
        else:
            return
        if chunk.lstrip().startswith("["):
            base = _opened(value, counts)
            yield start + 1, chunk, base, None
        elif value:
            yield start + 1, chunk, base, value
        start = end


def _opened(value: object, counts: dict[tuple[Step, ...], int]) -> tuple[Step, ...]:
    """The path of a header, parsed alone; `counts` is how many tables each list of them has so far."""
    path: tuple[Step, ...] = ()
    while isinstance(value, list | dict) and value:
        if isinstance(value, list):
            counts[path] = counts.get(path, 0) + 1
            value = value[0]
        else:
            ((key, value),) = value.items()
            path = (*path, key)
            if not isinstance(value, list) and path in counts:  # [route.retry]: of the newest [[route]]
                path = (*path, counts[path] - 1)
                continue
        if path in counts and isinstance(value, dict):
            path = (*path, counts[path] - 1)
    return path


def _in_statement(
    chunk: str, base: tuple[Step, ...], inner: dict[str, object] | None, path: Sequence[Step]
) -> tuple[int, int] | None:
    """(lines below the statement's first, column), if the path ends in this statement."""
    if inner is None:
        return (0, _indent(chunk)) if tuple(path) == base else None
    if tuple(path[: len(base)]) != base or len(path) <= len(base):
        return None
    value: object = inner
    for step in path[len(base) :]:
        try:
            value = _member(value, step)
        except LookupError:
            return None
    last = path[-1]
    if len(path) > len(base) + 1 and isinstance(last, str):
        rank = _rank(inner, path[len(base) :])
        places = [found.start(1) for found in re.finditer(rf"(?<![\w-])({re.escape(last)})\s*=", chunk)]
        if rank is not None and len(places) == rank[1]:
            place = places[rank[0]]
            return chunk.count("\n", 0, place), place - (chunk.rfind("\n", 0, place) + 1) + 1
    return 0, _indent(chunk)


def _member(value: object, step: Step) -> object:
    """The value at a key of a table, or at an index of a list. Raises LookupError."""
    if isinstance(value, dict):
        return value[step]
    if isinstance(value, list) and isinstance(step, int):
        return value[step]
    raise KeyError(step)


def _rank(value: object, path: Sequence[Step]) -> tuple[int, int] | None:
    """Which of the tables in a list, of those that have the key at the path's end, the path goes through, and of how many."""
    for place, step in enumerate(path):
        value = _member(value, step)
        if isinstance(value, list) and len(path) == place + 3 and isinstance(path[place + 1], int):
            having = [i for i, one in enumerate(value) if isinstance(one, dict) and path[-1] in one]
            return having.index(int(path[place + 1])), len(having)
        if isinstance(value, dict) and len(path) == place + 2:
            return 0, 1
    return None


def _indent(chunk: str) -> int:
    return len(chunk) - len(chunk.lstrip()) + 1
