"""When what is missing will be fetched at GitHub's limit, and what of it GitHub forgets before.

A window of GitHub's limit lets so many requests be made; each pass in it first lists, then fetches one delivery a request. The
forecast promises less rather than more: what others leave is half of the limit at most, a pass is as late as it may be, and
nothing is gained by a window that is renewed while a pass goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WINDOW_S = 3600.0
"""Of GitHub's primary limit."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Requests that may still be made before `reset` (seconds since 1970), and in each window after it.

    A pass makes `lists` of them before it fetches anything, and is made `every_s` after it could be, at the latest. A request
    takes `request_s`.
    """

    usable: int
    per_window: int
    reset: float
    lists: int
    request_s: float
    every_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """`done_at`: when the last one that can be fetched is; None where none can. `waits`: for a new window of the limit.

    `too_late` can't be fetched before GitHub forgets them, which begins at `too_late_from`.
    """

    done_at: float | None
    waits: bool
    too_late: int
    too_late_from: float | None


def forecast(missing: Iterable[tuple[float, int]], budget: Budget, now: float) -> Forecast:
    """The forecast for what is missing: when GitHub forgets it, in seconds since 1970, and how many deliveries that is.

    It is in the order in which it is fetched.
    """
    turns = _turns(budget, now)
    at, room = next(turns)
    number, late = 0, 0
    late_from: float | None = None
    done: tuple[float, bool] | None = None
    for forgotten_at, count in missing:
        left = count
        while left > 0 and at < forgotten_at:
            if room == 0:
                at, room = next(turns)
                number += 1
                continue
            fits = min(left, room, _within(forgotten_at - at, budget.request_s, left))
            if fits == 0:
                break
            at, room, left = at + fits * budget.request_s, room - fits, left - fits
            done = at, number > 0
        if left > 0:
            late += left
            late_from = forgotten_at if late_from is None else min(late_from, forgotten_at)
    return Forecast(None if done is None else done[0], done is not None and done[1], late, late_from)


def _within(seconds: float, request_s: float, most: int) -> int:
    """How many requests end within that time."""
    if seconds <= 0.0:
        return 0
    return most if seconds >= most * request_s else int(seconds / request_s)


def _turns(budget: Budget, now: float) -> Iterator[tuple[float, int]]:
    """When passes may fetch, and how many deliveries each: the first in what is left of this window, the others in one each."""
    at, listed_s = now + budget.every_s, budget.lists * budget.request_s
    if now < budget.reset:  # what isn't used until then is lost
        room = _within(budget.reset - at, budget.request_s, min(budget.usable, budget.per_window))
        yield at + listed_s, max(0, room - budget.lists)
        at = budget.reset + budget.every_s
    room = max(0, budget.per_window - budget.lists)
    while True:
        yield at + listed_s, room
        at += max(WINDOW_S, listed_s + room * budget.request_s) + budget.every_s
