"""A delivery log that a daemon follows, as the status has it, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from covenq.model.rows import Count, Time

OTHERS_NEXT = "Stop it, or give it an App of its own, if it is a covenq that follows this log; else all is well."
GAP_NEXT = "Look at what came about in that time by hand; nothing lists it any more."


class LogGap(Struct):
    """A time of which GitHub had forgotten all when its log was next looked at: what it sent then, if anything, can't be had."""

    since: Time
    until: Time


class FollowedLog(Struct):
    """How a daemon follows a log out of which deliveries come and by nothing else."""

    next_at: Time | None
    """When it looks next; null before the first look."""
    behind: Count
    """Deliveries that GitHub lists, and that are still to be fetched."""
    owner: str | None = None
    """Which covenq of this machine follows the log, so that this one doesn't."""
    others: Count = 0
    """Requests of the last 15 minutes with the same credentials that weren't this daemon's, where they come steadily."""
    gap: LogGap | None = None


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
