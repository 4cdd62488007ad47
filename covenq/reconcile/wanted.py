"""Whether routes want a delivery of which only what GitHub's list says is known: surely, surely not, or perhaps.

The list has the event, the action and the numbers of installation and repository; what a route asks beyond these, only the
delivery itself tells. So "surely not" is said where no route can match whatever it holds, and only then isn't it worth a request.
What the list has no value for is taken as not said: that the delivery has none either, GitHub doesn't promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from covenq.config.route import Route
from covenq.filter.three_valued import AtLeast, surely_matches
from covenq.reconcile.compare import Absent
from covenq.routing.decide import PING


class Listed(Protocol):
    """A delivery, as GitHub's list says it."""

    @property
    def hook(self) -> str | None: ...
    @property
    def guid(self) -> str: ...
    @property
    def event(self) -> str: ...
    @property
    def action(self) -> str | None: ...
    @property
    def installation(self) -> int | None: ...
    @property
    def repo_id(self) -> int | None: ...


def wanted_by(
    fetch: str, routes: Sequence[Route], now: float, source: str | None = "import"
) -> Callable[[Absent], bool]:
    """Whether a delivery is worth a request, by `[reconcile] fetch`: with "routed" it isn't where no route can match it.

    `source` is what it will be held with; None: that isn't known, since it may come again or be fetched.
    """
    if fetch == "all":
        return lambda one: True
    return lambda one: surely_wanted(one, routes, now=now, source=source) is not False


def superseding_by(routes: Sequence[Route], now: float) -> Callable[[Absent], bool]:
    """Whether a route that supersedes may match a delivery, whichever way it comes."""
    superseding = [route for route in routes if route.scheduling.supersede != "never"]
    return lambda one: any(
        matches(route, one.event, known_fields(one, None), now) is not False for route in superseding
    )


def surely_wanted(one: Listed, routes: Iterable[Route], *, now: float, source: str | None = "import") -> bool | None:
    """True: some route matches it; False: none does, so it would be ignored; None: only the delivery itself tells."""
    if one.event == PING:
        return False
    known = known_fields(one, source)
    values = {matches(route, one.event, known, now) for route in routes}
    return True if True in values else None if None in values else False


def known_fields(one: Listed, source: str | None = "import") -> Mapping[str, object]:
    """The fields that a filter can ask of it, once it is held, as far as the list tells."""
    known: dict[str, object] = {"guid": one.guid, "event": one.event}
    action = one.action if one.action and one.action.isprintable() else None  # no other is a column
    said = {
        "source": source,
        "hook": one.hook,
        "action": action,
        "installation": one.installation,
        "repo_id": one.repo_id,
    }
    known |= {name: value for name, value in said.items() if value is not None}
    if one.hook is None:
        known["id"] = AtLeast((one.guid,))
    else:
        known["id"] = [one.guid, f"{one.hook}/{one.guid}"]
        known["words"] = AtLeast((f"{one.hook}/{one.guid}",))
    return known


def matches(route: Route, event: str, known: Mapping[str, object], now: float) -> bool | None:
    """True: the route matches what is known of a delivery; False: it doesn't; None: only the delivery itself tells."""
    if route.events is not None and event not in route.events:
        return False
    found = surely_matches(route.condition, known, now=now)
    return None if found and route.trigger is not None else found
