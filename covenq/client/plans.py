"""A plan of many, made and carried out in parts: no request takes long or much memory, and what is done is what was planned.

The command line and the dashboard ask, between the two, whether to go on.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from covenq.errors import UsageError
from covenq.operate.answers import PlanAnswer, Skipped

if TYPE_CHECKING:
    from covenq.client.interface import Source
    from covenq.operate.operations import Operation
    from covenq.operate.parameters import Selection

PLAN_MAX = 20_000
"""Ids, or rows that match, in one part of a plan: even with the longest ids a request stays below the API's limit for a body."""
BATCH = 500
"""Ids in one part that is carried out: some hundred kilobytes at most, and one step of a progress bar."""

S = TypeVar("S", bound="Selection")
A = TypeVar("A", bound=PlanAnswer)


def parts_of_plan(source: Source, operation: Operation[S, A], wanted: S) -> Iterator[A]:
    """The plan of what has the ids, or matches the filter, in parts; nothing is done. Of a filter the newest come first.

    Raises what the operation does.
    """
    plan = replace(wanted, dry_run=True)
    if wanted.filter is None:
        for start in range(0, max(len(wanted.ids), 1), PLAN_MAX):
            yield source.act(operation, replace(plan, ids=wanted.ids[start : start + PLAN_MAX]))
        return
    try:
        part = source.act(operation, replace(plan, limit=PLAN_MAX))
    except UsageError:  # a daemon of an older version plans all at once; what else is wrong it says again
        part = source.act(operation, plan)
    yield part
    while part.next is not None:
        part = source.act(operation, replace(plan, limit=PLAN_MAX, after=part.next))
        yield part


class Planned:
    """A plan that is put together from its parts: the ids of what is eligible, oldest first, and the summary.

    What is skipped is in it by id where that is asked for (`keep_skipped`), for it may be as many again.
    """

    def __init__(self, *, by_filter: bool, keep_skipped: bool) -> None:
        self._by_filter = by_filter
        self._keep_skipped = keep_skipped
        self._parts: list[list[str]] = []
        self.answer = PlanAnswer([], [], [])
        self.looked_at = 0

    def add(self, part: PlanAnswer) -> None:
        from covenq.operate.act.plan_summary import merged

        first = not self._parts
        self._parts.append(part.eligible)
        self.looked_at += len(part.eligible) + len(part.skipped)
        self.answer.summary = part.summary if first else merged(self.answer.summary, part.summary)
        if self._keep_skipped or part.summary is None:
            # A million answers say the same few things.
            self.answer.skipped += [Skipped(one.id, sys.intern(one.reason)) for one in part.skipped]

    def whole(self) -> PlanAnswer:
        """All of it: to be called once."""
        parts = reversed(self._parts) if self._by_filter else iter(self._parts)
        for part in parts:
            self.answer.eligible += part
        return self.answer

    def skipped_whole(self) -> Counter[str]:
        """How many of it are not done, not even in part, by reason."""
        summary = self.answer.summary
        if summary is not None:
            return Counter({one.reason: one.count for one in summary.skipped})
        among = {id for part in self._parts for id in part}
        return Counter(one.reason for one in self.answer.skipped if one.id not in among)


def parts_done(source: Source, operation: Operation[S, A], wanted: S, ids: Sequence[str]) -> Iterator[tuple[A, int]]:
    """Carry out a plan: what each part's answer is, and how many of the ids it has come to. Raises what the operation does."""
    for start in range(0, len(ids), BATCH):
        part = replace(wanted, ids=list(ids[start : start + BATCH]), filter=None)
        yield source.act(operation, part), min(start + BATCH, len(ids))
