"""Planned operations: a plan (what would be done, what would not, and why) and its application.

A plan writes nothing. Applying it appends with optimistic concurrency, against the records that were read: what changed
meanwhile is skipped, and nothing is done twice. `covenq.operate.act.actions` and `covenq.operate.maintain.redaction` say
what is planned, and what is appended for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from covenq.errors import NotDurable, UsageError
from covenq.filter.grammar import Filter
from covenq.model.rows import Page
from covenq.operate.act.plan_summary import Part, Tally, WaitReasons
from covenq.operate.answers import Done, PlanAnswer, PlanSummary, Skipped
from covenq.operate.parameters import Selection
from covenq.state import query
from covenq.text import one_line
from journal.append import append_known
from journal.errors import JournalError, JournalUnanswered, may_pass
from journal.interface import Journal, Reading
from journal.records import Appended, Conflict, Entry

BATCH = 64
"""Items that share one append, and so one sync. On a Conflict each of them is tried alone."""

TEXT_MAX = 500
"""Characters kept of a reason, and of the name of an operator."""

CHANGED = "it moved while this was being done"
"""The reason for skipping a planned item whose subject got another record meanwhile."""

PAGE = 1000
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to do: `entries` go in together or not at all, and concern `tasks`.

    `ignored_kinds` are kinds of records that may have been appended to the first entry's subject meanwhile without being a
    conflict. `excluded` are reasons why parts of it are left out, and `parts` what a summary counts of it.
    """

    id: str
    entries: tuple[Entry, ...]
    tasks: tuple[str, ...]
    ignored_kinds: Collection[str] = ()
    excluded: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


R = TypeVar("R")
ById = Callable[[str], R]
"""The row with an id. Raises NotFound, Ambiguous, UsageError."""
Paged = Callable[[Filter, str | None], Page[R]]
"""A page of the rows that match, from a cursor on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, oldest first, and what would not; `excluded` are the parts left out of what would.

    `make` builds an item's entries when its turn comes, from the rows as they are then: a plan over a million items
    holds only their ids. `next` is the cursor of the part that follows, where it was made in parts.
    """

    eligible: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    make: Callable[[str], Item | Skipped]
    excluded: tuple[Skipped, ...] = ()
    summary: PlanSummary | None = None
    next: str | None = None

    def answer(self) -> PlanAnswer:
        """A dry run's answer: nothing is done. An id that is both eligible and skipped is done in part."""
        return PlanAnswer(list(self.eligible), [*self.skipped, *self.excluded], [], self.summary, self.next)


def plan(
    wanted: Selection,
    filter: Filter | None,
    by_id: ById[R],
    page: Paged[R],
    item: Callable[[R], Item | Skipped],
    waits: WaitReasons | None = None,
) -> Plan:
    """Plan `item` of each row that the ids or the filter of `wanted` select, one of the two. `filter` is that one, parsed.

    `waits` tells what would wait. Raises UsageError, and what `by_id` raises.
    """
    if bool(wanted.ids) == (filter is not None):
        raise UsageError("say which: ids, or a filter", hint="An empty filter is everything.")
    found = (
        Matching(filter, page, wanted.limit, wanted.after)
        if filter is not None
        else (by_id(id) for id in dict.fromkeys(wanted.ids))
    )
    eligible: dict[str, tuple[str, ...]] = {}  # in order, and each once even if it was named in two ways
    skipped: dict[str, str] = {}
    tally = Tally(waits)
    for row in found:
        one = item(row)
        if one.id in eligible or one.id in skipped:
            continue
        if isinstance(one, Item):
            eligible[one.id] = one.excluded
            tally.add(one.parts, one.excluded)
        else:
            skipped[one.id] = one.reason
            tally.skip(one.reason)
    # Filters list the newest first; tasks are made in the order in which their deliveries arrived.
    order = list(eligible) if filter is None else list(reversed(eligible))
    return Plan(
        tuple(order),
        tuple(Skipped(id, reason) for id, reason in skipped.items()),
        lambda id: item(by_id(id)),
        tuple(Skipped(id, reason) for id in order for reason in eligible[id]),
        tally.summary(),
        found.next if isinstance(found, Matching) else None,
    )


class Matching(Generic[R]):
    """The rows that match, newest first, with one page of them in memory at a time: once, all or about `limit` of them.

    `next` is the cursor of what is left after the last that was given; None where it was the last.
    """

    def __init__(self, filter: Filter, page: Paged[R], limit: int = 0, after: str | None = None) -> None:
        self._filter = filter
        self._page = page
        self._limit = limit
        self.next = after

    def __iter__(self) -> Iterator[R]:
        given = 0
        while True:
            found = self._page(self._filter, self.next)
            yield from found.items
            self.next = found.next
            given += len(found.items)
            if self.next is None or (self._limit and given >= self._limit):
                return


def apply(plan: Plan, journal: Journal) -> PlanAnswer:
    """Carry out the plan: its answer, with what was done.

    Everything in `done` is durable. When the disk fills up in the middle, the rest is in `skipped`, so a second call
    does just that. Raises as `skip_rest`.
    """
    answer = replace(plan, excluded=(), summary=None).answer()  # other parts may be excluded by now
    done, skipped = answer.done, answer.skipped
    for start in range(0, len(plan.eligible), BATCH):
        made = [plan.make(id) for id in plan.eligible[start : start + BATCH]]
        skipped += [one for one in made if isinstance(one, Skipped)]
        items = [one for one in made if isinstance(one, Item)]
        try:
            for item, seq in append_all(journal, items):
                if seq is None:
                    skipped.append(Skipped(item.id, CHANGED))
                else:
                    done.append(Done(item.id, list(item.tasks), seq))
                    skipped += [Skipped(item.id, reason) for reason in item.excluded]
        except JournalError as error:
            skip_rest(plan, answer, error, "done")
            break
    return answer


def skip_rest(plan: Plan, answer: PlanAnswer, error: JournalError, done: str) -> None:
    """Put what the journal's error left undone under `skipped`, with the error as the reason, where something is done.

    An operator keeps the answer with what is durable then, and a second call does the rest. Raises the error itself where the
    same call can't succeed later, and where nothing is done but what wasn't answered may be; else NotDurable: nothing was `done`.
    """
    if not may_pass(error) or (not answer.done and isinstance(error, JournalUnanswered)):
        raise error
    if not answer.done:
        raise NotDurable(f"nothing was {done}: {error}", hint=error.hint) from error
    told = {one.id for one in answer.done} | {one.id for one in answer.skipped}
    answer.skipped += [Skipped(id, str(error)) for id in plan.eligible if id not in told]


def payloads(journal: Reading) -> query.PayloadOf:
    """How filters on payload fields read a payload: by its delivery's seq."""

    def payload_of(seq: int) -> bytes | None:
        record = journal.get(seq)
        return None if record is None else record.payload

    return payload_of


def clean_text(text: str | None) -> str | None:
    """A reason or a name as a record may hold it: one line, bounded."""
    return None if text is None else one_line(text, TEXT_MAX)


def append_all(journal: Journal, items: Sequence[Item]) -> Iterator[tuple[Item, int | None]]:
    """Append them in one go, or, on a conflict, one by one: each with its first seq, None where it was refused."""
    if not items:
        return
    answer = append_known(journal, [entry for item in items for entry in item.entries])
    if isinstance(answer, Conflict):
        for item in items:
            yield item, _append_alone(journal, item)
        return
    at = 0
    for item in items:
        yield item, answer.seqs[at]
        at += len(item.entries)


def _append_alone(journal: Journal, item: Item) -> int | None:
    """Append one item: its first seq, or None where it is refused. Records of its `ignored_kinds` are no reason to.

    The first entry may follow such records because the item's other entries still conflict where they must: a replay of
    the same number would have made the same tasks.
    """
    first, *others = item.entries
    for _ in range(_TRIES):
        answer = append_known(journal, [first, *others])
        if isinstance(answer, Appended):
            return answer.seqs[0]
        newest = journal.last(first.subject)
        if newest is None or newest.kind not in item.ignored_kinds or newest.seq == first.expect:
            return None
        first = first._replace(expect=newest.seq)
    return None
