"""The comparison of one log: it is walked through once, and compared with what is held."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from covenq.config.reconcile import GRACE_S, OVERLAP_S
from covenq.filter.tree import Filter
from covenq.github.delivery_log import LogPage
from covenq.model import DeliveryId
from covenq.reconcile.compare import Came, Comparison
from covenq.reconcile.identity import Headers, hook_of_details, hook_of_held
from covenq.reconcile.logs import DeliveryLog
from covenq.reconcile.walk import pages_since


class Holdings(Protocol):
    """What the journal holds."""

    def held(self, guids: Sequence[str]) -> Mapping[DeliveryId, Came]:
        """The deliveries with these GUIDs, of whatever hook, of which there is any record, and how each came."""

    def headers(self, delivery: DeliveryId) -> Headers:
        """The headers that a delivery came with; none where they are not kept."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at: attempts since a time, in seconds since 1970, that a filter matches. `now` is when that is done.

    The walk goes back by `overlap_s` more, and what is younger than `grace_s` may still be on its way.
    """

    since: float
    filter: Filter
    now: float
    overlap_s: float = OVERLAP_S
    grace_s: float = GRACE_S


def compare_log(
    log: DeliveryLog, hook: str | None, holdings: Holdings, scope: Scope, restarted: Callable[[], None]
) -> Comparison:
    """Walk through the log back to `scope.since`, and compare. `restarted` is told when the walk has to begin again.

    `hook` is the id of the log's hook, None if it has still to be learnt.

    Raises what `pages_since` and the log's methods do: a walk that didn't reach its end says nothing of what is missing.
    """
    comparison = Comparison(hook, holdings.held, scope.since, scope.filter, scope.now, scope.grace_s)

    def restart() -> None:
        comparison.restart()
        restarted()

    asked = False
    for page in pages_since(log.page, scope.since - scope.overlap_s, restart):
        if comparison.hook is None and not asked and any(one.at >= scope.since for one in page.attempts):
            # Once: a hook that is learnt later would leave what was compared before as not held.
            comparison.hook, asked = _learn_hook(log, page, holdings), True
        comparison.add(page)
    return comparison


def _learn_hook(log: DeliveryLog, page: LogPage, holdings: Holdings) -> str | None:
    guids = list(dict.fromkeys(one.guid for one in page.attempts))
    if log.app_id is not None:
        held = (holdings.headers(one) for one in sorted(holdings.held(guids)))
        hook = hook_of_held(held, log.app_id)
        if hook is not None:
            return hook
    return hook_of_details(page.attempts, log.headers)
