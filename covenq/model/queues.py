"""Who takes a queued task: the daemon's pool, a worker elsewhere, or the daemon itself for an operator's act."""

from __future__ import annotations

ACT = "act"
"""The kind of a task that is an operator's act, and the key of its policy that says which."""

POOL_QUEUE, PULL_QUEUE, ACT_QUEUE = 0, 1, 2
"""As the column `pull` of a task has it."""


def queue_of(kind: object) -> int:
    """The queue of a task of that kind. One that isn't known is the pool's, which says what is wrong with it."""
    return PULL_QUEUE if kind == "pull" else ACT_QUEUE if kind == ACT else POOL_QUEUE
