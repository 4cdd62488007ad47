"""What is told of a delivery log that a daemon follows, for `covenq status` and `covenq doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from covenq.model.status import FollowedLog

OTHERS_NEXT = "Stop it, or give it an App of its own, if it is a covenq that follows this log; else all is well."
GAP_NEXT = "Look at what came about in that time by hand; nothing lists it any more."


def following_troubles(one: FollowedLog) -> Iterator[tuple[str, str]]:
    """A sentence for each thing that keeps deliveries from being taken once and all, and what to do about it."""
    if one.others:
        yield (
            f"something else asks GitHub with the same credentials: {one.others:,} requests in the last 15 minutes that "
            "aren't this daemon's. Two covenqs that follow one log run every task twice",
            OTHERS_NEXT,
        )
    if one.gap is not None:
        yield (
            f"when it was looked at again, GitHub had forgotten what it sent from {one.gap.since[:19]}Z to "
            f"{one.gap.until[:19]}Z, if it sent anything",
            GAP_NEXT,
        )
