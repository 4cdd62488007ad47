"""Why a filter matches a row or doesn't: each of its terms, written in the grammar, and the values it looked at."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from covenq.filter.tree import Age, And, Fields, Filter, InRange, Match, Node, Not, Pattern, Payload, Word, values_at

SEEN_MAX = 5
"""Values reported for one term."""
VALUE_MAX = 80
"""Characters of each."""

_SPECIAL = set('",*:<>\\')
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"), (0.001, "ms"))


class Term(msgspec.Struct, frozen=True, rename={"text": "term"}):
    """One term of a filter: whether it holds of a row, and the values it looked at. `problem`: why it can't be evaluated."""

    text: str
    holds: bool | None
    seen: list[str] = []
    problem: str | None = None


def explain(filter: Filter, fields: Fields, *, now: float) -> list[Term]:
    """Each term of the filter on `fields` (as `Filter.matches` takes them). The filter matches where all of them hold."""
    return [_term(node, fields, now) for node in filter.node.nodes]


def _term(node: Node, fields: Fields, now: float) -> Term:
    text = node_text(node)
    try:
        holds = Filter(And((node,))).matches(fields, now=now)
        seen: list[str] = []
        for value in _values(node, fields):
            if len(seen) == SEEN_MAX:
                seen.append("…")
                break
            seen.append(value if len(value) <= VALUE_MAX else value[: VALUE_MAX - 1] + "…")
    except Exception as error:  # noqa: BLE001 - as in routing: whatever a rule raises is reported
        return Term(text, None, problem=f"it fails with {type(error).__name__}")
    return Term(text, holds, seen)


def _values(node: Node, fields: Fields) -> Iterator[str]:
    match node:
        case Not(inner):
            yield from _values(inner, fields)
        case And(nodes):
            for inner in nodes:
                yield from _values(inner, fields)
        case Match(field) | InRange(field):
            yield from _texts(fields.get(field))
        case Age():
            yield from _texts(fields.get("at"))
        case Word():
            yield from _texts(fields.get("words"))
        case Payload(path):
            body = fields.get("payload")
            for value in values_at(body() if callable(body) else body, path):
                yield "an object" if value is None else value


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif value is not None:
        yield str(value)


# ---- a node, written in the grammar


def node_text(node: Node) -> str:
    """The term as it can be typed. Parsed again, it gives the same node."""
    match node:
        case Not(And(nodes)):
            return f"not ({' '.join(map(node_text, nodes))})"  # a tree that the grammar can't write
        case Not(inner):
            return f"-{node_text(inner)}"
        case And(nodes):
            return " ".join(map(node_text, nodes))
        case Match(field, patterns):
            return f"{field}:{','.join(map(_pattern, patterns))}"
        case Payload(path, patterns):
            return f"payload.{'.'.join(path)}:{','.join(map(_pattern, patterns))}"
        case InRange(field, ranges):
            (low, high), *_ = ranges
            if low is None and high is not None and high < 0:
                return f"{field}<{high + 1}"
            return f"{field}:{','.join(_range(low, high) for low, high in ranges)}"
        case Age(op, ago, at):
            if at is not None:
                return f"{'since' if op == '>=' else 'before'}:{at}"
            flipped = {">": "<", ">=": "<=", "<": ">", "<=": ">="}[op]
            return f"age{flipped}{_duration(ago or 0.0)}"
        case Word(pattern):
            return _word(pattern)


def quoted(text: str) -> str:
    """A value as it can be typed."""
    if text and not _SPECIAL & set(text) and not any(c.isspace() for c in text) and not text.startswith(("-", "=")):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pattern(pattern: Pattern) -> str:
    if pattern.literal is not None:
        return quoted(pattern.literal)
    return "*".join(quoted(chunk) if chunk else "" for chunk in pattern.chunks)


def _word(pattern: Pattern) -> str:
    inner = pattern.chunks[1:-1]
    return "*".join(quoted(chunk) for chunk in inner) if inner else '""'


def _range(low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return "*"
    if low == high:
        return str(low)
    return f"{'' if low is None else low}..{'' if high is None else high}"


def _duration(seconds: float) -> str:
    """In the largest unit that gives a whole number."""
    for size, unit in _UNITS:
        number = seconds / size
        if number >= 1 and abs(number - round(number)) < 1e-9:
            return f"{round(number)}{unit}"
    return f"{round(seconds * 1000)}ms"
