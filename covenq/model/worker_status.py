"""What runs in a daemon's own pool of workers, as its status tells it."""

from __future__ import annotations

from msgspec import Struct

from covenq.model.rows import Count, Time


class WorkerAttempt(Struct):
    """An attempt of the daemon's own pool."""

    task: str
    attempt: Count
    route: str | None
    since: Time


class WorkerStatus(Struct):
    """The daemon's own pool of workers."""

    id: str
    concurrency: Count
    running: list[WorkerAttempt]
    error: str | None
    waits: str | None = None
    """Why it starts fewer than `concurrency`, or none: what the daemon is short of. None while it isn't."""
    on_standby: bool = False
    """Whether it runs tasks for the node that leads while this one stands by."""
    standby_problem: str | None = None
    """Why it does not; None while it does, or has not to."""
