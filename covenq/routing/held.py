"""A delivery that is held back, by its record: fetched from GitHub's log, and not routed until an operator says so.

It stays `received` with the reason `held`. No start routes it; `covenq reroute` does, or dismisses it.
"""

from __future__ import annotations

from collections.abc import Mapping

from covenq.model import TOKEN, IgnoredReason, JsonObject, ReceivedReason

HELD = ReceivedReason.HELD.value
"""The reason of the delivery."""

DISMISSED = IgnoredReason.DISMISSED.value
"""The reason of one that an operator had ignored instead."""

SENTENCES = {
    "restored": "GitHub sent it before this journal was restored, and it may have been worked on then.",
    "late": "GitHub had sent it longer ago than [reconcile] max_age when it was fetched.",
}
"""Why, by the word in the record (`data.held`)."""
_ROUTE = "held_route"
"""In the record where it isn't `[reconcile] max_age` that it is too old for, but a route's: its name."""


def held_of(data: Mapping[str, object]) -> str | None:
    """Why a delivery is held back, as a sentence, by the data of its `delivery.received`; None if it isn't."""
    word, route = data.get("held"), data.get(_ROUTE)
    if word == "late" and isinstance(route, str) and TOKEN.match(route):
        return f"GitHub had sent it longer ago than max_age of the route {route} when it was fetched."
    return None if word is None else SENTENCES.get(str(word), "It was held back when it was recorded.")


def late_data(route: str | None) -> JsonObject:
    """What the record says of one that is too old, for the route of that name or by `[reconcile] max_age`."""
    return {"held": "late"} | ({} if route is None else {_ROUTE: route})
