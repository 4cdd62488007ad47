"""The events that routes want, as far as their filters say so by the event alone."""

from __future__ import annotations

from collections.abc import Sequence

from covenq.filter.tree import And, Filter

_EVENT = frozenset({"event"})


def named_events(filters: Sequence[Filter]) -> frozenset[str]:
    """Those that a filter names, and can match. One that names none wants whatever comes."""
    found = set[str]()
    for filter in filters:
        events, _ = filter.split("event")
        found |= {event for event in events or () if may_match(filter, event)}
    return frozenset(found)


def may_match(filter: Filter, event: str) -> bool:
    """Whether a delivery of that event can match, by what the filter says of the event and of nothing else."""
    terms = (Filter(And((node,))) for node in filter.node.nodes)
    return all(one.matches({"event": event}, now=0.0) for one in terms if one.fields() == _EVENT)
