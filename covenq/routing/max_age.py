"""`max_age`: which deliveries are too old to be routed when they are fetched, by the limits of the routes that want them.

A delivery is routed once, so one that is too old for any route that matches it is held back whole (`covenq.routing.held`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from covenq.config.route import Route
from covenq.routing.decide import PING, Decision


class TooOld(NamedTuple):
    """The limit that a delivery is over: of the route of that name, or of `[reconcile]`, where it is None."""

    route: str | None


def too_old(decision: Decision, routes: Sequence[Route], max_age_s: float | None, age_s: float) -> TooOld | None:
    """The limit that a delivery is over which was sent so long ago, by the decision about it; None: it may be routed.

    A route's `max_age` takes the place of `[reconcile] max_age` for that route; the latter is also for what no route matches.
    Where a rule failed, any route may match, and each counts. A ping is never too old.
    """
    if decision.reason == PING:
        return None
    wanting: Sequence[Route] = routes
    if decision.problem is None:
        names = {entry.data.get("route") for entry in decision.entries}
        wanting = [route for route in routes if route.name in names]
    if not wanting:
        return TooOld(None) if is_over(None, max_age_s, age_s) else None
    for route in wanting:
        if is_over(route, max_age_s, age_s):
            return TooOld(None if route.max_age_s is None else route.name)
    return None


def is_over(route: Route | None, max_age_s: float | None, age_s: float) -> bool:
    """Whether a delivery of that age is too old for a route, or for `[reconcile] max_age` alone."""
    limit = max_age_s if route is None or route.max_age_s is None else route.max_age_s
    return limit is not None and age_s > limit
