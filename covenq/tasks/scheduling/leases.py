"""Leases: when the claims of pull workers run out, and those of pools where another machine may take the journal over.

A lease runs by the monotonic clock. The wall clock's time in the record is used only to start one that this process did not grant
itself, when it first sees it; after that, setting the clock ends no lease early and prevents none from expiring.

`covenq.tasks.scheduling.interruption` decides what becomes of a task whose lease ran out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from covenq.errors import UsageError
from covenq.model import at_text, seconds_or
from covenq.tasks.scheduling.outcome import Task

LEASE_MAX_S = 3600
"""The longest lease that can be asked for."""

INHERITED_LEASE_MIN_S = 5.0
"""The least that remains of a lease that another process granted: its worker could not renew while no daemon listened."""

_LEASED = "SELECT * FROM tasks WHERE state = 'running' AND lease_until IS NOT NULL"


class Leases:
    """`grant` may be called from any thread, `expired` from one."""

    def __init__(
        self,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        journal_clock: Callable[[], float] | None = None,
    ) -> None:
        """`journal_clock` is that of `journal.interface.Leasing`: by it, too, a lease has to be over.

        So it is also what says, in the record, until when one lasts: whichever node looks at it then.
        """
        self._clock = clock
        self._monotonic = monotonic
        self._journal_clock = journal_clock
        self._ends: dict[tuple[str, str], float] = {}
        """(task, lease_until as recorded) → when it ends, by the monotonic clock."""

    def until(self, lease_s: float) -> str:
        """When a lease ends that is recorded now, or a little later. Raises as the journal's clock."""
        clock = self._clock if self._journal_clock is None else self._journal_clock
        return at_text(clock() + lease_s)

    def grant(self, task: str, until: str, lease_s: float) -> None:
        """A lease until `until`, `lease_s` seconds from now, was recorded just now: of a claim or of a renewal."""
        self._ends[task, until] = self._monotonic() + lease_s

    def expired(self, conn: sqlite3.Connection) -> list[Task]:
        """The tasks whose lease has run out, by the rows of the state. Raises as the journal's clock."""
        now = self._monotonic()
        seen: set[tuple[str, str]] = set()
        found: list[sqlite3.Row] = []
        for row in conn.execute(_LEASED).fetchall():
            lease = (row["id"], row["lease_until"])
            seen.add(lease)
            end = self._ends.get(lease)
            if end is None:
                remaining = min(
                    max(seconds_or(row["lease_until"], 0.0) - self._clock(), INHERITED_LEASE_MIN_S), LEASE_MAX_S
                )
                end = self._ends[lease] = now + remaining
            if end <= now:
                found.append(row)
        # A grant that the fold has not reached yet is not among the rows: it is forgotten only when it is long over.
        for lease, end in list(self._ends.items()):
            if lease not in seen and end + LEASE_MAX_S < now:
                del self._ends[lease]
        if found and self._journal_clock is not None:
            at = self._journal_clock()
            found = [row for row in found if seconds_or(row["lease_until"], 0.0) <= at]
        return [Task.from_row(row) for row in found]


def check_lease(lease_s: float) -> None:
    """Raises UsageError for a lease that is too short or too long."""
    if not 1 <= lease_s <= LEASE_MAX_S:
        raise UsageError(f"a lease of {lease_s:g} s", hint=f"lease_s is between 1 and {LEASE_MAX_S}.")
