"""When the leases of claims run out, and what that makes of their tasks.

Leases run by the monotonic clock. The wall clock's time in the record is what one is counted from when this process first
sees it and did not grant it itself; after that, setting the clock ends no lease early and lets none live for ever.

A lease that runs out is nobody's failure: the task is queued again, and only the third time left to a person, since the task
may be what kills its workers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from covenq.errors import UsageError
from covenq.model import seconds_of
from covenq.tasks.scheduling.outcome import Task

LEASE_MAX_S = 3600

FIRST_LOOK_S = 5.0
"""The least that is left of a lease when this process first sees it: its worker could not renew while nobody listened."""

_LEASED = "SELECT * FROM tasks WHERE state = 'running' AND lease_until IS NOT NULL"


class Leases:
    """`grant` may be called from any thread, `lapsed` from one."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._ends: dict[tuple[str, str], float] = {}
        """(task, lease_until as recorded) → when it ends, by the monotonic clock."""

    def grant(self, task: str, until: str, lease_s: float) -> None:
        """It was recorded just now that the task is held until `until`, `lease_s` seconds from now."""
        self._ends[task, until] = self._monotonic() + lease_s

    def lapsed(self, conn: sqlite3.Connection) -> list[Task]:
        """The tasks whose lease has run out, as the state has them."""
        now = self._monotonic()
        seen: set[tuple[str, str]] = set()
        found: list[Task] = []
        for row in conn.execute(_LEASED).fetchall():
            lease = (row["id"], row["lease_until"])
            seen.add(lease)
            end = self._ends.get(lease)
            if end is None:
                left = min(max(_left(row["lease_until"], self._clock()), FIRST_LOOK_S), LEASE_MAX_S)
                end = self._ends[lease] = now + left
            if end <= now:
                found.append(Task.of(row))
        # A grant that the fold has not reached yet is not among the rows; it is forgotten when it is long over.
        for lease, end in list(self._ends.items()):
            if lease not in seen and end + LEASE_MAX_S < now:
                del self._ends[lease]
        return found


def _left(until: str, now: float) -> float:
    try:
        return seconds_of(until) - now
    except ValueError:  # no time that we wrote
        return 0.0


def check_lease(lease_s: float) -> None:
    """Raises UsageError for a lease that is too short or too long."""
    if not 1 <= lease_s <= LEASE_MAX_S:
        raise UsageError(f"a lease of {lease_s:g} s", hint=f"lease_s is between 1 and {LEASE_MAX_S}.")
