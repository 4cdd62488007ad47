"""A lease that this process holds on a task: until when work goes on under it, and the guard that sees to it (`lease_guard`).

Every command gets SIGTERM, its grace, and SIGKILL, all before its lease ends. The times are this machine's CLOCK_BOOTTIME;
`lease_renewal` says how that relates to the journal's clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from covenq.tasks.execution.guard_line import GuardLine, Times
from covenq.tasks.execution.lease_guard import now as boottime

MARGIN_S = 1.0
"""Seconds before a lease's end by which everything of a command is killed. At most an eighth of the lease."""


def times_before(ends: float, lease_s: float, grace_s: float) -> Times:
    """When the work under a lease is ended that ends at `ends`. At least five eighths of it are left to the work."""
    kill_at = ends - min(MARGIN_S, lease_s / 8)
    return Times(kill_at - min(grace_s, lease_s / 4), kill_at)


class HeldLease:
    """The lease of one claim. Methods may be called from any thread.

    `lost` is called once, with the seconds of grace, when it is over or the claim is somebody else's.
    """

    def __init__(self, times: Times, lost: Callable[[float], None], clock: Callable[[], float] = boottime) -> None:
        self._times = times
        self._lost = lost
        self._clock = clock
        self._lock = threading.Lock()
        self._over = False
        self._guard: GuardLine | None = None

    @property
    def times(self) -> Times:
        return self._times

    @property
    def over(self) -> bool:
        """Whether nothing may be done under it any more. Once it is over, it is never extended."""
        return self._over

    def extend(self, times: Times) -> bool:
        """It was renewed. False if that comes too late: what is done under it is being ended."""
        with self._lock:
            if self._over or self._clock() >= self._times.term_at:
                return False
            self._times = times
            if self._guard is not None:
                self._guard.send(times)
        return True

    def check(self) -> bool:
        """Whether it goes on. Where there is a guard, that one has the first word: here it is over when all should have ended."""
        with self._lock:
            guarded, (term_at, kill_at) = self._guard is not None, self._times
            past = self._clock() >= (kill_at if guarded else term_at)
        if past:
            self.lose(0.0 if guarded else kill_at - term_at)
        return not self._over

    def lose(self, grace_s: float) -> None:
        """It is over, or the task is somebody else's."""
        with self._lock:
            known, self._over = self._over, True
        if not known:
            self._lost(grace_s)

    def guard(self, line: GuardLine) -> None:
        """A command was started with these times, or earlier ones of this lease."""
        with self._lock:
            self._guard = line
            line.send(self._times)

    def unguard(self) -> None:
        """Its command has ended."""
        with self._lock:
            self._guard = None
