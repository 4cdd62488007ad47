"""What is told of a route's work in a span of time: how much came, how it ended, and how long it waited and ran.

It serves one decision: which route to look at first. The Overview, `covenq stats` and the API have the same values from here.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from covenq.model import Category
from covenq.model.rows import Count
from covenq.model.waiting import TONES, WaitingTasks
from covenq.text import latency


class Times(Struct):
    """How long something took, of so many: in half of them at most `p50_s` seconds, in 19 of 20 at most `p95_s`."""

    count: Count
    p50_s: float
    p95_s: float


class RouteTimes(Struct):
    """What became of attempts: how many completed and failed, and why those that failed did; the others run, or were ended.

    `waited` is from when a task was queued to the start of its first attempt, `ran` from an attempt's start to its end; null
    where there was none.
    """

    attempts: Count = 0
    completed: Count = 0
    failed: Count = 0
    categories: dict[str, Count] = field(default_factory=dict)
    """Of those that failed."""
    waited: Times | None = None
    ran: Times | None = None

    @property
    def ok(self) -> float | None:
        """The share of the attempts that completed or failed which completed, None while there is none."""
        ended = self.completed + self.failed
        return self.completed / ended if ended else None


NO_TIMES = RouteTimes()
FAILS_MIN, FAILS_SHARE = 5, 0.5
"""A route fails, as the alert CovenqRouteFails has it, where so many attempts failed, and more than this share of all."""


class RouteMinutes(Struct):
    """A route in the last minutes: the tasks made in each, oldest first; what waits now; and the attempts begun in them.

    `times` is of the attempts that were read, null where there was none.
    """

    name: str | None
    tasks: list[Count]
    queued: Count = 0
    times: RouteTimes | None = None


def share_text(ok: float | None) -> str:
    """The share of attempts that completed, as `98%`; rounded down, so that 100% says that none failed. Empty without any."""
    if ok is None:
        return ""
    return "<1%" if 0 < ok < 0.01 else f"{int(ok * 100)}%"


def times_text(times: Times | None) -> tuple[str, str]:
    """The median and the 95th percentile."""
    return ("", "") if times is None else (latency(times.p50_s), latency(times.p95_s))


def categories_text(categories: dict[str, int]) -> str:
    """Why attempts failed, the most frequent first: `timeout ×12, exit ×3`, so that no number is taken for an exit code."""
    ordered = sorted(categories.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{category} ×{number:,}" for category, number in ordered)


def fails(one: RouteMinutes) -> bool:
    """Whether most of its attempts fail. What a restart of the daemon does to what runs doesn't count."""
    times = one.times or NO_TIMES
    failed = times.failed - times.categories.get(Category.INTERRUPTED, 0)
    return failed >= FAILS_MIN and failed > FAILS_SHARE * (times.completed + times.failed)


def failing(routes: Iterable[RouteMinutes], waiting: Iterable[WaitingTasks]) -> list[RouteMinutes]:
    """The routes that fail, but for those of which a line of what waits says that their receiver does."""
    told = {one.scope for one in waiting if TONES.get(one.cause) == "bad"}
    return [one for one in routes if fails(one) and f"route {one.name}" not in told]


def failing_text(one: RouteMinutes, *, sampled: bool = False) -> str:
    """How many of its attempts failed, and why, as a sentence."""
    times = one.times or NO_TIMES
    what = "attempts of a sample" if sampled else "attempts"
    of, why = times.completed + times.failed, categories_text(times.categories)
    return f"{times.failed:,} of {of:,} {what} of the last hour failed: {why}"
