"""The values that a filter names in full: what a mistyped one is found among."""

from __future__ import annotations

from collections.abc import Iterator

from covenq.filter.tree import And, Filter, Match, Node, Not


def literals(filter: Filter) -> Iterator[tuple[str, str]]:
    """(field, value) for each value of a field of text without a star, of negated terms too, as they were typed."""
    yield from _literals(filter.node)


def _literals(node: Node) -> Iterator[tuple[str, str]]:
    match node:
        case And(nodes):
            for one in nodes:
                yield from _literals(one)
        case Not(inner):
            yield from _literals(inner)
        case Match(field, patterns):
            yield from ((field, one.literal) for one in patterns if one.literal is not None)
