"""Why a task that failed is not tried again, in a few words: what its policy, its retries and its last attempt say of that.

It follows `covenq.tasks.scheduling.outcome.ending_after`, which decided so; of what can't be told from the rows nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from covenq.model import Category, State
from covenq.model.rows import Attempt, Task
from covenq.tasks.scheduling.interruption import INTERRUPTIONS_MAX
from covenq.tasks.scheduling.outcome import Policy, is_retried, is_retried_status

_CATEGORIES = frozenset(one.value for one in Category)
"""Those that this version knows: a record may hold others."""


def why_not_retried(task: Task, attempts: Sequence[Attempt]) -> str | None:
    """None for a task that didn't fail, and where it is not known."""
    if task.state != State.FAILED:
        return None
    last = attempts[-1] if attempts else None
    category, retry = task.category, Policy.from_record(task.policy or {}).retry
    if category == Category.POLICY:
        return "what was refused by policy is not tried again"
    if category in (Category.INTERRUPTED, Category.LEASE_LOST) and task.interruptions >= INTERRUPTIONS_MAX:
        return "it was interrupted too often"
    if last is not None and last.http_status is not None and not is_retried_status(last.http_status):
        return f"a {last.http_status} is not tried again"
    if retry.max <= 0:
        return "its route has no retry"
    if category in _CATEGORIES and not is_retried(retry, Category(category)):
        return f"its route retries only after {', '.join(retry.on or ()) or 'nothing'}"
    if task.retries >= retry.max:
        return "its one retry is used" if retry.max == 1 else f"all {retry.max} retries are used"
    if category == Category.TOKEN:
        return "GitHub would refuse the token again"
    return "its worker said that another attempt is useless" if task.kind == "pull" else None
