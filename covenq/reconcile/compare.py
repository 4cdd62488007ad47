"""The comparison of a delivery log with what is held: attempts grouped by their delivery, page by page.

Of what is held nothing is kept but counts, and of what was redelivered which attempt it came by, so memory goes with what is
missing or was sent again, and not with the log's length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from msgspec import Struct

from covenq.config.reconcile import GRACE_S
from covenq.errors import FilterError
from covenq.filter.tree import Filter
from covenq.github.delivery_log import Attempt, LogPage
from covenq.model import DeliveryId, at_text


class Came(NamedTuple):
    """How a delivery that is held came: its source, when it was received, in seconds since 1970, and its record's seq."""

    source: str | None
    at: float
    seq: int = 0

    @property
    def fetched(self) -> bool:
        return self.source == "import"

    @property
    def by_webhook(self) -> bool:
        return self.source == "http"


Held = Callable[[Sequence[str]], Mapping[DeliveryId, Came]]
"""Which deliveries with these GUIDs, of whatever hook, the journal has any record of, and how each came."""

Way = Literal["held", "redelivered", "fetched"]
"""How a delivery came: by GitHub's first attempt, by another one, or out of its log."""

AbsentState = Literal["missing", "before_us", "on_its_way", "erased", "not_wanted"]
"""`missing`: to be fetched. `before_us`: sent before covenq was there. `erased`: of what was erased here, and never fetched.
`not_wanted`: no route can match it, and only what one may match is to be fetched.
"""

OVER_S = 60.0
"""Seconds after its begin by which an attempt is over: GitHub waits 10, and its clock may be 50 from this one's."""
LISTED_FIELDS = frozenset({"id", "guid", "hook", "event", "action", "installation", "repo_id", "age"})
"""What a filter can ask of an attempt: the list has no repository's name, label or sender."""


class Absent(Struct, frozen=True):
    """A delivery that GitHub lists and the journal doesn't hold."""

    hook: str | None
    guid: str
    event: str
    action: str | None
    installation: int | None
    repo_id: int | None
    first_at: float
    """When GitHub first tried to deliver it, in seconds since 1970."""
    last_at: float
    attempts: int
    attempt: str
    """The id of the newest attempt."""
    status_code: int
    """What became of that, as GitHub lists it; 0: nothing answered."""
    sent_at: float | None = None
    """The attempt that GitHub lists as no redelivery, if it was seen."""
    accepted: bool = False
    """Whether GitHub lists any of its attempts as accepted."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How absent deliveries are sorted out. Times are seconds since 1970."""

    now: float
    baseline: float | None
    """What was first sent before it is `before_us`; None: nothing is."""
    is_erased: Callable[[Absent], bool]
    grace_s: float = GRACE_S
    is_wanted: Callable[[Absent], bool] = lambda one: True
    """Whether it is worth a request."""


class Comparison:
    """One log, compared while it is walked through."""

    def __init__(
        self, hook: str | None, held: Held, since: float, filter: Filter, now: float, grace_s: float = GRACE_S
    ) -> None:
        """Attempts before `since`, or that `filter` doesn't match, are passed over. Raises FilterError: see `require_listed`."""
        require_listed(filter)
        self.newest: Attempt | None = None
        """The newest attempt that isn't of the last `grace_s` seconds."""
        self.newest_at: float | None = None
        """The time of the newest attempt that is listed at all, in seconds since 1970."""
        self.hook = hook
        self.listed = 0
        """Attempts that were compared."""
        self.held = 0
        """Those of them whose delivery is held."""
        self.unreadable = 0
        self.came: Counter[tuple[int, Way]] = Counter()
        """Deliveries that are held, by the minute (since 1970) of their first attempt, and how each came."""
        self.accepted: Attempt | None = None
        """The newest attempt that GitHub lists as accepted, whether it was asked for or not."""
        self.accepted_first: Attempt | None = None
        """The newest such one that is no redelivery."""
        self._held = held
        self.since = since
        self._filter = filter
        self._now = now
        self._until = now - grace_s
        self._absent: dict[str, Absent] = {}
        self._again: dict[str, float] = {}
        """Of what is held, by its GUID: the seconds between when it came and its nearest redelivery, until its first is seen."""

    def restart(self) -> None:
        """Drop what was compared: the walk begins again."""
        self.listed = self.held = self.unreadable = 0
        self.newest = self.accepted = self.accepted_first = None
        self.came.clear()
        self._again.clear()
        self._absent.clear()

    def add(self, page: LogPage) -> None:
        """Compare a page."""
        self.unreadable += page.unreadable
        for one in page.attempts:  # whatever is asked for: these tell who takes what is sent
            self.newest_at = one.at if self.newest_at is None else max(self.newest_at, one.at)
            if one.accepted:
                self.accepted = _newer(self.accepted, one)
                if not one.redelivery:
                    self.accepted_first = _newer(self.accepted_first, one)
        wanted = [one for one in page.attempts if one.at >= self.since and self._matches(one)]
        self.listed += len(wanted)
        guids = list(dict.fromkeys(one.guid for one in wanted))
        # Without the hook's id nothing is known to be held.
        found = self._held(guids) if guids and self.hook is not None else dict[DeliveryId, Came]()
        for one in wanted:
            if one.at <= self._until and (self.newest is None or one.order > self.newest.order):
                self.newest = one
            came = None if self.hook is None else found.get(DeliveryId(self.hook, one.guid))
            if came is not None:
                self.held += 1
                self._count(one, came)
            else:
                self._absent[one.guid] = _with(self._absent.get(one.guid), one, self.hook)

    def sorted_out(self, policy: Policy) -> Iterator[tuple[Absent, AbsentState]]:
        """The deliveries that are not held, by the time of their first attempt, and how each stands."""
        for one in sorted(self._absent.values(), key=lambda one: (one.first_at, int(one.attempt))):
            yield one, _state_of(one, policy)

    def _count(self, one: Attempt, came: Came) -> None:
        """Count it at its first attempt. It came by that attempt which is nearest to when it was received.

        Attempts may be listed late: one that failed did not bring what was received long after it.
        """
        apart = abs(came.at - one.at)
        if one.redelivery:
            if not came.fetched:
                self._again[one.guid] = min(apart, self._again.get(one.guid, apart))
            return
        again = self._again.pop(one.guid, None)
        too_late = not one.accepted and came.at > one.at + OVER_S
        other = too_late if again is None else again < apart
        way: Way = "fetched" if came.fetched else "redelivered" if other else "held"
        self.came[int(one.at // 60), way] += 1

    def _matches(self, one: Attempt) -> bool:
        if not self._filter.node.nodes:
            return True
        fields = {
            "id": [one.guid, f"{self.hook}/{one.guid}"],
            "guid": one.guid,
            "hook": self.hook,
            "event": one.event,
            "action": one.action,
            "installation": one.installation,
            "repo_id": one.repo_id,
            "at": at_text(one.at),
        }
        return self._filter.matches(fields, now=self._now)


def require_listed(filter: Filter) -> None:
    """Raises FilterError for a filter that asks what GitHub's list doesn't say."""
    others = sorted(filter.fields() - LISTED_FIELDS)
    if others:
        raise FilterError(
            f"GitHub's list of deliveries says nothing of {', '.join(others)}",
            column=1,
            hint=f"It has {', '.join(sorted(LISTED_FIELDS))}; a repository is its number, repo_id.",
        )


def _newer(before: Attempt | None, one: Attempt) -> Attempt:
    return one if before is None or one.order > before.order else before


def _with(before: Absent | None, one: Attempt, hook: str | None) -> Absent:
    first = min(one.at, before.first_at) if before is not None else one.at
    attempts = 1 if before is None else before.attempts + 1
    sent = (None if before is None else before.sent_at) if one.redelivery else one.at
    accepted = one.accepted or (before is not None and before.accepted)
    if before is not None and (before.last_at, int(before.attempt)) > one.order:
        return Absent(
            hook, before.guid, before.event, before.action, before.installation, before.repo_id, first, before.last_at,
            attempts, before.attempt, before.status_code, sent, accepted,
        )  # fmt: skip
    return Absent(
        hook, one.guid, one.event, one.action, one.installation, one.repo_id, first, one.at, attempts, one.id,
        one.status_code, sent, accepted,
    )  # fmt: skip


def _state_of(one: Absent, policy: Policy) -> AbsentState:
    if one.last_at > policy.now - policy.grace_s:
        return "on_its_way"
    if policy.is_erased(one):
        return "erased"
    if policy.baseline is not None and one.first_at < policy.baseline:
        return "before_us"
    return "missing" if policy.is_wanted(one) else "not_wanted"
