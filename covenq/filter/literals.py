"""The values that a filter names in full: what a mistyped one is found among."""

from __future__ import annotations

from collections.abc import Iterator

from covenq.filter.tree import Filter, Match, leaves


def literals(filter: Filter) -> Iterator[tuple[str, str]]:
    """(field, value) for each value of a field of text without a star, of negated terms too, as they were typed."""
    for leaf in leaves(filter.node):
        if isinstance(leaf, Match):
            yield from ((leaf.field, one.literal) for one in leaf.patterns if one.literal is not None)
