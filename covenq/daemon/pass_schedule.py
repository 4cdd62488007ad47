"""When the daemon makes passes over GitHub's delivery logs, and on what terms: what the reconciler asks, beside GitHub.

Passes beside a webhook are periodic, and find what never came. Where the log is all that deliveries come by, they follow it
(`covenq.daemon.log_ingress`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from typing import Protocol

from covenq.config.github_api import GithubApp, GithubHook, GithubLogs
from covenq.github.api_client import Usage
from covenq.model.log_ingress import FollowedLog
from covenq.model.status import ReconcilePass
from covenq.reconcile.log_pass import PassResult
from covenq.reconcile.log_state import LogState
from covenq.reconcile.logs import DeliveryLog


class PassSchedule(Protocol):
    """For the reconciler's thread; `status` may be called from any. Times are seconds since 1970, or of the monotonic clock."""

    follows: bool
    """Whether deliveries come by these passes alone."""

    def begin(self, logs: GithubLogs) -> None:
        """Passes are made over these from now on: at the start, and after a reload."""

    def close(self) -> None:
        """No more are made."""

    def require_alone(self, one: GithubApp | GithubHook) -> None:
        """Raises Refused where somebody else makes them over that log, and only one may."""

    def begun(self, one: GithubApp | GithubHook, state: LogState, now: float) -> LogState:
        """The state that a pass begins with, of the one that it would."""
        ...

    def grace_s(self, configured_s: float) -> float:
        """Seconds after an attempt in which a delivery may still be on its way."""
        ...

    def opened(
        self, one: GithubApp | GithubHook, open: Callable[[], DeliveryLog], monotonic: float
    ) -> AbstractContextManager[DeliveryLog]:
        """The log, for a pass. Raises what `open` does."""
        ...

    def passed(
        self,
        one: GithubApp | GithubHook,
        before: LogState,
        result: PassResult,
        usages: Mapping[str, Usage],
        now: float,
    ) -> None:
        """A pass over a log ended now, and found that; `usages` are those of all logs."""

    def wait_s(
        self, every_s: float, sooner_s: float, usages: Mapping[str, Usage], now: float, monotonic: float
    ) -> float:
        """Seconds until the next passes, after one over each log. After `sooner_s` something is to be done that a pass left."""
        ...

    def is_due(self, now: float) -> bool:
        """Whether the next are due by the clock, before they are by the monotonic one."""
        ...

    def status(self, one: GithubApp | GithubHook, last: ReconcilePass | None, now: float) -> FollowedLog | None:
        """How a log is followed, whose newest pass was that; None where it isn't."""
        ...


class PeriodicPasses:
    """`PassSchedule` beside a webhook: every so often, on the configuration's terms."""

    follows = False

    def begin(self, logs: GithubLogs) -> None:
        pass

    def close(self) -> None:
        pass

    def require_alone(self, one: GithubApp | GithubHook) -> None:
        pass

    def begun(self, one: GithubApp | GithubHook, state: LogState, now: float) -> LogState:
        return state

    def grace_s(self, configured_s: float) -> float:
        return configured_s

    def opened(
        self, one: GithubApp | GithubHook, open: Callable[[], DeliveryLog], monotonic: float
    ) -> AbstractContextManager[DeliveryLog]:
        return closing(open())

    def passed(
        self,
        one: GithubApp | GithubHook,
        before: LogState,
        result: PassResult,
        usages: Mapping[str, Usage],
        now: float,
    ) -> None:
        pass

    def wait_s(
        self, every_s: float, sooner_s: float, usages: Mapping[str, Usage], now: float, monotonic: float
    ) -> float:
        return min(every_s, sooner_s)

    def is_due(self, now: float) -> bool:
        return False

    def status(self, one: GithubApp | GithubHook, last: ReconcilePass | None, now: float) -> None:
        return None
