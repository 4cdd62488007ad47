"""What today's routes make of a delivery, told rule by rule and term by term. Decides nothing: `covenq.routing.decide` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from covenq.config.route import Route
from covenq.filter.explain import Term, explain, node_text
from covenq.filter.grammar import delivery_fields
from covenq.filter.tree import And, Filter
from covenq.model import JsonObject

CONTENT_FIELDS = frozenset({"repo", "owner", "sender", "number", "sha", "label", "word", "payload"})
"""What a filter asks for that an erasure takes away."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule on a delivery. `matches` None: it can't be told, or the rule fails; the terms say which."""

    route: str
    match: str
    matches: bool | None
    terms: tuple[Term, ...]

    def object(self) -> JsonObject:
        """{"route", "match", "matches", "terms": [{"term", "holds", "seen", "problem"}…]}."""
        return {
            "route": self.route,
            "match": self.match,
            "matches": self.matches,
            "terms": [term.object() for term in self.terms],
        }


def verdicts(
    routes: Sequence[Route],
    row: Mapping[str, Any],
    payload: Callable[[], Any],
    *,
    now: float,
    lost: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Each route on the delivery. `row` and `payload` as `routing.route` takes them; `now` is when it is decided.

    `lost` are fields of filters (`Filter.fields`) that are no longer known of it, and why: their terms can't be told.
    """
    fields = delivery_fields(row, payload=payload)
    found = []
    for route in routes:
        terms = tuple(_terms(route.filter, fields, now, lost or {}))
        holds = [term.holds for term in terms]
        matches = False if False in holds else None if None in holds else True
        found.append(Verdict(route.name, route.match, matches, terms))
    return found


def _terms(filter: Filter, fields: Mapping[str, Any], now: float, lost: Mapping[str, str]) -> Iterator[Term]:
    for node in filter.node.nodes:
        alone = Filter(And((node,)))
        gone = sorted(alone.fields() & lost.keys())
        if gone:
            yield Term(node_text(node), None, problem=lost[gone[0]])
        else:
            yield from explain(alone, fields, now=now)
