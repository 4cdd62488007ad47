"""The daemon's look at the settings of its webhooks on GitHub: after its first pass, after a reload, and every hour.

It is made on the thread of the passes, after one, and asks what `covenq doctor` asks, within the same half of what GitHub
leaves. What GitHub doesn't tell is logged once and shown, and never a reason to be unready: of that webhook there stays what was
found before.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace

from covenq.config.live import Live, Snapshot
from covenq.errors import CovenqError
from covenq.github.api_client import Usage
from covenq.model import at_text
from covenq.model.drift import Drift, DriftFinding
from covenq.operate.maintain.drift import drift_of, not_subscribed
from covenq.operate.maintain.github_look import GithubSeen, WebhookSeen, look
from journal.errors import JournalError

EVERY_S = 3600.0
AGAIN_S = 600.0
"""Seconds after which it is looked again, where something drifted or could not be had: a correction is soon seen."""

log = logging.getLogger("covenq.reconcile")


class DriftWatch:
    """What is found, and when it is looked next. `found` may be read from any thread, all else is for one."""

    def __init__(
        self,
        live: Live,
        env: Mapping[str, str],
        usages: dict[str, Usage],
        before: Callable[[], None],
        arrived: Callable[[str], bool],
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`usages` and `before` are as `look` takes them; `arrived` says whether an event has come lately."""
        self.found: Drift | None = None
        self._live = live
        self._env = env
        self._usages = usages
        self._before = before
        self._arrived = arrived
        self._clock = clock
        self._monotonic = monotonic
        self._made_for: object = None
        self._next = 0.0
        self._kept: dict[str, WebhookSeen] = {}
        """By the webhook's name, what it told when all could be asked last."""
        self._ranges: list[str] = []
        self._told: set[str] = set()
        self._failing = False

    def look_if_due(self) -> None:
        """Ask GitHub, if it is time to. Raises what `before` does."""
        now = self._live.now
        wanted = _depends_on(now)
        if not now.config.github_logs.all:
            self.found, self._made_for = None, wanted
            return
        if wanted == self._made_for and self._monotonic() < self._next:
            return
        self._made_for, self._next = wanted, self._monotonic() + AGAIN_S
        try:
            found = self._looked(now)
        except (CovenqError, JournalError, OSError, sqlite3.Error) as error:
            self._before()  # what a daemon that stops closes is no error
            hint = error.hint if isinstance(error, CovenqError) else "Look at the daemon's log."
            found = self._partial(str(error), hint)
        if found.error is None and not found.warnings:
            self._next = self._monotonic() + EVERY_S
        self._tell(found)
        self.found = found

    def _looked(self, now: Snapshot) -> Drift:
        config = now.config
        seen = look(
            config.github_logs, self._env, self._clock, self._monotonic, usages=self._usages, before=self._before
        )
        self._ranges = seen.ranges or self._ranges
        whole = self._whole(seen)
        missing = not_subscribed(whole, config.routes)
        findings = drift_of(whole, config, {event for event in missing if self._arrived(event)})
        if not seen.troubles:
            at = at_text(self._clock())
            return Drift(at, findings, finished_at=at, sent_from=self._ranges)
        return self._partial(*seen.troubles[0], findings)

    def _whole(self, seen: GithubSeen) -> GithubSeen:
        """What was told just now, and of a webhook that didn't tell all what it told before, if that is the same one."""
        for one in seen.webhooks:
            if one.error is None:
                self._kept[one.owner.name] = one
        known = [
            one if one.error is None or before is None or before.owner != one.owner else before
            for one in seen.webhooks
            for before in [self._kept.get(one.owner.name)]
        ]
        self._kept = {one.owner.name: one for one in known if one.error is None}
        return replace(seen, webhooks=known)

    def _partial(self, error: str, hint: str | None, findings: list[DriftFinding] | None = None) -> Drift:
        """`findings` None: those of before."""
        before = self.found
        if findings is None:
            findings = [] if before is None else before.findings
        finished_at = None if before is None else before.finished_at
        return Drift(at_text(self._clock()), findings, error, hint, finished_at, self._ranges)

    def _tell(self, found: Drift) -> None:
        """Log what drifted, and that GitHub doesn't tell, once each until it is over."""
        words = {one.words for one in found.warnings}
        for one in found.warnings:
            if one.words not in self._told:
                log.warning("%s", one.words)
        self._told = words
        if found.error is not None and not self._failing:
            log.error("%s", found.error)
        elif found.error is None and self._failing:
            log.info("the webhooks' settings on GitHub can be looked at again")
        self._failing = found.error is not None


def _depends_on(now: Snapshot) -> object:
    """What of the configuration findings follow from: the routes' filters, the address, the webhooks, and the secrets."""
    config = now.config
    filters = tuple(route.filter for route in config.routes)
    return config.github_logs, filters, config.public_url, config.webhook_path, now.keys
