"""How long a daemon that follows GitHub's delivery log waits between two looks at it. Values in, values out.

Seconds while things come, a minute when not, and twice as long each time in between. Within the budget: listing is spread over
what GitHub's headers leave, so that looks alone never end it; what is left over is for what they find.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from covenq.github.api_client import Usage

FAST_S = 2.0
"""Seconds between two looks while things come."""
COMING_S = 60.0
"""Seconds after the last look that found something, for which things are taken to come."""
WAIT_MAX_S = 3700.0
"""The longest that a budget is waited for: GitHub counts anew each hour."""


@dataclass(frozen=True, slots=True)
class PollInterval:
    """How the looks went: when one last found something new, and the wait before this. Times are of one monotonic clock."""

    found_at: float | None = None
    waited_s: float = FAST_S / 2

    def after(self, *, found: bool, now: float, longest_s: float) -> PollInterval:
        """The interval after a look that ended now, and found something new or not; its `waited_s` is until the next."""
        found_at = now if found else self.found_at
        if found_at is not None and now - found_at <= COMING_S:
            return PollInterval(found_at, min(FAST_S, longest_s))
        return PollInterval(found_at, min(2 * self.waited_s, longest_s))


def affordable_s(usage: Usage, cost: int, now: float) -> float:
    """Seconds to wait between looks of `cost` requests each so that they never take more than is left for covenq; 0: no matter.

    `now` is in seconds since 1970, as the header's time is.
    """
    if usage.remaining is None or usage.reset is None or usage.reset <= now:
        return 0.0
    allowed, left_s = usage.remaining - usage.floor, usage.reset - now
    wait = left_s + 1.0 if allowed < cost else cost * left_s / allowed
    return min(wait, WAIT_MAX_S)


def next_wait_s(
    interval: PollInterval, usages: Iterable[tuple[Usage, int]], now: float, limited_until: float | None
) -> float:
    """Seconds until the next look. `usages` has what is left for each log, and the requests that a look at it takes."""
    waits = [affordable_s(usage, cost, now) for usage, cost in usages]
    told = 0.0 if limited_until is None else min(limited_until - now, WAIT_MAX_S)
    return max(interval.waited_s, told, *waits)
