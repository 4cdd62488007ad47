"""A delivery that is held back, by its record: fetched from GitHub's log, and not routed until an operator says so.

It stays `received` with the reason `held`. No start routes it; `covenq reroute` does, or dismisses it.
"""

from __future__ import annotations

from collections.abc import Mapping

HELD = "held"
"""The reason of the delivery."""

DISMISSED = "dismissed"
"""The reason of one that an operator had ignored instead."""

SENTENCES = {
    "restored": "GitHub sent it before this journal was restored, and it may have been worked on then.",
    "late": "GitHub had sent it longer ago than [reconcile] max_age when it was fetched.",
}
"""Why, by the word in the record."""


def held_of(data: Mapping[str, object]) -> str | None:
    """Why a delivery is held back, as a sentence, by the data of its `delivery.received`; None if it isn't."""
    word = data.get("held")
    return None if word is None else SENTENCES.get(str(word), "It was held back when it was recorded.")
