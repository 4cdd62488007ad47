"""The syntax tree of a filter, and the predicate. `covenq.filter.grammar` parses to the tree, `covenq.filter.sql` compiles it.

A field of a row has no value, one, or several (a delivery has the route of each of its tasks). A term holds if any of the
values matches any of the patterns. So it doesn't hold if there is no value, and its negation does. No result is "unknown": a
filter and its negation divide every set in two.

The nodes are Structs: nearly every command parses a filter, and a dataclass takes five times as long to define.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct

from covenq.model import at_text

DIGITS_MAX = 18
"""Of a number in a filter or a path: it fits SQLite's integers."""

_UPPER = {ord(a): a.lower() for a in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


CASELESS = frozenset({"repo", "owner", "sender", "label"})
"""Fields of names that GitHub takes for the same in either case. So a denial of one holds however the payload spells it."""


def fold_case(text: str) -> str:
    """Lower case for ASCII letters only, as SQLite's LIKE and NOCASE compare them.

    Names of accounts and repositories have no others; other letters of a label are told apart by case.
    """
    return text.lower() if text.isascii() else text.translate(_UPPER)


def comparable(text: str) -> str:
    """Text as a column holds it: NUL, where C code would stop reading, is replaced by U+FFFD."""
    return text.replace("\0", "\ufffd")


Fields = Mapping[str, object]
"""The fields of a row by their names (`covenq.filter.fields`): a text, an integer, None, or a list of such; `payload` is the
decoded body, or a callable that gives it."""


class Pattern(Struct, frozen=True):
    """Literal chunks with any text between them: `a*b` is ("a", "b"), `ab` is ("ab",), `*` is ("", "")."""

    chunks: tuple[str, ...]

    @property
    def literal(self) -> str | None:
        """The text, if the pattern has no star."""
        return self.chunks[0] if len(self.chunks) == 1 else None

    @property
    def any(self) -> bool:
        """Only stars: it matches any value, but there must be one."""
        return len(self.chunks) > 1 and not "".join(self.chunks)

    def matches(self, text: str) -> bool:
        if len(self.chunks) == 1:
            return text == self.chunks[0]
        first, *middle, last = self.chunks
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        # The leftmost place for each chunk leaves most room for the next: no backtracking, whatever the stars.
        at, end = len(first), len(text) - len(last)
        for chunk in middle:
            found = text.find(chunk, at, end)
            if found < 0:
                return False
            at = found + len(chunk)
        return True


@lru_cache(4096)
def fold_pattern(pattern: Pattern) -> Pattern:
    """The pattern for text in lower case (`fold_case`). The node of a filter keeps the spelling that was typed."""
    return Pattern(tuple(fold_case(chunk) for chunk in pattern.chunks))


class Match(Struct, frozen=True):
    """A field of text matches any of the patterns, in either case if it is one of CASELESS."""

    field: str
    patterns: tuple[Pattern, ...]


class InRange(Struct, frozen=True):
    """A field of integers is in any of the ranges, both ends included; (None, None) is any number."""

    field: str
    ranges: tuple[tuple[int | None, int | None], ...]


class Age(Struct, frozen=True):
    """The time of arrival, compared with a moment: `ago` seconds before now, or `at`. `op` compares times: `>` is later."""

    op: str
    ago: float | None
    at: str | None

    def moment(self, now: float) -> str:
        """The moment as RFC 3339 text, which sorts as the times it stands for do."""
        return self.at if self.at is not None else at_text(max(0.0, now - (self.ago or 0.0)))


class Word(Struct, frozen=True):
    """A bare word: part of the repository, the title or an id, ASCII letters in either case."""

    pattern: Pattern


class Payload(Struct, frozen=True):
    """A value at a path in the body matches any of the patterns."""

    path: tuple[str, ...]
    patterns: tuple[Pattern, ...]


class Not(Struct, frozen=True):
    node: Node


class And(Struct, frozen=True):
    nodes: tuple[Node, ...]


Leaf = Match | InRange | Age | Word | Payload
Node = Leaf | Not | And


class Filter(Struct, frozen=True):
    """A parsed filter. An empty one matches everything."""

    node: And
    text: str = ""

    def matches(self, fields: Fields, *, now: float | None = None) -> bool:
        """Whether a row matches. `fields` as `delivery_fields` and `task_fields` make them.

        `now`, in seconds since 1970, is what ages are counted from; the clock's unless given.
        """
        return _holds(self.node, fields, time.time() if now is None else now)

    def fields(self) -> frozenset[str]:
        """The names it uses: fields, `payload`, and `word` for bare words. For callers that can't offer all."""
        return frozenset(map(_name, leaves(self.node)))

    def split(self, field: str) -> tuple[frozenset[str] | None, Filter]:
        """(texts, rest): the filter matches where `field`, of one value, is one of `texts` and `rest` matches.

        `texts` is None, and `rest` the filter itself, where it has no term that lists them.
        """
        for node in self.node.nodes:
            if isinstance(node, Match) and node.field == field and field not in CASELESS:
                texts = [pattern.literal for pattern in node.patterns]
                if None not in texts:
                    rest = tuple(one for one in self.node.nodes if one is not node)
                    return frozenset(text for text in texts if text is not None), Filter(And(rest), self.text)
        return None, self

    @property
    def needs_payload(self) -> bool:
        return "payload" in self.fields()

    def __str__(self) -> str:
        return self.text


def leaves(node: Node) -> Iterator[Leaf]:
    """The terms of a tree, also those that are negated, in their order."""
    match node:
        case And(nodes):
            for inner in nodes:
                yield from leaves(inner)
        case Not(inner):
            yield from leaves(inner)
        case _:
            yield node


def _name(leaf: Leaf) -> str:
    match leaf:
        case Match(field) | InRange(field):
            return field
        case Age():
            return "age"
        case Word():
            return "word"
        case Payload():
            return "payload"


# ---- the predicate


def _holds(node: Node, fields: Fields, now: float) -> bool:
    match node:
        case And(nodes):
            return all(_holds(inner, fields, now) for inner in nodes)
        case Not(inner):
            return not _holds(inner, fields, now)
        case Match(field, patterns) if field in CASELESS:
            folded = [fold_pattern(pattern) for pattern in patterns]
            return any(p.matches(text) for text in map(fold_case, _texts(fields.get(field))) for p in folded)
        case Match(field, patterns):
            return any(p.matches(text) for text in _texts(fields.get(field)) for p in patterns)
        case InRange(field, ranges):
            return any(
                (low is None or low <= value) and (high is None or value <= high)
                for value in _integers(fields.get(field))
                for low, high in ranges
            )
        case Age():
            at = fields.get("at")
            return isinstance(at, str) and _compare(node.op, at, node.moment(now))
        case Word(pattern):
            return any(pattern.matches(fold_case(text)) for text in _texts(fields.get("words")))
        case Payload(path, patterns):
            body = fields.get("payload")
            values = values_at(body() if callable(body) else body, path)
            return any(p.any if value is None else p.matches(value) for value in values for p in patterns)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield comparable(value)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one)
    elif value is not None:
        yield str(value)


def _integers(value: object) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _integers(one)


def _compare(op: str, at: str, moment: str) -> bool:
    match op:
        case ">":
            return at > moment
        case ">=":
            return at >= moment
        case "<":
            return at < moment
        case _:
            return at <= moment


def values_at(body: object, path: Sequence[str]) -> Iterator[str | None]:
    """The values at `path`, as text; None is an object, which exists and equals no text. JSON null is absent.

    A stack and no recursion: the lists of a payload may be nested deeper than Python recurses.
    """
    stack: list[tuple[object, int]] = [(body, 0)]
    while stack:
        value, at = stack.pop()
        if isinstance(value, list):
            if at < len(path) and path[at].isdecimal() and path[at].isascii() and len(path[at]) <= DIGITS_MAX:
                if int(path[at]) < len(value):
                    stack.append((value[int(path[at])], at + 1))
            else:
                stack.extend((element, at) for element in reversed(value))
        elif at < len(path):
            if isinstance(value, dict) and path[at] in value:
                stack.append((value[path[at]], at + 1))
        elif isinstance(value, dict):
            yield None
        elif isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, str):
            yield comparable(value)
        elif value is not None:
            yield str(value)
