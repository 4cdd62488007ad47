"""Following GitHub's delivery logs, where deliveries come by nothing else ([github] ingress = "log"): when to look, and who does.

The looks themselves are the reconciler's passes. Here is what makes them an ingress: their interval, the lock by which one covenq
of a user takes from a log, and what is to be told of a log that isn't followed as it should be. Nothing is ever posted to GitHub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from covenq.config.github_api import GithubApp, GithubHook, GithubLogs, digest_of, keeps_s
from covenq.daemon.log_lock import LogLocks
from covenq.daemon.log_looks import LogLooks
from covenq.errors import GithubLimited, Refused
from covenq.github.api_client import Usage
from covenq.model import at_text
from covenq.model.log_ingress import FollowedLog
from covenq.model.status import ReconcilePass
from covenq.reconcile.log_pass import PassResult
from covenq.reconcile.log_state import LogState
from covenq.reconcile.logs import DeliveryLog
from covenq.reconcile.other_requests import OtherRequests
from covenq.reconcile.poll_interval import PollInterval, next_wait_s
from covenq.reconcile.result import UNSETTLED

AHEAD_S = 300.0
"""Seconds by which GitHub's clock may be ahead of this one for what it lists to be taken at once: nothing is on its way else."""
REOPEN_S = 300.0
"""Seconds for which a log is kept open, so that its key is read anew."""
LOCK_RETRY_S = 5.0
"""Seconds after which a log that another covenq has is tried for again."""

log = logging.getLogger("covenq.reconcile")


class LogIngress:
    """`covenq.daemon.pass_schedule.PassSchedule` of logs that are followed."""

    follows = True

    def __init__(self, data: Path, locks: Path | None) -> None:
        """`locks` is the directory of the locks, if there is a place for one."""
        self._locks = LogLocks(locks, data)
        self._looks = LogLooks(data)
        self._interval = PollInterval()
        self._found = False
        self._open: dict[str, tuple[GithubApp | GithubHook, float, DeliveryLog]] = {}
        """Logs that are kept open, and since when, by the monotonic clock."""
        self._costs: dict[str, int] = {}
        self._limited_until: float | None = None
        self._others: dict[str, OtherRequests] = {}
        self._credentials: dict[str, object] = {}
        """By the log's name, what is the same for all that share a limit of GitHub's."""
        self._owners: dict[str, str] = {}
        self._met: set[str] = set()
        """Logs that another one was seen to follow, and that were not begun since."""
        self._next_at: float | None = None

    def begin(self, logs: GithubLogs) -> None:
        """Follow these from now on: at the start, and after a reload."""
        self._locks.keep({digest_of(one) for one in logs.all})
        self._interval, self._limited_until = PollInterval(), None
        self._credentials = {one.name: one.limited_as for one in logs.all}
        self._owners.clear()
        self._costs.clear()
        self._close_logs(set(self._open))

    def close(self) -> None:
        """End, and let another covenq follow them."""
        self._close_logs(set(self._open))
        self._locks.keep(())

    def _close_logs(self, names: Collection[str]) -> None:
        for name in names:
            kept = self._open.pop(name, None)
            if kept is not None:
                kept[2].close()

    def begun(self, one: GithubApp | GithubHook, state: LogState, now: float) -> LogState:
        """The state to begin with. What was sent while another covenq of this user followed the log, that one has done."""
        if one.name not in self._met:
            return state
        self._met.discard(one.name)
        log.warning(
            "%s: another covenq followed it: what GitHub sent since %s, and this one has not, is left to that one",
            one.name,
            at_text(state.baseline if state.mark is None else state.mark.at),
        )
        return replace(state, baseline=now, mark=None)

    def require_alone(self, one: GithubApp | GithubHook) -> None:
        """Raises Refused where another covenq of this user follows that log."""
        owner = self._locks.take(digest_of(one), one.name)
        if owner is None:
            self._owners.pop(one.name, None)
            return
        self._owners[one.name] = owner
        if not self._locks.is_ending(digest_of(one)):  # what the one before this had left, is this one's
            self._met.add(one.name)
        raise Refused(
            f"another covenq follows this log: {owner}; nothing is taken here until it ends",
            hint="Two would run every task twice. Stop one of them, or give one an App of its own.",
        )

    @contextmanager
    def opened(
        self, one: GithubApp | GithubHook, open: Callable[[], DeliveryLog], monotonic: float
    ) -> Iterator[DeliveryLog]:
        """The log, for a pass: opened, or kept open since a pass before.

        A key is read and a connection made once for many passes. It is opened anew after an error, and in any case now and then:
        a key, or a token, may have been replaced. Raises what `open` does.
        """
        kept = self._open.pop(one.name, None)
        if kept is not None and (kept[0] != one or not 0.0 <= monotonic - kept[1] < REOPEN_S):
            kept[2].close()
            kept = None
        since, found = (monotonic, open()) if kept is None else kept[1:]
        found.begin()
        try:
            yield found
        except BaseException:
            found.close()
            raise
        self._open[one.name] = one, since, found

    def passed(
        self,
        one: GithubApp | GithubHook,
        before: LogState,
        result: PassResult,
        usages: Mapping[str, Usage],
        now: float,
    ) -> None:
        """Take what a pass over a log found, that ended now, in seconds since 1970; `usages` are those of all logs."""
        fetched = any(row.state in ("fetched", "waiting") for row in result.rows)
        self._found = self._found or fetched or result.state.mark != before.mark
        self._costs[one.name] = max(1, result.lists)
        asked = sum(usages[name].requests for name in self._sharing(one.name) if name in usages)
        self._others.setdefault(one.name, OtherRequests()).note(usages[one.name], asked, now)
        if result.troubles:
            self._close_logs({one.name})
        limits = [error.until for error in result.troubles if isinstance(error, GithubLimited)]
        self._limited_until = max((one for one in [self._limited_until, *limits] if one is not None), default=None)
        if result.summary.error is None:
            settled = before.baseline if before.mark is None else max(before.baseline, before.mark.at)
            gap = self._looks.looked(digest_of(one), now, settled, keeps_s(one.api_url))
            if gap is not None:
                log.error(
                    "%s: what GitHub sent from %s to %s, if it sent anything, it has forgotten, and nobody had looked",
                    one.name,
                    gap.since,
                    gap.until,
                )

    def grace_s(self, configured_s: float) -> float:
        """None: nothing comes on another way. GitHub's clock may be ahead of this one."""
        return -AHEAD_S

    def wait_s(
        self, every_s: float, sooner_s: float, usages: Mapping[str, Usage], now: float, monotonic: float
    ) -> float:
        """`every_s` at the longest. What a pass left waits until then: looks alone must not end the budget."""
        self._interval = self._interval.after(found=self._found, now=monotonic, longest_s=every_s)
        self._found = False
        left = [
            (usages[name], sum(self._costs.get(other, 0) for other in self._sharing(name)))
            for name in self._costs
            if name in usages
        ]
        wait = next_wait_s(self._interval, left, now, self._limited_until)
        self._limited_until = None
        if self._credentials and self._credentials.keys() <= self._owners.keys():  # nothing is asked of GitHub then
            wait = min(wait, LOCK_RETRY_S)
        self._next_at = now + wait
        return wait

    def _sharing(self, name: str) -> list[str]:
        """The logs that are asked with the same credentials, that one among them."""
        return [other for other, one in self._credentials.items() if one == self._credentials.get(name)]

    def is_due(self, now: float) -> bool:
        """Whether it is time by the clock, too: the monotonic one may stand still while a machine sleeps."""
        return self._next_at is not None and now >= self._next_at

    def status(self, one: GithubApp | GithubHook, last: ReconcilePass | None, now: float) -> FollowedLog:
        """How a log is followed, whose newest pass was that."""
        behind = 0 if last is None else sum(last.states.get(state, 0) for state in UNSETTLED)
        others = self._others.get(one.name)
        return FollowedLog(
            None if self._next_at is None else at_text(self._next_at),
            behind,
            self._owners.get(one.name),
            0 if others is None else others.steady(now),
            self._looks.gap(digest_of(one), now),
        )
