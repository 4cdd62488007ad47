"""Whether a filter matches a row of which only some fields are known: yes, no, or it depends on the others (Kleene's logic).

A yes or a no holds whatever the others turn out to be, so more knowledge never changes it. None is said of each term whose field
isn't known, also where terms together would tell (`repo:a -repo:a`): an answer may be less certain than it could be, never wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from covenq.filter.tree import Age, And, Filter, InRange, Match, Node, Not, Payload, Word


class AtLeast(NamedTuple):
    """Some of a field's values, where it may have others."""

    values: tuple[object, ...]


def surely_matches(filter: Filter, known: Mapping[str, object], *, now: float) -> bool | None:
    """True: it matches; False: it doesn't; None: that depends on fields that aren't known.

    `known` has the fields as `Filter.matches` takes them, each with all of its values or AtLeast some of them: None is a field
    that is known to have none, and a field that isn't there is unknown.
    """
    return _value(filter.node, known, now)


def _value(node: Node, known: Mapping[str, object], now: float) -> bool | None:
    match node:
        case And(nodes):
            parts = [_value(inner, known, now) for inner in nodes]
            return False if False in parts else None if None in parts else True
        case Not(inner):
            part = _value(inner, known, now)
            return None if part is None else not part
    field = _field(node)
    if field not in known:
        return None
    found = known[field]
    values = found.values if isinstance(found, AtLeast) else found
    holds = Filter(And((node,))).matches({field: values}, now=now)
    # A term holds if any value of the field does: others that it may have take nothing away.
    return None if isinstance(found, AtLeast) and not holds else holds


def _field(node: Match | InRange | Age | Word | Payload) -> str:
    match node:
        case Match(field) | InRange(field):
            return field
        case Age():
            return "at"
        case Word():
            return "words"
        case Payload():
            return "payload"
