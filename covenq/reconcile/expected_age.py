"""Whether `max_age` will hold a missing delivery back, as far as GitHub's list tells which routes want it.

What is held back is decided when its detail is there (`covenq.routing.max_age`). Before, it can be told where the answer is the
same whatever the delivery holds; but for a rule that fails on it, for then each limit counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from covenq.config.route import Route
from covenq.reconcile.wanted import Listed, known_fields, matches
from covenq.routing.decide import PING
from covenq.routing.max_age import is_over


def is_too_old(
    one: Listed, age_s: float, routes: Sequence[Route], max_age_s: float | None, *, now: float
) -> bool | None:
    """True: it will be held back for its age; False: it won't; None: only the delivery itself tells.

    `age_s` is how long ago GitHub first sent it, at `now`; `max_age_s` is that of `[reconcile]`.
    """
    if one.event == PING:
        return False
    by_itself = is_over(None, max_age_s, age_s)
    if all(is_over(route, max_age_s, age_s) == by_itself for route in routes):
        return by_itself
    known = known_fields(one)
    found = [(matches(route, one.event, known, now), is_over(route, max_age_s, age_s)) for route in routes]
    if (True, True) in found:
        return True
    answers = {over for match, over in found if match is not False}
    if not any(match for match, _ in found):
        answers.add(by_itself)
    return answers.pop() if len(answers) == 1 else None
