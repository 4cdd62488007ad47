"""Requests that others make with the same credentials, as far as GitHub's counts show them: it says how many are left to all.

What falls faster than was asked here is somebody else's: another covenq that follows the same log, this machine's own commands
(`covenq doctor`), or a program that has nothing to do with covenq. So only what goes on steadily is told, as following does, and
as what it is: requests that aren't this daemon's.

GitHub counts on many machines, and a count may be a little behind: what was too much at one look is too little at the next, so
the differences are summed with their signs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from covenq.github.api_client import WINDOW_S, Usage

SPAN_MIN = 15
"""Minutes that are looked back."""
STEADY_MIN = 10
"""Minutes of them with requests of others, and requests, from which they are steady: who follows a log asks once a minute."""
_SHARE = 0.5
"""What a minute has at least to count, of what is spread over several."""


@dataclass(slots=True)
class OtherRequests:
    """Those of one log's credentials. `note` after each look, from one thread."""

    _by_minute: dict[int, float] = field(default_factory=dict)
    _before: tuple[float, int, int, float] | None = None

    def note(self, usage: Usage, asked: int, now: float) -> None:
        """Take the newest counts; `asked` is what was asked here so far with these credentials. Times are seconds since 1970."""
        if usage.remaining is None or usage.reset is None:
            return
        before, self._before = self._before, (now, asked, usage.remaining, usage.reset)
        if before is None or usage.reset > before[3] + WINDOW_S or now < before[0]:
            return
        others = (before[2] - usage.remaining) - (asked - before[1])
        minutes = range(max(int(before[0] // 60) + 1, int(now // 60) - SPAN_MIN), int(now // 60) + 1) or [
            int(now // 60)
        ]
        for minute in minutes:
            self._by_minute[minute] = self._by_minute.get(minute, 0.0) + others / len(minutes)
        for minute in [one for one in self._by_minute if one <= now // 60 - SPAN_MIN]:
            del self._by_minute[minute]

    def steady(self, now: float) -> int:
        """How many there were in the last SPAN_MIN minutes, where they came in most of them; else 0. From any thread."""
        known = list(self._by_minute.items())
        recent: Mapping[int, float] = {minute: number for minute, number in known if now // 60 - SPAN_MIN < minute}
        total = round(sum(recent.values()))
        busy = sum(number >= _SHARE for number in recent.values())
        return total if busy >= STEADY_MIN and total >= STEADY_MIN else 0
