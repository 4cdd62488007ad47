"""The difference between two sets of routes, or between one and what was decided, for the same deliveries.

Values in, counts out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import asdict

from covenq.config.route import Route
from covenq.filter.grammar import delivery_fields
from covenq.filter.tree import Fields
from covenq.model import seconds_of
from covenq.model.rows import Delivery
from covenq.routing.decide import PING
from covenq.routing.trigger import Facts, triggers

EXAMPLES = 5
"""Deliveries named for each kind of change: the first ones."""


class PayloadLost(Exception):
    """A filter looks into a payload that is no longer kept. Raised by the caller's `payload`; no person sees it."""


class DiffExample(msgspec.Struct, frozen=True):
    """A delivery at which two sets of routes differ."""

    id: str
    event: str | None
    action: str | None
    repo: str | None
    number: int | None


class DiffReport(msgspec.Struct, frozen=True):
    """The difference between two sets of routes, in numbers of deliveries, and of tasks by route."""

    deliveries: int
    same: int
    changed: int
    untold: int
    """That can't be compared, because a rule looks into content that is gone."""
    newly_ignored: int
    newly_taken: int
    gained: dict[str, int]
    """Tasks that the new rules would make and the old do not."""
    lost: dict[str, int]
    fails: dict[str, int]
    """Deliveries at which a new rule fails: they would stay `received`."""
    policies: list[str]
    """Routes whose way of running changes."""
    examples: dict[str, list[DiffExample]]
    """The first deliveries of each change: "+ route", "- route", "! route"."""
    against: str
    """`rules`, or `decisions`: what the new rules were held against."""


ERASED = frozenset({"repo", "owner", "sender", "number", "sha", "ref", "label", "words"})
"""The fields of a delivery that an erasure takes; all others stay, and rules that ask for those alone can be told."""


class _Erased(Mapping[str, object]):
    """The fields of a delivery whose content was erased: those that went raise PayloadLost, for null would be another answer."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> object:
        if name in ERASED:
            raise PayloadLost
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass(slots=True)
class Diff:
    """Counts the differences. Deliveries are added one by one; only counts and a few examples are kept."""

    old: Sequence[Route] | None
    """None: what was decided when each delivery was routed."""
    new: Sequence[Route]
    looked_at: int = 0
    same: int = 0
    untold: int = 0
    """Deliveries that can't be compared, because a rule looks into content that is gone."""
    newly_ignored: int = 0
    newly_taken: int = 0
    gained: Counter[str] = field(default_factory=Counter)
    """Tasks that the new rules would make and the old do not, by route."""
    lost: Counter[str] = field(default_factory=Counter)
    fails: Counter[str] = field(default_factory=Counter)
    """Deliveries at which a new rule fails, by route: they would stay `received`."""
    examples: dict[str, list[DiffExample]] = field(default_factory=dict)

    def add(self, row: Delivery, payload: Callable[[], object], decided: Callable[[], set[str]] = set) -> None:
        """Add a delivery object.

        `payload` returns its decoded body, or raises PayloadLost; it is called if a rule needs it. `decided` returns the routes
        of its tasks; it is called if there are no old routes.
        """
        self.looked_at += 1
        if row.event == PING:
            self.same += 1
            return
        fields = delivery_fields(asdict(row), payload=payload)
        if row.redacted is not None:
            fields = _Erased(fields)
        now = seconds_of(row.received_at)
        if self.old is None:
            before, told_before = decided(), True  # what its tasks are of stays, whatever is erased
        else:
            before, _, told_before = _matching(self.old, fields, now)
        after, failing, told_after = _matching(self.new, fields, now)
        if not (told_before and told_after):
            self.untold += 1
            return
        for name in failing:
            self.fails[name] += 1
            self._example(f"! {name}", row)
        if before == after and not failing:
            self.same += 1
            return
        for name in after - before:
            self.gained[name] += 1
            self._example(f"+ {name}", row)
        for name in before - after:
            self.lost[name] += 1
            self._example(f"- {name}", row)
        self.newly_ignored += bool(before) and not after and not failing
        self.newly_taken += bool(after) and not before

    def report(self) -> DiffReport:
        old = {route.name: route for route in self.old or ()}
        return DiffReport(
            deliveries=self.looked_at,
            same=self.same,
            changed=self.looked_at - self.same - self.untold,
            untold=self.untold,
            newly_ignored=self.newly_ignored,
            newly_taken=self.newly_taken,
            gained=dict(self.gained),
            lost=dict(self.lost),
            fails=dict(self.fails),
            policies=[
                route.name for route in self.new if route.name in old and _settings(old[route.name]) != _settings(route)
            ],
            examples=self.examples,
            against="decisions" if self.old is None else "rules",
        )

    def _example(self, change: str, row: Delivery) -> None:
        found = self.examples.setdefault(change, [])
        if len(found) < EXAMPLES:
            found.append(DiffExample(f"{row.hook}/{row.guid}", row.event, row.action, row.repo, row.number))


def _settings(route: Route) -> tuple[object, ...]:
    """What a route says beside what it matches."""
    return route.policy, route.key, route.max_age_s


def _matching(routes: Sequence[Route], fields: Fields, now: float) -> tuple[set[str], list[str], bool]:
    """The routes that match; those that fail; and False if that needs a payload that is gone.

    As in routing, one rule that fails takes the delivery from all of them.
    """
    matched: set[str] = set()
    failing: list[str] = []
    facts = Facts(fields)
    for route in routes:
        try:
            if route.filter.matches(fields, now=now) and (route.trigger is None or triggers(route.trigger, facts)):
                matched.add(route.name)
        except PayloadLost:
            return set(), [], False
        except Exception:  # noqa: BLE001 - as in routing: whatever a rule raises
            failing.append(route.name)
    return (set() if failing else matched), failing, True
