"""A task that a worker holds by a lease, and until when.

The lease ends at the daemon, which counts from when it grants one. The worker counts from when it asked, which is never too long,
by CLOCK_BOOTTIME; a claim may wait for a task a quarter of its lease at most (`claim_wait`), so that most is left to the work.
"""

from __future__ import annotations

from collections.abc import Callable

from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.held_lease import HeldLease, times_before
from covenq.tasks.execution.lease_guard import now as boottime
from covenq.tasks.execution.lease_renewal import RENEWED_AFTER
from covenq.tasks.remote.client import ClaimGrant

CLAIM_WAIT_S = 20.0
"""The longest that a claim waits at the daemon for a task."""


def claim_wait(lease_s: float) -> float:
    """How long a claim under such a lease waits for a task."""
    return min(CLAIM_WAIT_S, lease_s / 4)


class LeasedTask:
    """`lost` is set when the worker holds it no longer; `lease` is what its command runs under. Methods from any thread."""

    def __init__(
        self,
        grant: ClaimGrant,
        lease_s: float,
        grace_s: float,
        asked_at: float,
        clock: Callable[[], float] = boottime,
    ) -> None:
        """The claim was asked for at `asked_at`, by `clock`. Raises OSError where there are no descriptors left."""
        self.grant = grant
        self.lost = StopEvent()
        self.reported = False
        """Whether the daemon has heard how it ended."""
        self._lease_s, self._grace_s = lease_s, grace_s
        self._clock = clock
        self._asked_at = asked_at
        self.lease = HeldLease(times_before(asked_at + lease_s, lease_s, grace_s), self.lost.set, clock)

    @property
    def renewal_due_at(self) -> float:
        return self._asked_at + self._lease_s / RENEWED_AFTER

    def extend(self, asked_at: float) -> None:
        """A renewal that was asked for at `asked_at` was granted. One that comes when the command is being ended is too late."""
        if self.lease.extend(times_before(asked_at + self._lease_s, self._lease_s, self._grace_s)):
            self._asked_at = asked_at
        else:
            self.lease.lose(max(0.0, self.lease.times.kill_at - self._clock()))

    @property
    def expired(self) -> bool:
        """Whether the lease itself is over. Its command has been ended before."""
        return self._clock() >= self._asked_at + self._lease_s
