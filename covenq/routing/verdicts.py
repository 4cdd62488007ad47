"""The verdict of each route on a delivery, term by term, for explanations. `covenq.routing.decide` makes the decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from covenq.config.route import Route
from covenq.filter.explain import Term, explain, node_text
from covenq.filter.grammar import delivery_fields
from covenq.filter.tree import And, Fields, Filter
from covenq.routing.trigger import Facts
from covenq.routing.trigger import terms as trigger_terms

CONTENT_FIELDS = frozenset({"repo", "owner", "sender", "number", "sha", "ref", "label", "word", "payload"})
"""The fields of filters whose content an erasure removes."""


class Verdict(msgspec.Struct, frozen=True):
    """A route's verdict on a delivery. `matches` None: it can't be known, or the rule fails; the terms say which."""

    route: str
    match: str
    matches: bool | None
    terms: list[Term]


def verdicts(
    routes: Sequence[Route],
    row: Mapping[str, object],
    payload: Callable[[], object],
    *,
    now: float,
    lost: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """The verdict of each route. `row` and `payload` as `routing.route` takes them; `now` is the time of the decision.

    `lost` has the fields of filters (`Filter.fields`) that are no longer known of it, and why: their terms can't be evaluated.
    """
    fields = delivery_fields(row, payload=payload)
    facts = Facts(fields)
    found = []
    for route in routes:
        terms = list(_terms(route.filter, fields, now, lost or {}))
        if route.trigger is not None and not any(term.holds is False for term in terms):
            terms += trigger_terms(route.trigger, facts, (lost or {}).get("payload"))
        holds = [term.holds for term in terms]
        matches = False if False in holds else None if None in holds else True
        found.append(Verdict(route.name, route.match, matches, terms))
    return found


def _terms(filter: Filter, fields: Fields, now: float, lost: Mapping[str, str]) -> Iterator[Term]:
    for node in filter.node.nodes:
        alone = Filter(And((node,)))
        gone = sorted(alone.fields() & lost.keys())
        if gone:
            yield Term(node_text(node), None, problem=lost[gone[0]])
        else:
            yield from explain(alone, fields, now=now)
