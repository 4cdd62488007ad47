"""What operators do to what is stored: replay deliveries, requeue tasks.

Each is a plan (what would be done, what would not, and why) and its application. A plan writes nothing. Applying it
appends against the records that were read, so what moved meanwhile is skipped, and nothing is done twice.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from covenq import query
from covenq.config import Config
from covenq.errors import NotDurable, UsageError
from covenq.filter import Filter
from covenq.model import REQUEUEABLE, DeliveryId, JsonObject, Kind, State, parse_id, task_subject
from covenq.routing import route
from journal.errors import JournalFull, JournalWriteFailed
from journal.model import Appended, Conflict, Entry, Journal

AT_ONCE = 64
"""Items that share one append, and so one sync. On a Conflict each of them is tried alone."""

TEXT_MAX = 500
"""Characters kept of a reason, and of a name."""

MOVED = "it moved while this was being done"
"""Why something planned was not done."""

_PAGE = 1000
_TRIES = 5
_NOTES = (Kind.REPEATED, Kind.CONFLICTED)
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to do: `entries` go in together or not at all, and concern `tasks`."""

    id: str
    entries: tuple[Entry, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing that is not done, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, oldest first, and what would not.

    `make` forms an item's entries when its turn comes, from the rows as they are then: a plan over a million things
    holds only their ids.
    """

    eligible: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    make: Callable[[str], Item | Skipped]

    def answer(self) -> JsonObject:
        """{"eligible": [id…], "skipped": [{"id", "reason"}…], "done": []}: what a dry run says."""
        return {
            "eligible": list(self.eligible),
            "skipped": [{"id": one.id, "reason": one.reason} for one in self.skipped],
            "done": [],
        }


def plan_replay(
    journal: Journal,
    conn: sqlite3.Connection,
    config: Config,
    *,
    ids: Sequence[str] = (),
    filter: Filter | None = None,
    force: bool = False,
    reason: str | None = None,
    by: str | None = None,
) -> Plan:
    """New tasks for deliveries, by today's routes; `ids` (GUID or hook/GUID) or a `filter` say which.

    Skipped are those with a task that waits or runs, those that completed unless `force`, and those that no route
    wants. `conn` must have folded all that its user has seen. Raises UsageError, NotFound, Ambiguous.
    """
    payload_of = _payload_of(journal)

    def item(row: JsonObject) -> Item | Skipped:
        return _replay_item(row, config, payload_of, force=force, reason=clean_text(reason), by=clean_text(by))

    def by_id(id: str) -> JsonObject:
        return query.delivery(conn, *parse_id(id))

    def page(wanted: Filter, after: str | None) -> query.Page:
        return query.deliveries(conn, wanted, _PAGE, after, payload_of=payload_of)

    return _plan(ids, filter, by_id, page, item)


def plan_requeue(
    journal: Journal,
    conn: sqlite3.Connection,
    *,
    ids: Sequence[str] = (),
    filter: Filter | None = None,
    reason: str | None = None,
    by: str | None = None,
) -> Plan:
    """Failed, cancelled and superseded tasks once more, under their frozen policy; `ids` are task ids.

    Everything else is skipped. `conn` and what is raised: as for `plan_replay`.
    """

    def item(row: JsonObject) -> Item | Skipped:
        gone = _gone_of_task(conn, row) if row["state"] in REQUEUEABLE else None
        if gone is not None:
            return Skipped(row["id"], gone)
        return _requeue_item(row, reason=clean_text(reason), by=clean_text(by))

    def by_id(id: str) -> JsonObject:
        return query.task(conn, id)

    def page(wanted: Filter, after: str | None) -> query.Page:
        return query.tasks(conn, wanted, _PAGE, after, payload_of=_payload_of(journal))

    return _plan(ids, filter, by_id, page, item)


def apply(plan: Plan, journal: Journal) -> JsonObject:
    """Do what was planned: the plan's answer, with "done": [{"id", "tasks": [id…], "seq"}…].

    Everything in `done` is durable. When the disk fills up in the middle, the rest is in `skipped`, so a second call
    does just that; raises NotDurable if nothing could be done at all, and what else the journal raises.
    """
    answer = plan.answer()
    done: list[JsonObject] = answer["done"]
    skipped: list[JsonObject] = answer["skipped"]
    for start in range(0, len(plan.eligible), AT_ONCE):
        made = [plan.make(id) for id in plan.eligible[start : start + AT_ONCE]]
        skipped += [{"id": one.id, "reason": one.reason} for one in made if isinstance(one, Skipped)]
        items = [one for one in made if isinstance(one, Item)]
        try:
            for item, seq in _append_all(journal, items):
                if seq is None:
                    skipped.append({"id": item.id, "reason": MOVED})
                else:
                    done.append({"id": item.id, "tasks": list(item.tasks), "seq": seq})
        except (JournalFull, JournalWriteFailed) as error:
            if not done:
                raise NotDurable(f"nothing was done: {error}", hint=error.hint) from error
            told = {one["id"] for one in (*done, *skipped)}
            skipped += [{"id": id, "reason": str(error)} for id in plan.eligible if id not in told]
            break
    return answer


def replay(
    journal: Journal, conn: sqlite3.Connection, config: Config, *, dry_run: bool = False, **which: Any
) -> JsonObject:
    """`plan_replay` with `which`, and, unless `dry_run`, `apply`."""
    plan = plan_replay(journal, conn, config, **which)
    return plan.answer() if dry_run else apply(plan, journal)


def requeue(journal: Journal, conn: sqlite3.Connection, *, dry_run: bool = False, **which: Any) -> JsonObject:
    """`plan_requeue` with `which`, and, unless `dry_run`, `apply`."""
    plan = plan_requeue(journal, conn, **which)
    return plan.answer() if dry_run else apply(plan, journal)


# ---- planning


def _plan(
    ids: Sequence[str],
    filter: Filter | None,
    by_id: Callable[[str], JsonObject],
    page: Callable[[Filter, str | None], query.Page],
    item: Callable[[JsonObject], Item | Skipped],
) -> Plan:
    if bool(ids) == (filter is not None):
        raise UsageError("say which: ids, or a filter", hint="An empty filter is everything.")
    rows = (by_id(id) for id in ids) if filter is None else _matching(filter, page)
    eligible: dict[str, None] = {}  # in order, and each once, whatever the ids were
    skipped: dict[str, str] = {}
    for row in rows:
        one = item(row)
        if isinstance(one, Item):
            eligible[one.id] = None
        else:
            skipped[one.id] = one.reason
    # Filters list the newest first; work is made in the order in which it came.
    order = list(eligible) if filter is None else list(reversed(eligible))
    return Plan(tuple(order), tuple(Skipped(id, reason) for id, reason in skipped.items()), lambda id: item(by_id(id)))


def _matching(filter: Filter, page: Callable[[Filter, str | None], query.Page]) -> Iterator[JsonObject]:
    after: str | None = None
    while True:
        found = page(filter, after)
        yield from found.items
        after = found.next
        if after is None:
            return


def _replay_item(
    row: JsonObject,
    config: Config,
    payload_of: query.PayloadOf,
    *,
    force: bool,
    reason: str | None,
    by: str | None,
) -> Item | Skipped:
    delivery = DeliveryId(row["hook"], row["guid"])
    id = str(delivery)
    state = row["state"]
    if state in (State.QUEUED, State.RUNNING):
        return Skipped(id, f"it is {state}: its task is still to come to an end")
    gone = _gone(row)
    if gone is not None:
        return Skipped(id, gone)
    if state == State.COMPLETED and not force:
        return Skipped(id, "it has completed; --force replays it all the same")
    number = int(row["replays"]) + 1
    decision = route(
        config.routes,
        config.sha256,
        delivery,
        row,
        lambda: query.decode(payload_of(row["seq"])),
        delivery_seq=row["seq"],
        replay=number,
    )
    if decision.state is not State.QUEUED:
        return Skipped(id, decision.problem or f"no route wants it today ({decision.reason})")
    note = {"replay": number, "tasks": list(decision.tasks), "by": by, "reason": reason}
    # Against the delivery's newest record, so two replays at once can't both take this number; and the tasks' ids,
    # derived from it, are new.
    replayed = Entry(delivery.subject, Kind.REPLAYED, note, expect=row["last_seq"])
    return Item(id, (replayed, *decision.entries), decision.tasks)


def _requeue_item(row: JsonObject, *, reason: str | None, by: str | None) -> Item | Skipped:
    id: str = row["id"]
    if row["state"] not in REQUEUEABLE:
        hint = "; `covenq replay` makes a new task" if row["state"] == State.COMPLETED else ""
        return Skipped(id, f"it is {row['state']}{hint}")
    entry = Entry(task_subject(id), Kind.REQUEUED, {"by": by, "reason": reason}, expect=row["last_seq"])
    return Item(id, (entry,), (id,))


def _gone(row: JsonObject | sqlite3.Row) -> str | None:
    """Why the delivery has nothing left to make a task of; None if it has."""
    if row["redacted"]:
        return f"its content was erased, by record {row['redacted']}"
    if row["payload_dropped"]:
        return f"its payload was dropped, by record {row['payload_dropped']}: it is no longer kept"
    return None


def _gone_of_task(conn: sqlite3.Connection, task: JsonObject) -> str | None:
    found = conn.execute(
        "SELECT payload_dropped, redacted FROM webhook_deliveries WHERE seq = ?", (task["delivery_seq"],)
    ).fetchone()
    return None if found is None else _gone(found)


def _payload_of(journal: Journal) -> query.PayloadOf:
    def payload_of(seq: int) -> bytes | None:
        record = journal.get(seq)
        return None if record is None else record.payload

    return payload_of


def clean_text(text: str | None) -> str | None:
    """A reason or a name as a record may hold it: one line, bounded."""
    return None if text is None else _NOT_TEXT.sub(" ", text)[:TEXT_MAX]


# ---- applying


def _append_all(journal: Journal, items: Sequence[Item]) -> Iterator[tuple[Item, int | None]]:
    """Append them in one go, or, if one of them can't be, one by one: each with its first seq, None where refused."""
    if not items:
        return
    answer = _append(journal, [entry for item in items for entry in item.entries])
    if isinstance(answer, Conflict):
        for item in items:
            yield item, _append_alone(journal, item)
        return
    at = 0
    for item in items:
        yield item, answer.seqs[at]
        at += len(item.entries)


def _append_alone(journal: Journal, item: Item) -> int | None:
    """Its first seq, or None where it is refused. A note that the delivery was sent again is nothing to refuse it for.

    The first entry may follow such notes because the others stand in for it: a replay of the same number would have
    made the same tasks.
    """
    first, *others = item.entries
    for _ in range(_TRIES):
        answer = _append(journal, [first, *others])
        if isinstance(answer, Appended):
            return answer.seqs[0]
        newest = journal.last(first.subject)
        if newest is None or newest.kind not in _NOTES or newest.seq == first.expect:
            return None
        first = replace(first, expect=newest.seq)
    return None


def _append(journal: Journal, entries: Sequence[Entry]) -> Appended | Conflict:
    """Append, and again while no answer comes. On Conflict the newest record is looked at: it may be these entries'."""
    unanswered = False
    for _ in range(_TRIES):
        answer = journal.append(entries)
        if isinstance(answer, Appended):
            return answer
        if isinstance(answer, Conflict):
            if unanswered:
                newest = [journal.last(entry.subject) for entry in entries]
                found = [
                    n.seq for n, e in zip(newest, entries, strict=True) if n and (n.kind, n.data) == (e.kind, e.data)
                ]
                if len(found) == len(entries):
                    return Appended(tuple(found))
            return answer
        unanswered = True
    raise NotDurable("the journal gives no answer; it may or may not have been done")
